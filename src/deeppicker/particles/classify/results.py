"""What is known of classes and of the picks in them, and which are kept. No torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from deeppicker.core import Picks
from deeppicker.errors import InputError

_OUTLIER = 4.0  # robust standard deviations of the strength in a class ...
_NOISE = 0.7  # ... which are at least this: it is itself in standard deviations of noise


@dataclass(frozen=True)
class Quality:
    """What is known of each class, arrays of (classes,); see `quality.judge`.

    Where ``limited``, the halves agree up to the finest frequency that was compared, and ``resolution`` is that limit.
    """

    strength: Float[np.ndarray, " classes"]
    detail: Float[np.ndarray, " classes"]
    offset: Float[np.ndarray, " classes"]
    outside: Float[np.ndarray, " classes"]
    places: Float[np.ndarray, " classes"]
    mass: Float[np.ndarray, " classes"]
    brightness: Float[np.ndarray, " classes"]
    resolution: Float[np.ndarray, " classes"]
    quality: Float[np.ndarray, " classes"]
    limited: Bool[np.ndarray, " classes"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Class averages and how the picks lie in them; classes in the order of their numbers, from the best.

    Parameters
    ----------
    averages : float32 array, (classes, side, side)
        Particles bright.
    members : int array, (classes,)
        Number of picks.
    quality : Quality
        In the same order.
    good : bool array, (classes,)
        Which classes were judged to show particles.
    chosen : bool array, (classes,)
        Which classes are kept: the good ones, unless someone has chosen.
    pixel_size : float
        Å, of the averages.
    picks : sequence of Picks
        By micrograph.
    label : int array, (n,)
        Class of each pick, from 0, micrograph by micrograph.
    angle : float array, (n,)
        Degrees by which the average is turned, from x towards y.
    shift : float array, (n, 2)
        Å from the pick to the particle's centre, (x, y).
    probability, strength : float array, (n,)
        Of the class; agreement with the others in it.
    """

    averages: Float32[np.ndarray, "classes side side"]
    members: Int[np.ndarray, " classes"]
    quality: Quality
    good: Bool[np.ndarray, " classes"]
    chosen: Bool[np.ndarray, " classes"]
    pixel_size: float
    picks: Sequence[Picks]
    label: Int[np.ndarray, " n"]
    angle: Float[np.ndarray, " n"]
    shift: Float[np.ndarray, "n 2"]
    probability: Float[np.ndarray, " n"]
    strength: Float[np.ndarray, " n"]

    @cached_property
    def kept(self) -> Bool[np.ndarray, " n"]:
        """Whether each pick is kept: a member of a class that is kept, and no outlier there.

        Ice agrees far more with any average than the particles of a class do, and noise far less.
        """
        keep = np.asarray(self.chosen[self.label])
        for k in np.flatnonzero(self.chosen & (self.members > 0)):
            mine = self.label == k
            middle = np.median(self.strength[mine])
            spread = 1.4826 * np.median(np.abs(self.strength[mine] - middle))
            keep[mine] &= np.abs(self.strength[mine] - middle) <= _OUTLIER * max(spread, _NOISE)
        return keep

    @property
    def resolution(self) -> str:
        """The resolution of the good classes, for the user."""
        found = self.quality.resolution[self.good]
        typical = f"{float(np.median(found)):.1f} Å"
        if self.quality.limited[self.good].mean() < 0.5:
            return typical
        return f"better than {typical}, the limit of the pixel size used"

    def kept_picks(self) -> list[Picks]:
        """Return the picks that are kept, of every micrograph."""
        ends = np.cumsum([len(item) for item in self.picks])[:-1]
        return [item.where(keep) for item, keep in zip(self.picks, np.split(self.kept, ends), strict=True)]

    def choosing(self, keep: Collection[int] | None, drop: Collection[int]) -> Report:
        """Return the same with other classes kept, by their numbers from 1.

        Parameters
        ----------
        keep : collection of int or None
            All that are kept; None for the good ones.
        drop : collection of int
            Of these, the ones that are not.

        Raises
        ------
        InputError
            If there is no such class, or no pick would be left.
        """
        numbers = np.arange(1, len(self.members) + 1)
        for option, given in (("--keep", keep or ()), ("--drop", drop)):
            for number in sorted(set(given) - set(numbers.tolist())):
                raise InputError(f"{option} {number} is no class; their numbers are 1 to {len(numbers)}")
        chosen = self.good if keep is None else np.isin(numbers, list(keep))
        report = replace(self, chosen=chosen & ~np.isin(numbers, list(drop)))
        if not report.kept.any():
            raise InputError("no pick would be left; choose other classes")
        return report
