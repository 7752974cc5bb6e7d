"""How far a step is: a bar on a terminal, elsewhere a line now and then, for logs."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

_EVERY = 10.0  # seconds between two lines


class Steps:
    """Shows how many items of a step are done, until it is closed.

    Parameters
    ----------
    what : str
        The step.
    total : int or None
        Number of items, if it is known.
    more : columns
        For the bar.
    shown : bool
        False to show nothing; lines go to the log all the same.
    """

    def __init__(self, what: str, total: int | None, *more: ProgressColumn, shown: bool = True) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *more, TimeRemainingColumn())
        self._what, self._total, self._shown = what, total, shown
        self._terminal = console.is_terminal
        self._bar = Progress(*columns, console=console, disable=not (shown and self._terminal), transient=True)
        self._task = self._bar.add_task(what, total=total, picks=0)
        self._told = time.monotonic()
        self._bar.start()

    def at(self, done: int, **values: int) -> None:
        """Show that so many items are done; ``values`` are for columns of the bar."""
        self._bar.update(self._task, completed=done, **values)  # type: ignore[arg-type]
        if time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            line = f"{self._what}: {done:,}" + (f" of {self._total:,}" if self._total is not None else "")
            logging.getLogger("deeppicker").info(line)
            if self._shown and not self._terminal:
                print(f"deeppicker: {line}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._bar.stop()


@contextmanager
def steps(what: str, total: int | None) -> Iterator[Steps]:
    """Return what shows a step while it goes on."""
    shown = Steps(what, total)
    try:
        yield shown
    finally:
        shown.close()


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, showing on stderr how many are done and how long the rest will take.

    ``total`` is needed where the items have no length.
    """
    with steps(what, total if total is not None or not isinstance(items, Sized) else len(items)) as shown:
        for done, item in enumerate(items):
            shown.at(done)
            yield item
