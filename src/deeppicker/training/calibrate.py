"""Calibrate scores: among candidates with score p, about a fraction p should be particles (Platt 1999)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize
from scipy.special import expit, log_expit, logit

from deeppicker.core import Picks
from deeppicker.evaluation.matching import greedy_hits, partners_of
from deeppicker.networks.calibration import Calibration, confidence
from deeppicker.networks.model import Model
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.training.data import Labelled

_MATCH_DIAMETERS = 0.3  # 0.2 box of 1.5 diameters (paper, Section 4.4)
_LEAST = 1e-6
_RIDGE = 1e-4
_COUNTED = 0.1  # candidates that score higher are counted when micrographs are to weigh the same


def calibrate(model: Model, items: Sequence[tuple[float, Labelled]]) -> Calibration:
    """Return the calibration with which the model's scores agree with how often it is right.

    Parameters
    ----------
    model : Model
        Its own calibration is left out of account.
    items : sequence of (diameter in Å, Labelled)
        Micrographs whose particles are all known, best such that the model has not learnt from.
    """
    raw = replace(model, calibration=Calibration())
    return fit([outcomes(raw, diameter, item) for diameter, item in items])


def outcomes(model: Model, diameter: float, item: Labelled) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return the scores of all candidates of a micrograph, and which of them are particles."""
    micrograph = item.load()
    found = pick_micrograph(micrograph, model, diameter)
    return found.scores, particles_among(found, item, _MATCH_DIAMETERS * diameter / micrograph.pixel_size)


def particles_among(found: Picks, item: Labelled, radius: float) -> Bool[np.ndarray, " n"]:
    """Return which picks, the best first, agree with a known particle that no better one has taken."""
    return greedy_hits(partners_of(found.positions, item.picks.positions, radius))


def fit(found: Sequence[tuple[Float[np.ndarray, " _"], Bool[np.ndarray, " _"]]]) -> Calibration:
    """Return the calibration from the scores and truth of the candidates of each micrograph.

    All micrographs count alike, however many candidates they have, and so do those with and without particles.
    """
    z = np.array([logit(confidence(scores)) for scores, _ in found])
    full = np.array([bool(right.any()) for _, right in found], dtype=bool)
    if not full.any():
        return Calibration()
    rows, truth, weights = [], [], []
    for (scores, right), context in zip(found, z, strict=True):
        if right.any():
            x = logit(np.clip(scores, _LEAST, 1 - _LEAST))
            rows.append(np.stack([x, np.ones_like(x), np.full_like(x, context), context * x], axis=1))
            truth.append(right)
            weights.append(np.full(len(x), 1 / max(1, int((scores > _COUNTED).sum()))))
    line = _regression(np.concatenate(rows), np.concatenate(truth), np.concatenate(weights), np.array([1.0, 0, 0, 0]))
    if full.all():
        return Calibration(*line)
    balanced = np.where(full, 0.5 / full.mean(), 0.5 / (1 - full.mean()))
    presence = _regression(np.stack([z, np.ones_like(z)], axis=1), full, balanced, np.zeros(2))
    return Calibration(*line, *presence)


def _regression(
    features: Float[np.ndarray, "n k"],
    truth: Bool[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    start: Float[np.ndarray, " k"],
) -> list[float]:
    """Return the coefficients of a logistic regression, drawn a little towards ``start``."""
    weights = weights / weights.sum()

    def loss(coefficients: Float[np.ndarray, " k"]) -> tuple[float, Float[np.ndarray, " k"]]:
        odds, pull = features @ coefficients, coefficients - start
        misfit = -(weights * np.where(truth, log_expit(odds), log_expit(-odds))).sum()
        slope = (weights * (expit(odds) - truth)) @ features
        return float(misfit + _RIDGE * (pull**2).sum()), slope + 2 * _RIDGE * pull

    found: list[float] = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x.tolist()
    return found


def reliability(
    scores: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], bins: int = 10
) -> list[tuple[float, float, int]]:
    """Return for each tenth of the scores their mean, the fraction that is right, and how many there are."""
    rows = []
    for low in np.arange(bins) / bins:
        inside = (scores >= low) & (scores < low + 1 / bins)
        if inside.any():
            rows.append((float(scores[inside].mean()), float(right[inside].mean()), int(inside.sum())))
    return rows
