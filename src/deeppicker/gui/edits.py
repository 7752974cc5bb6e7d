"""Manual picks and corrections: a log that only grows, and what it says of each micrograph.

Each line of ``edits.jsonl`` is one batch, written with one call and flushed to the disk before it is acknowledged. A
batch puts marks on a micrograph or drops them, by their names; so what two people do at once is merged mark by mark,
the later batch wins for the same mark, and a batch that is sent twice does no harm. Each line has a checksum. A line
that was torn by a crash, which was never acknowledged, or damaged later is passed over, and `EditLog.trouble` says so.

Marks hold positions, not numbers of picks, so they survive a new run.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from deeppicker.core import Picks
from deeppicker.errors import InputError, OutputError
from deeppicker.formats.atomic import sync
from deeppicker.formats.lock import locked
from deeppicker.formats.sealed import seal, unseal
from deeppicker.formats.text import one_line

EDITS = "edits.jsonl"
ADDED, REMOVED = "added", "removed"
REACH = 0.3  # diameters from a mark within which a pick is the marked one; as `deeppicker evaluate` matches
_MOST = 20_000  # edits of a batch
_FARTHEST = 1e6  # pixels
_NAME = re.compile(r"[\w-]{1,64}")


@dataclass
class Marks:
    """What was marked in a micrograph: names with positions (x, y), and whether all its particles are picked."""

    added: dict[str, tuple[float, float]] = field(default_factory=dict)
    removed: dict[str, tuple[float, float]] = field(default_factory=dict)
    complete: bool = False
    only: bool = False  # no automatic pick counts here: all were settled before these were made

    def apply(self, edit: Mapping[str, Any]) -> None:
        """Take up one edit."""
        match edit["op"]:
            case "complete":
                self.complete = edit["value"]
            case "only":
                self.only = edit["value"]
            case "put":
                self.drop(edit["name"])
                kind = self.added if edit["kind"] == ADDED else self.removed
                kind[edit["name"]] = (edit["x"], edit["y"])
            case "drop":
                self.drop(edit["name"])

    def drop(self, name: str) -> None:
        """Remove a mark if it is there."""
        self.added.pop(name, None)
        self.removed.pop(name, None)

    def positions(self, kind: str) -> Float[np.ndarray, "n 2"]:
        """Return the positions of all marks of a kind."""
        marks = self.added if kind == ADDED else self.removed
        return np.array(list(marks.values()), dtype=np.float64).reshape(-1, 2)

    def hides(self, picks: Picks, radius: float) -> Bool[np.ndarray, " n"]:
        """Return which picks lie within ``radius`` pixels of a mark: they are removed, or replaced by a manual one."""
        marks = np.concatenate([self.positions(ADDED), self.positions(REMOVED)])
        if self.only or len(marks) == 0 or len(picks) == 0:
            return np.full(len(picks), self.only)
        distance, _ = cKDTree(marks).query(picks.positions)
        return np.asarray(distance <= radius)


class EditLog:
    """The log of one folder. May be used by several threads, and the file by several processes.

    Parameters
    ----------
    path : Path
        The file; it appears with the first edit.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._changed: dict[str, int] = {}
        self._unread = ""
        self._begin()
        self.refresh()

    def _begin(self, replaced: str = "") -> None:
        """Forget all that was read; ``replaced`` says why."""
        self._marks: dict[str, Marks] = {}
        self._changed = dict.fromkeys(self._changed, 0)
        self._damaged: list[int] = []  # numbers of lines
        self._lines = 0
        self._rest = b""  # of a line that another process is writing, or that was torn
        self._torn = False
        self._replaced = replaced
        self._inode: int | None = None
        self.size = 0  # bytes that were taken up: the version of all marks
        self.diameter: float | None = None

    @property
    def trouble(self) -> str:
        """What corrections were lost, in one line; empty if none were."""
        damaged = [*self._damaged, self._lines + 1] if self._torn else self._damaged
        if self._unread or not damaged:
            return self._unread or self._replaced
        which = ", ".join(map(str, damaged[:5])) + (", …" if len(damaged) > 5 else "")
        lost = (
            f"{len(damaged)} of its {self._lines + self._torn:,} lines torn or damaged, and passed over (line {which})"
        )
        return one_line(f"{self._path}: {lost}; look whether corrections are missing")

    def of(self, key: str) -> Marks:
        """Return the marks of a micrograph."""
        return self._marks.get(key) or Marks()

    def marked(self) -> dict[str, Marks]:
        """Return all marks, by micrograph."""
        with self._lock:
            return dict(self._marks)

    def since(self, version: int) -> list[str]:
        """Return the micrographs that were edited since a version."""
        with self._lock:
            return [key for key, changed in self._changed.items() if changed > version or version > self.size]

    def refresh(self) -> None:
        """Take up what other processes wrote."""
        with self._lock:
            try:
                self._read()
                self._unread = ""
            except OSError as error:
                self._unread = one_line(f"{self._path} cannot be read: {error.strerror or error}")

    def append(self, key: str, edits: Sequence[Mapping[str, Any]], by: str) -> int:
        """Write a batch of edits of a micrograph to the disk, and return the version that holds it.

        Raises
        ------
        InputError
            If an edit makes no sense; then none is written.
        OutputError
            If it cannot be written.
        """
        checked = [_checked(edit) for edit in edits[: _MOST + 1]]
        if not 0 < len(checked) <= _MOST:
            raise InputError(f"{len(edits):,} edits in a batch; send 1 to {_MOST:,}")
        batch = {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "by": str(by)[:64], "micrograph": key, "edits": checked}
        try:
            with self._lock, locked(self._path.with_name(f".{self._path.name}.lock")):
                self._read()
                self._write(seal(batch, indent=None).encode())
                self._read()
                return self.size
        except OSError as error:
            raise OutputError(one_line(f"{self._path} cannot be written: {error.strerror or error}")) from error

    def _write(self, data: bytes) -> None:
        new = not self._path.exists()
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            end = os.lseek(handle, 0, os.SEEK_END)
            if end and os.pread(handle, 1, end - 1) != b"\n":  # a line was torn
                data = b"\n" + data
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            sync(self._path.parent)

    def _read(self) -> None:
        for line in self._new().splitlines(keepends=True):
            self.size += len(line)
            self._lines += 1
            try:
                batch = unseal(line)
                edits = [_checked(edit) for edit in batch["edits"]]
                key = str(batch["micrograph"])
            except (ValueError, TypeError, KeyError, InputError):
                if line.strip():
                    self._damaged.append(self._lines)
                continue
            for edit in edits:
                if edit["op"] == "diameter":
                    self.diameter = edit["value"]
                else:
                    self._marks.setdefault(key, Marks()).apply(edit)
            self._changed[key] = self.size

    def _new(self) -> bytes:
        """Return the complete lines that were not taken up yet; all if this is another file than before."""
        try:
            with self._path.open("rb") as file:
                state = os.fstat(file.fileno())
                if self._inode not in (None, state.st_ino) or state.st_size < self.size:
                    self._begin(
                        one_line(f"{self._path} was replaced by another file; look whether it is the right one")
                    )
                self._inode = state.st_ino
                file.seek(self.size)
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            if self.size:
                self._begin(one_line(f"{self._path} was removed, and with it all corrections"))
            return b""
        end = data.rfind(b"\n") + 1
        self._torn = data[end:] == self._rest != b""
        self._rest = data[end:]
        return data[:end]


def _checked(edit: Mapping[str, Any]) -> dict[str, Any]:
    """Return an edit without what does not belong to it."""
    match dict(edit):
        case {"op": "complete" | "only" as op, "value": bool(value)}:
            return {"op": op, "value": value}
        case {"op": "diameter", "value": float() | int() as value} if 1 <= value <= 1e5:
            return {"op": "diameter", "value": float(value)}
        case {"op": "drop", "name": str(name)} if _NAME.fullmatch(name):
            return {"op": "drop", "name": name}
        case {
            "op": "put",
            "name": str(name),
            "kind": "added" | "removed" as kind,
            "x": float() | int() as x,
            "y": float() | int() as y,
        } if _NAME.fullmatch(name) and all(math.isfinite(v) and abs(v) < _FARTHEST for v in (x, y)):
            return {"op": "put", "name": name, "kind": kind, "x": float(x), "y": float(y)}
    raise InputError("an edit puts or drops a mark by its name, sets complete to true or false, or the diameter in Å")
