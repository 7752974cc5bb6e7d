"""The scores of all candidates of a project: how many become picks at a threshold, and how many of them are right."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from deeppicker.errors import DeepPickerError
from deeppicker.formats.images import raster
from deeppicker.formats.recorded import JUNK, file_of
from deeppicker.gui.project import Project

_BINS = 50
ORDERS = ("doubtful", "best", "below", "defocus")


@dataclass(frozen=True)
class Selection:
    """What a threshold selects.

    Parameters
    ----------
    counts : int array, (n,)
        Picks of each micrograph.
    picks, right, particles : float
        Of all: picks, how many are expected to be particles, and the expected number of particles.
    """

    counts: Int[np.ndarray, " n"]
    picks: int
    right: float
    particles: float

    @property
    def precision(self) -> float | None:
        """Expected precision."""
        return self.right / self.picks if self.picks else None

    @property
    def recall(self) -> float | None:
        """Expected recall."""
        return self.right / self.particles if self.particles else None


class Scores:
    """Reads the scores of all micrographs in the background, as often as they change."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._parts: list[Float[np.ndarray, " n"]] = []
        self._rows: list[object] = []
        self.doubt: list[float] = []  # expected number of candidates that a threshold of 0.5 gets wrong
        self.ice: list[float | None] = []  # part of a micrograph that is contaminated
        self.times: list[float | None] = []  # when a micrograph was written, in seconds
        self._flat: Float[np.ndarray, " n"] = np.zeros(0)
        self._ends: Int[np.ndarray, " n"] = np.zeros(0, dtype=np.int64)
        self._lock = threading.Lock()
        self.done = 0

    def read(self) -> None:
        """Read what is new since the last time. Is called again and again by one thread."""
        rows = list(self._project.rows)
        changed = False
        for index, row in enumerate(rows):
            if index < len(self._rows) and self._rows[index] is row:
                continue
            try:
                scores = self._project.automatic(index).scores
            except DeepPickerError:  # is shown where the micrograph is
                scores = np.zeros(0)
            scores = scores[np.isfinite(scores)]
            self._parts[index : index + 1] = [scores]
            self.doubt[index : index + 1] = [float(np.minimum(scores, 1 - scores).clip(0).sum())]
            self.ice[index : index + 1] = [self._ice(index)]
            self.times[index : index + 1] = [self._time(index)]
            self._rows[index : index + 1] = [row]
            self.done, changed = index + 1, True
        if changed:
            flat = np.concatenate([np.zeros(0), *self._parts])
            ends = np.cumsum([len(part) for part in self._parts])
            with self._lock:
                self._flat, self._ends = flat, ends

    def _ice(self, index: int) -> float | None:
        mask = file_of(self._project.folder, JUNK, self._project.entries[index].name)
        try:
            return float((raster.read(mask) > 0).mean()) if mask.is_file() else None
        except DeepPickerError:
            return None

    def _time(self, index: int) -> float | None:
        try:
            return self._project.entries[index].path.stat().st_mtime
        except OSError:
            return None

    def select(self, threshold: float) -> Selection:
        """Return what a threshold selects."""
        with self._lock:
            flat, ends = self._flat, self._ends
        chosen = flat >= threshold
        sums = np.concatenate([[0], np.cumsum(chosen)])[np.concatenate([[0], ends])]
        right, particles = float(flat[chosen].sum()), float(flat.sum())
        return Selection(np.diff(sums), int(chosen.sum()), right, particles)

    def ranked(self, order: str, threshold: float) -> Int[np.ndarray, "n 2"]:
        """Return micrograph and place of candidates, in one of `ORDERS`.

        ``doubtful`` begins just above a threshold, ``below`` just below it, ``best`` with the highest scores, and
        ``defocus`` with the lowest defocus, best first in each micrograph.
        """
        with self._lock:
            flat, ends = self._flat, self._ends
        chosen = np.flatnonzero(flat < threshold if order == "below" else flat >= threshold)
        index = np.searchsorted(ends, chosen, side="right")
        keys = [flat[chosen] if order == "doubtful" else -flat[chosen]]
        if order == "defocus":
            known = [np.inf if entry.defocus is None else entry.defocus for entry in self._project.entries]
            keys.append(np.array([*known, np.inf])[index])
        ranks = np.lexsort(keys)
        chosen, index = chosen[ranks], index[ranks]
        starts = np.concatenate([[0], ends])
        return np.stack([index, chosen - starts[index]], axis=1)

    def histogram(self) -> list[int]:
        """Return the numbers of candidates in equal ranges of the score from 0 to 1."""
        with self._lock:
            counts, _ = np.histogram(np.clip(self._flat, 0, 1), bins=_BINS, range=(0, 1))
        return [int(n) for n in counts]
