"""What the scores of picks are worth: average precision, the best threshold, precision and recall at every cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int

_CURVE_POINTS = 500


@dataclass(frozen=True)
class Rates:
    """Fractions of 0-1, the centre error in boxes; None where a number is undefined."""

    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    average_precision: float | None = None
    centre_error: float | None = None


@dataclass(frozen=True)
class BestThreshold:
    """The one threshold with the highest mean F1: optimistic, as it was chosen with the reference in hand."""

    threshold: float
    precision: float | None
    recall: float | None
    f1: float


@dataclass(frozen=True)
class PicksCurve:
    """Precision and recall of the best-scored picks of the whole set against their number (Fig. 2c-e, 5c-e).

    Each field has one value per cut: the score of the lowest pick kept, the number of picks kept over the
    number of references, and the precision and recall of those picks, all micrographs together.
    """

    threshold: tuple[float, ...]
    ratio: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]


@dataclass(frozen=True)
class Ranked:
    """The picks of one micrograph from the highest score down, and whether each adds a true positive."""

    scores: Float[np.ndarray, " n"]
    gains: Bool[np.ndarray, " n"]
    hits: Bool[np.ndarray, " n"]
    references: int


def _cuts(scores: Float[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """Return the index of the last pick of each run of equal scores: only there can a threshold cut."""
    return np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.intp)


def average_precision(scores: Float[np.ndarray, " n"], hits: Bool[np.ndarray, " n"], references: int) -> float | None:
    """Return the sum over cuts of precision × gain in recall, without interpolation; scores must descend."""
    if references == 0:
        return None
    cuts = _cuts(scores)
    found = np.cumsum(hits)[cuts]
    gained = np.diff(found, prepend=0)
    return float(np.sum(gained * found / (cuts + 1)) / references)


def merge(ranked: Sequence[Ranked]) -> Ranked:
    """Return the ranking of the picks of all micrographs together."""
    scores = np.concatenate([r.scores for r in ranked])
    order = np.argsort(-scores, kind="stable")
    gains = np.concatenate([r.gains for r in ranked])[order]
    hits = np.concatenate([r.hits for r in ranked])[order]
    return Ranked(scores[order], gains, hits, sum(r.references for r in ranked))


def _f1_steps(ranked: Ranked) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return by how much each next pick changes the micrograph's F1, and the number of defined F1 values."""
    kept = np.arange(1, len(ranked.scores) + 1)
    f1 = 2 * np.cumsum(ranked.gains) / (kept + ranked.references)
    # A micrograph without references has no F1 until its first pick, which is false.
    return np.diff(f1, prepend=0.0), ((kept == 1) & (ranked.references == 0)).astype(float)


def best_threshold(ranked: Sequence[Ranked]) -> BestThreshold | None:
    """Return the threshold with the highest mean F1, the higher of equals; one pass over all picks."""
    scores = np.concatenate([r.scores for r in ranked])
    steps = [_f1_steps(r) for r in ranked]
    order = np.argsort(-scores, kind="stable")
    total = np.cumsum(np.concatenate([step for step, _ in steps])[order])
    defined = np.cumsum(np.concatenate([new for _, new in steps])[order])
    defined += sum(r.references > 0 for r in ranked)
    cuts = _cuts(scores[order])
    cuts = cuts[np.isfinite(scores[order][cuts])]
    if len(cuts) == 0:
        return None
    mean = total[cuts] / defined[cuts]
    best = int(np.argmax(np.round(mean, 12)))
    threshold = float(scores[order][cuts[best]])
    rates = [
        rates_of(kept, r.references, int(r.gains[:kept].sum()))
        for r, kept in ((r, int((r.scores >= threshold).sum())) for r in ranked)
    ]
    mean_of = mean_rates(rates)
    return BestThreshold(threshold, mean_of.precision, mean_of.recall, mean_of.f1 or 0.0)


def picks_curve(merged: Ranked) -> PicksCurve | None:
    """Return precision and recall against the number of picks, thinned to at most 500 cuts; None without scores."""
    cuts = _cuts(merged.scores)
    cuts = cuts[np.isfinite(merged.scores[cuts])]
    if merged.references == 0 or len(cuts) == 0:
        return None
    if len(cuts) > _CURVE_POINTS:
        cuts = cuts[np.round(np.linspace(0, len(cuts) - 1, _CURVE_POINTS)).astype(int)]
    found = np.cumsum(merged.gains)[cuts]
    columns = (
        merged.scores[cuts],
        (cuts + 1) / merged.references,
        found / (cuts + 1),
        found / merged.references,
    )
    return PicksCurve(*(tuple(column.tolist()) for column in columns))


def rates_of(picks: int, references: int, matched: int | float) -> Rates:
    """Return precision, recall and F1 of counts: 0 for no picks, None where nothing was to be found."""
    if picks == 0 and references == 0:
        return Rates()
    precision = matched / picks if picks else 0.0
    recall = matched / references if references else None
    return Rates(precision, recall, 2 * matched / (picks + references))


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Return the mean of the numbers that are defined; None if none is."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def mean_rates(rates: Sequence[Rates]) -> Rates:
    """Return the mean of each rate over micrographs."""
    return Rates(*(mean_of_known([getattr(r, field.name) for r in rates]) for field in fields(Rates)))
