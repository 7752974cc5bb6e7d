"""The scores of all candidates of a project: how many become picks at a threshold, and how many of them are right."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from deeppicker.config import SelectConfig
from deeppicker.errors import DeepPickerError
from deeppicker.formats.images import raster
from deeppicker.formats.recorded import JUNK, file_of
from deeppicker.gui.project import Project

_BINS = 50
_COMMON = (0.1, 99.9)  # percentiles between which the contrast is shown
ORDERS = ("doubtful", "best", "below", "defocus", "faint", "filtered")


@dataclass(frozen=True)
class Selection:
    """What a threshold selects.

    Parameters
    ----------
    counts : int array, (n,)
        Picks of each micrograph.
    picks, right, particles : float
        Of all: picks, how many are expected to be particles, and the expected number of particles.
    contrast : list of int
        How many of what reaches the threshold lie in equal ranges of the contrast.
    """

    counts: Int[np.ndarray, " n"]
    picks: int
    right: float
    particles: float
    contrast: list[int]

    @property
    def precision(self) -> float | None:
        """Expected precision."""
        return self.right / self.picks if self.picks else None

    @property
    def recall(self) -> float | None:
        """Expected recall."""
        return self.right / self.particles if self.particles else None


@dataclass(frozen=True)
class _All:
    """Scores and contrasts (NaN where not known) of all candidates, and how many there are up to each micrograph."""

    scores: Float[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(0))
    contrast: Float[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(0))
    ends: Int[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @cached_property
    def limits(self) -> tuple[float, float] | None:
        """Between which the contrast is shown; None where it is not known of every candidate."""
        if not len(self.contrast) or np.isnan(self.contrast).any():
            return None
        low, high = np.percentile(self.contrast, _COMMON)
        return math.floor(10 * low) / 10, max(math.ceil(10 * high), math.floor(10 * low) + 1) / 10

    @cached_property
    def bins(self) -> Int[np.ndarray, " n"]:
        """In which of the equal ranges between the limits each contrast lies."""
        low, high = self.limits or (0.0, 1.0)
        return np.asarray(np.clip(_BINS * (np.nan_to_num(self.contrast) - low) / (high - low), 0, _BINS - 1), np.int64)

    def reaching(self, select: SelectConfig) -> Bool[np.ndarray, " n"]:
        """Return which candidates reach the threshold; all without a score do."""
        return np.asarray(~(self.scores < (select.threshold or 0.0)))

    def passing(self, select: SelectConfig) -> Bool[np.ndarray, " n"]:
        """Return which candidates no filter keeps out."""
        passed = np.ones(len(self.scores), dtype=bool)
        if select.min_contrast is not None:
            passed &= self.contrast >= select.min_contrast
        if select.max_contrast is not None:
            passed &= self.contrast <= select.max_contrast
        return passed


class Scores:
    """Reads the scores of all micrographs in the background, as often as they change."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._parts: list[Float[np.ndarray, "n 2"]] = []
        self._rows: list[object] = []
        self.doubt: list[float] = []  # expected number of candidates that a threshold of 0.5 gets wrong
        self.ice: list[float | None] = []  # part of a micrograph that is contaminated
        self.times: list[float | None] = []  # when a micrograph was written, in seconds
        self._all = _All()  # is replaced as a whole, since several threads read it
        self.done = 0

    def read(self) -> None:
        """Read what is new since the last time. Is called again and again by one thread."""
        rows = list(self._project.rows)
        changed = False
        for index, row in enumerate(rows):
            if index < len(self._rows) and self._rows[index] is row:
                continue
            part = self._part(index)
            scores = part[np.isfinite(part[:, 0]), 0]
            self._parts[index : index + 1] = [part]
            self.doubt[index : index + 1] = [float(np.minimum(scores, 1 - scores).clip(0).sum())]
            self.ice[index : index + 1] = [self._ice(index)]
            self.times[index : index + 1] = [self._time(index)]
            self._rows[index : index + 1] = [row]
            self.done, changed = index + 1, True
        if changed:
            flat = np.concatenate([np.zeros((0, 2)), *self._parts]).T.copy()
            self._all = _All(flat[0], flat[1], np.cumsum([len(part) for part in self._parts]))

    def _part(self, index: int) -> Float[np.ndarray, "n 2"]:
        """Return score and contrast of each candidate of a micrograph."""
        try:
            found = self._project.automatic(index)
        except DeepPickerError:  # is shown where the micrograph is
            return np.zeros((0, 2))
        contrast = np.full(len(found), np.nan) if found.contrast is None else found.contrast
        return np.column_stack([found.scores, contrast])

    def _ice(self, index: int) -> float | None:
        row, name = self._project.rows[index], self._project.entries[index].name
        mask = file_of(self._project.folder, JUNK, name)
        try:
            nothing = None if row is None or row.error else 0.0
            return float((raster.read(mask) > 0).mean()) if mask.is_file() else nothing
        except DeepPickerError:
            return None

    def _time(self, index: int) -> float | None:
        try:
            return self._project.entries[index].path.stat().st_mtime
        except OSError:
            return None

    def select(self, select: SelectConfig) -> Selection:
        """Return what a selection, of which a threshold is known, keeps of all candidates."""
        all_ = self._all
        reaching = all_.reaching(select)
        chosen = reaching & all_.passing(select)
        sums = np.concatenate([[0], np.cumsum(chosen)])[np.concatenate([[0], all_.ends])]
        right, particles = float(np.nansum(all_.scores[chosen])), float(np.nansum(all_.scores))
        contrast = np.bincount(all_.bins[reaching], minlength=_BINS).tolist()
        return Selection(np.diff(sums), int(chosen.sum()), right, particles, contrast)

    def ranked(self, order: str, select: SelectConfig) -> Int[np.ndarray, "n 2"]:
        """Return micrograph and place of candidates, in one of `ORDERS`.

        ``doubtful`` begins just above a threshold, ``below`` just below it, ``best`` with the highest scores,
        ``defocus`` with the lowest defocus, best first in each micrograph, and ``faint`` with the lowest contrast;
        ``filtered`` are those that a filter keeps out, best first.
        """
        all_ = self._all
        reaching, passing = all_.reaching(select), all_.passing(select)
        wanted = {"below": ~reaching & passing, "filtered": reaching & ~passing}.get(order, reaching & passing)
        chosen = np.flatnonzero(wanted)
        index = np.searchsorted(all_.ends, chosen, side="right")
        keys = [all_.scores[chosen] if order == "doubtful" else -all_.scores[chosen]]
        if order == "defocus":
            known = [np.inf if entry.defocus is None else entry.defocus for entry in self._project.entries]
            keys.append(np.array([*known, np.inf])[index])
        if order == "faint":
            keys.append(all_.contrast[chosen])
        ranks = np.lexsort(keys)
        chosen, index = chosen[ranks], index[ranks]
        starts = np.concatenate([[0], all_.ends])
        return np.stack([index, chosen - starts[index]], axis=1)

    def histogram(self) -> list[int]:
        """Return the numbers of candidates in equal ranges of the score from 0 to 1."""
        scores = self._all.scores
        counts, _ = np.histogram(np.clip(scores[np.isfinite(scores)], 0, 1), bins=_BINS, range=(0, 1))
        return [int(n) for n in counts]

    @property
    def limits(self) -> tuple[float, float] | None:
        """Between which contrasts are counted; None where they are not known."""
        return self._all.limits
