"""Calibrate scores: among candidates with score p, about a fraction p should be particles (Platt 1999)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize
from scipy.special import log_expit, logit

from deeppicker.config import PeaksConfig, PickConfig
from deeppicker.core import Picks
from deeppicker.dataset import Labelled
from deeppicker.matching import greedy_hits, partners_of
from deeppicker.model import Model
from deeppicker.pick import pick

_MATCH_DIAMETERS = 0.3  # 0.2 box of 1.5 diameters (paper, Section 4.4)
_FLOOR = 1e-3
_RIDGE = 1e-3


def calibrate(model: Model, items: Sequence[tuple[float, Labelled]]) -> tuple[float, float]:
    """Return the slope and offset that make the model's log-odds agree with how often it is right.

    Parameters
    ----------
    model : Model
        Its own calibration is left out of account.
    items : sequence of (diameter in Å, Labelled)
        Micrographs whose particles are all known, best such that the model has not learnt from.
    """
    raw = replace(model, calibration=(1.0, 0.0))
    scores, hits = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for diameter, item in items:
        part, right = outcomes(raw, diameter, item)
        scores.append(part)
        hits.append(right)
    return fit(logit(np.clip(np.concatenate(scores), 1e-6, 1 - 1e-6)), np.concatenate(hits))


def outcomes(model: Model, diameter: float, item: Labelled) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return the scores of all candidates of a micrograph, and which of them are particles."""
    micrograph = item.load()
    found = pick(micrograph, model, diameter, PickConfig(peaks=PeaksConfig(floor=_FLOOR)))
    return found.scores, particles_among(found, item, _MATCH_DIAMETERS * diameter / micrograph.pixel_size)


def particles_among(found: Picks, item: Labelled, radius: float) -> Bool[np.ndarray, " n"]:
    """Return which picks, the best first, agree with a known particle that no better one has taken."""
    return greedy_hits(partners_of(found.positions, item.picks.positions, radius))


def fit(log_odds: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> tuple[float, float]:
    """Return the slope and offset of the logistic regression of ``right`` on ``log_odds``; (1, 0) without data."""
    if right.all() or not right.any():
        return 1.0, 0.0

    def loss(parameters: Float[np.ndarray, 2]) -> float:
        odds = parameters[0] * log_odds + parameters[1]
        misfit = -np.where(right, log_expit(odds), log_expit(-odds)).mean()
        return float(misfit + _RIDGE * (parameters[0] - 1) ** 2)

    slope, offset = optimize.minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(slope), float(offset)


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
