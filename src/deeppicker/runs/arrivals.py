"""Which micrographs of a data collection are complete, although they arrive while one looks. No torch."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import NamedTuple

from watchfiles import watch

from deeppicker.core import MicrographEntry
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.formats import find_micrographs
from deeppicker.formats.images.read import ends_in_zeros, is_whole
from deeppicker.formats.text import one_line

_PATIENCE = 10  # times the settling time after which a file that does not look complete is taken as it is


class _State(NamedTuple):
    size: int
    changed: int  # modification time in ns
    since: float  # clock time at which the file was first seen like this


@dataclass
class Arrivals:
    """Follows the files that some inputs name, and tells each that is complete once.

    A file is complete if nobody has written to it for a while, it is as long as its header says, and it does not end in
    zeros, as one does that has got its room but not yet its pixels. A file that stays otherwise ten times as long is
    taken as it is, since motion correction may leave rows of zeros. A notice of a new file only makes one look earlier:
    the folders are listed each time and now and then, since network file systems give no notices. A file that changes
    after it was told is told again.

    Parameters
    ----------
    inputs : sequence of str
        As those of `find_micrographs`; what they name need not exist yet.
    settle : float
        Seconds for which a file must stay as it is.
    say : callable
        Is told what people should know of a file.
    """

    inputs: Sequence[str]
    settle: float
    say: Callable[[str], None] = lambda _text: None
    _states: dict[Path, _State] = field(default_factory=dict)
    _told: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def ready(self, now: float) -> list[MicrographEntry]:
        """Return the micrographs that are complete now, at a clock time in seconds, and were not when last asked."""
        present = {entry.path: entry for entry in self._listed()}
        self._states = {path: state for path, state in self._states.items() if path in present}
        complete = []
        for path, entry in present.items():
            try:
                status = path.stat()
            except OSError:
                continue  # it was renamed or removed just now
            size, changed = status.st_size, status.st_mtime_ns
            before = self._states.get(path)
            if before is None or (before.size, before.changed) != (size, changed):
                before = self._states[path] = _State(size, changed, now)
            still = now - before.since
            if still < self.settle or self._told.get(path) == (size, changed):
                continue
            if self._is_complete(path, still):
                self._told[path] = (size, changed)
                complete.append(entry)
        return complete

    def _is_complete(self, path: Path, still: float) -> bool:
        patient = still >= _PATIENCE * self.settle
        if not is_whole(path):
            return patient
        empty = ends_in_zeros(path)
        if empty and patient:
            self.say(
                one_line(
                    f"{path} ends in zeros but has not changed for {still:.0f} s, so it is taken as it is; "
                    "if it changes, it is picked again"
                )
            )
        return patient or not empty

    @property
    def waiting(self) -> int:
        """The number of files that are there but not complete."""
        return sum(self._told.get(path) != (state.size, state.changed) for path, state in self._states.items())

    def changes(self, interval: float, stop: Event) -> Iterator[None]:
        """Yield whenever something may have changed, and at least every ``interval`` seconds, until ``stop`` is set."""
        while not stop.is_set():
            folders = [folder for folder in map(_folder_of, self.inputs) if folder.is_dir()]
            if not folders:
                yield
                stop.wait(interval)
                continue
            milliseconds = max(1, round(1000 * interval))
            options = {"rust_timeout": milliseconds, "yield_on_timeout": True, "recursive": False, "debounce": 200}
            for _ in watch(*folders, stop_event=stop, **options):  # type: ignore[arg-type]
                yield
                if any(not folder.is_dir() for folder in folders):
                    break  # look for them anew

    def _listed(self) -> list[MicrographEntry]:
        entries = {}
        for text in self.inputs:
            try:
                found = find_micrographs([text])
            except InputError:
                continue  # nothing is there yet
            except DeepPickerError:
                continue  # such as a STAR file that is being written
            entries.update({os.path.realpath(entry.path): entry for entry in found})
        return list(entries.values())


def _folder_of(text: str) -> Path:
    """Return the folder in which what an input names lies or will lie."""
    if glob.has_magic(text):
        parts = Path(text).parts
        return Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
    path = Path(text)
    return path.parent if path.suffix else path
