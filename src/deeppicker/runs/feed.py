"""The micrographs of a data collection in the order of arrival, until the end. No torch."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event

from deeppicker.config import ArrivalConfig
from deeppicker.core import MicrographEntry
from deeppicker.runs.arrivals import Arrivals
from deeppicker.runs.events import Listener, Message


class Feed:
    """Gives micrographs as they arrive, until told to stop or no more come.

    Parameters
    ----------
    inputs : sequence of str
        As those of `Arrivals`.
    config : ArrivalConfig
        How they are followed. The stop file is needed.
    stop : Event
        Ends it.
    listener : callable
        Is told what is waited for, and why it ends.
    """

    def __init__(self, inputs: Sequence[str], config: ArrivalConfig, stop: Event, listener: Listener) -> None:
        assert config.stop_file is not None
        self._arrivals = Arrivals(inputs, float(config.settle), self._say)
        self._interval = min(float(config.interval), float(config.settle))
        self._idle = math.inf if config.idle is None else 60 * float(config.idle)
        self._stop_file: Path = config.stop_file
        self._stop, self._listener = stop, listener
        self._backlog: deque[MicrographEntry] = deque()
        self._last = False  # told to stop before the first micrograph was begun: those that are there come still

    @property
    def waiting(self) -> int:
        """The number of micrographs that are there but not begun."""
        return len(self._backlog) + self._arrivals.waiting

    def first(self, needed: int) -> list[MicrographEntry]:
        """Wait for so many micrographs and return them; fewer if no more come, or if told to stop before."""
        said = 0
        for there in self._news():
            if there >= needed:
                break
            if there > said:
                said = there
                self._say(f"{there} of the {needed} micrographs for estimating the diameter have arrived")
        self._last = self._told_to_stop()
        if self._last and self._backlog:
            self._say(f"stopping after the {len(self._backlog)} micrographs that have arrived")
        return list(self._backlog)

    def batches(self, size: int) -> Iterator[list[MicrographEntry]]:
        """Yield micrographs in the order of arrival, so many at a time at most, until told to stop or no more come."""
        news = self._news()
        while self._last and self._backlog:
            batch = list(self._backlog)
            self._backlog.clear()
            yield batch
        while not self._told_to_stop() and (self._backlog or next(news, None) is not None):
            self._backlog.extend(self._arrivals.ready(time.monotonic()))
            if self._backlog:
                yield [self._backlog.popleft() for _ in range(min(size, len(self._backlog)))]

    def put_back(self, entries: Sequence[MicrographEntry]) -> None:
        """Give these once more, before all others."""
        self._backlog.extendleft(reversed(entries))

    def _news(self) -> Iterator[int]:
        """Take up what arrives; yield how many micrographs there are to be picked, again and again until the end."""
        latest = time.monotonic()
        for _ in self._arrivals.changes(self._interval, self._stop):
            if self._told_to_stop():
                return
            before = len(self._backlog)
            self._backlog.extend(self._arrivals.ready(time.monotonic()))
            now = time.monotonic()
            if len(self._backlog) > before:
                latest = now
            elif now - latest > self._idle:
                self._say(f"no new micrograph for {self._idle / 60:g} minutes; stopping")
                return
            yield len(self._backlog)

    def _told_to_stop(self) -> bool:
        if self._stop_file.exists():
            self._say(f"found {self._stop_file}; stopping")
            self._stop.set()
            with suppress(OSError):  # else the next run would end at once
                self._stop_file.unlink()
        return self._stop.is_set()

    def _say(self, text: str) -> None:
        self._listener(Message(text))
