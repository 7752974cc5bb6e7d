"""Choose particle centres from a score map: peak windows, minimum distance, bad-particle filter (Section 2.1)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy import ndimage
from scipy.special import expit

from deeppicker.core import Picks, Prepared, ScoreMap


def find_peaks(places: ScoreMap, scores: ScoreMap, distance: float, floor: float, micrograph: str = "") -> Picks:
    """Return the positions that rank first within a distance around them, best score first.

    Parameters
    ----------
    places : ScoreMap
        Log-odds, smoothed, whose maxima are the positions.
    scores : ScoreMap
        Log-odds on the same grid; the score of a pick is the highest at its position and the eight next to it.
    distance : float
        Half the peak window, in micrograph pixels: the minimum distance of two picks.
    floor : float
        Probability that a candidate must exceed.
    micrograph : str
        Name of the micrograph that the picks belong to.
    """
    indices = local_maxima(places.logits, distance / places.grid.step, -np.inf)
    values = ndimage.maximum_filter(scores.logits, 3)[indices[:, 0], indices[:, 1]]
    positions = places.grid.positions((indices + _vertices(places.logits, indices))[:, ::-1])
    found = Picks(micrograph, positions, expit(values.astype(np.float64)))
    return found.where(found.scores > floor).sorted()


def _vertices(values: Float32[np.ndarray, "height width"], indices: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """Return how far, in rows and columns, the vertex of a parabola lies from each maximum; at most half an element."""
    padded = np.pad(values, 1, mode="edge").astype(np.float64)
    rows, columns = (indices + 1).T
    top = padded[rows, columns]
    shifts = []
    for row, column in ((1, 0), (0, 1)):
        before, after = padded[rows - row, columns - column], padded[rows + row, columns + column]
        bend = 2 * top - before - after
        usable = np.isfinite(bend) & (bend > 0)
        shift = np.divide(0.5 * (after - before), bend, out=np.zeros_like(top), where=usable)
        shifts.append(np.clip(shift, -0.5, 0.5))
    return np.stack(shifts, axis=1)


def local_maxima(values: Float32[np.ndarray, "height width"], radius: float, floor: float) -> Int[np.ndarray, "n 2"]:
    """Return the indices (row, column) of the elements that rank first among all within ``radius`` of them.

    Elements rank by value; of equal ones the upper, then the left one ranks first. Since no two ranks are equal,
    plateaus yield one maximum each and two maxima are always more than ``radius`` apart.

    Parameters
    ----------
    values : float32 array, (height, width)
        No NaN.
    radius : float
        In elements; the neighbourhood is a disc that includes its rim, and at least the eight next elements.
    floor : float
        Maxima at or below this value are left out.
    """
    candidates = np.argwhere((values == ndimage.maximum_filter(values, 3)) & (values > floor))
    radius = max(radius, 1.5)
    reach = int(radius)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = (rows**2 + columns**2 <= radius**2) & ((rows != 0) | (columns != 0))
    padded = np.pad(values, reach, constant_values=-np.inf)
    survivors = np.ones(len(candidates), dtype=bool)
    own = values[candidates[:, 0], candidates[:, 1]]
    for row, column in zip(rows[inside], columns[inside], strict=True):
        other = padded[candidates[:, 0] + reach + row, candidates[:, 1] + reach + column]
        earlier = row < 0 or (row == 0 and column < 0)
        survivors[(other >= own) if earlier else (other > own)] = False
    return candidates[survivors]


def extreme_fraction(
    prepared: Prepared, positions: Float[np.ndarray, "n 2"], window: int, sigmas: float
) -> Float[np.ndarray, " n"]:
    """Return, for the window around each position, the fraction of extreme pixels.

    Extreme is what deviates from the micrograph's trend by more than ``sigmas`` of its standard deviations.
    """
    if len(positions) == 0:
        return np.zeros(0)
    extreme = np.abs(prepared.deviation) > sigmas
    total = np.zeros((extreme.shape[0] + 1, extreme.shape[1] + 1), dtype=np.int32)
    np.cumsum(extreme, axis=1, out=total[1:, 1:])
    np.cumsum(total, axis=0, out=total)
    corner = np.rint(prepared.grid.indices(positions) - (window - 1) / 2).astype(np.int64)
    height, width = prepared.image.shape
    left, top = np.clip(corner[:, 0], 0, width - window), np.clip(corner[:, 1], 0, height - window)
    right, bottom = left + window, top + window
    counts = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    result: Float[np.ndarray, " n"] = counts / window**2
    return result


def unusual(
    fractions: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"], excess: float
) -> Bool[np.ndarray, " n"]:
    """Return which fractions exceed their score-weighted median by more than ``excess``.

    Candidates are judged against each other, not by a fixed limit: in a denoised micrograph the pixels of every good
    particle are extreme.
    """
    if len(fractions) == 0:
        return np.zeros(0, dtype=bool)
    order = np.argsort(fractions, kind="stable")
    weights = np.cumsum(scores[order])
    median = fractions[order][np.searchsorted(weights, 0.5 * weights[-1])]
    return np.asarray(fractions > median + excess)
