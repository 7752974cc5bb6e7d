"""How far any number of sets of picks agree, pair by pair, and what several of them found. NumPy and SciPy only.

* Two picks of different sets agree when their centres lie within the match radius (inclusive) of each other, one to
  one: as many pairs as possible, and among these the closest (see `matching.match`).
* The consensus joins picks of different sets, the closest first, into groups. A group holds at most one pick of a set,
  and all its picks lie within the match radius of each other. No set is preferred: the result does not depend on the
  order of the sets, except where distances and positions are exactly equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.evaluation.matching import count_matches


@dataclass(frozen=True)
class PickSet:
    """All picks of one origin.

    Parameters
    ----------
    label : str
        How the user calls it.
    picks : mapping of str to Picks
        By the name under which a micrograph is the same in all sets.
    """

    label: str
    picks: Mapping[str, Picks]


@dataclass(frozen=True)
class MicrographComparison:
    """The agreement in one micrograph: numbers of picks of each set, and of agreeing pairs of each two sets."""

    micrograph: str
    picks: Int[np.ndarray, " sets"]
    matched: Int[np.ndarray, "sets sets"]


@dataclass(frozen=True)
class Comparison:
    """How far sets of picks agree.

    Parameters
    ----------
    labels : tuple of str
        Of the sets.
    micrographs : tuple of MicrographComparison
        In order of first appearance.
    """

    labels: tuple[str, ...]
    micrographs: tuple[MicrographComparison, ...]

    @property
    def picks(self) -> Int[np.ndarray, " sets"]:
        """Number of picks of each set."""
        total = np.zeros(len(self.labels), np.int64)
        for item in self.micrographs:
            total = total + item.picks
        return total

    @property
    def matched(self) -> Int[np.ndarray, "sets sets"]:
        """Number of agreeing pairs of each two sets; on the diagonal, of all picks."""
        total = np.zeros((len(self.labels), len(self.labels)), np.int64)
        for item in self.micrographs:
            total = total + item.matched
        return total

    @property
    def found(self) -> Float[np.ndarray, "sets sets"]:
        """Part of the picks of the row's set that the column's set has too; NaN where a row has no picks."""
        return _ratio(self.matched, np.broadcast_to(self.picks[:, None], self.matched.shape))

    @property
    def f1(self) -> Float[np.ndarray, "sets sets"]:
        """Twice the agreeing pairs over the picks of both sets; NaN where both have none."""
        return _ratio(2 * self.matched, self.picks[:, None] + self.picks[None, :])

    def to_json(self) -> dict[str, Any]:
        """Return all numbers for the json module; undefined ones are None, never NaN."""
        return {
            "sets": list(self.labels),
            "picks": self.picks.tolist(),
            "matched": self.matched.tolist(),
            "found": _without_nan(self.found),
            "f1": _without_nan(self.f1),
            "micrographs": [
                {"micrograph": item.micrograph, "picks": item.picks.tolist(), "matched": item.matched.tolist()}
                for item in self.micrographs
            ],
        }


def compare_picks(sets: Sequence[PickSet], radii: Mapping[str, float]) -> Comparison:
    """Count for each two sets how many picks agree, micrograph by micrograph.

    Parameters
    ----------
    sets : sequence of PickSet
        At least two. A micrograph that a set does not name has no picks in it.
    radii : mapping of str to float
        Match radius in pixels, by micrograph; only these micrographs are compared.

    Raises
    ------
    InputError
        If there are fewer than two sets.
    """
    if len(sets) < 2:
        raise InputError(f"{len(sets)} set of picks cannot be compared; give at least two")
    return Comparison(
        tuple(item.label for item in sets),
        tuple(_compare_micrograph(key, _positions(sets, key), radius) for key, radius in radii.items()),
    )


def consensus(sets: Sequence[PickSet], radii: Mapping[str, float], at_least: int) -> list[Picks]:
    """Return what at least so many sets found: the mean position, scored by the part of the sets that found it.

    Parameters
    ----------
    sets : sequence of PickSet
        Names of micrographs are those of the first set that has them.
    radii : mapping of str to float
        Match radius in pixels, by micrograph.
    at_least : int
        Number of sets.

    Returns
    -------
    list of Picks
        One for each micrograph in ``radii``, best first.

    Raises
    ------
    InputError
        If ``at_least`` is not between 1 and the number of sets.
    """
    if not 1 <= at_least <= len(sets):
        raise InputError(f"at least {at_least} of {len(sets)} sets cannot agree; set --at-least to 1 to {len(sets)}")
    result = []
    for key, radius in radii.items():
        positions = _positions(sets, key)
        groups = [group for group in _groups(positions, radius) if len(group) >= at_least]
        points = np.concatenate(positions)
        # Sorted, so that the order of summing is not that of the sets.
        centres = np.array([_sorted(points[group]).mean(axis=0) for group in groups]).reshape(-1, 2)
        scores = np.array([len(group) / len(sets) for group in groups], dtype=np.float64)
        name = next(item.picks[key].micrograph for item in sets if key in item.picks)
        result.append(Picks(name, centres, scores).sorted())
    return result


def _positions(sets: Sequence[PickSet], key: str) -> list[Float[np.ndarray, "_ 2"]]:
    return [item.picks[key].positions if key in item.picks else np.empty((0, 2)) for item in sets]


def _compare_micrograph(key: str, positions: Sequence[Float[np.ndarray, "_ 2"]], radius: float) -> MicrographComparison:
    counts = np.array([len(item) for item in positions], dtype=np.int64)
    matched = np.diag(counts)
    for i, first in enumerate(positions):
        for j, second in enumerate(positions[:i]):
            matched[i, j] = matched[j, i] = count_matches(first, second, radius)
    return MicrographComparison(key, counts, matched)


def _groups(positions: Sequence[Float[np.ndarray, "_ 2"]], radius: float) -> list[list[int]]:
    """Return the groups of picks, as indices into all positions one after the other; a lone pick is a group too."""
    points = np.concatenate([np.empty((0, 2)), *positions])
    owner = np.repeat(np.arange(len(positions)), [len(item) for item in positions]).tolist()
    group_of = [[index] for index in range(len(points))]
    near = _pairs(points, radius)
    allowed = {(i, j) for i, j in near if owner[i] != owner[j]}
    for i, j in near:
        first, second = group_of[i], group_of[j]
        if first is second or not all((min(a, b), max(a, b)) in allowed for a in first for b in second):
            continue
        first += second
        for index in second:
            group_of[index] = first
    return list({id(group): group for group in group_of}.values())


def _pairs(points: Float[np.ndarray, "n 2"], radius: float) -> list[tuple[int, int]]:
    """Return all pairs (i < j) within the radius, by distance, then by the positions of both."""
    if len(points) == 0:
        return []
    reach = radius * (1 + 1e-9)  # a distance that equals the radius but for rounding is within it
    pairs = cKDTree(points).query_pairs(reach, output_type="ndarray").reshape(-1, 2)
    ends = points[pairs]
    distance = np.hypot(*(ends[:, 0] - ends[:, 1]).T)
    swap = (ends[:, 0, 0] > ends[:, 1, 0]) | ((ends[:, 0, 0] == ends[:, 1, 0]) & (ends[:, 0, 1] > ends[:, 1, 1]))
    ends = np.where(swap[:, None, None], ends[:, ::-1], ends)
    order = np.lexsort((ends[:, 1, 1], ends[:, 1, 0], ends[:, 0, 1], ends[:, 0, 0], distance))
    return [(int(i), int(j)) for i, j in np.sort(pairs[order], axis=1)]


def _sorted(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    return points[np.lexsort((points[:, 1], points[:, 0]))]


def _ratio(part: Int[np.ndarray, "a b"], whole: Int[np.ndarray, "a b"]) -> Float[np.ndarray, "a b"]:
    ratio: Float[np.ndarray, "a b"] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio


def _without_nan(values: Float[np.ndarray, "a b"]) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in values.tolist()]
