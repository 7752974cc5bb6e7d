"""Turn a network's log-odds into the probability that a pick is right, on micrographs with known particles.

The network is trained on as many particles as background windows, but a micrograph holds far more background, and a
pick is the best of many positions; its raw score is therefore too high. Platt's (1999) scaling, a logistic regression
of "right or wrong" on the log-odds of candidate picks, corrects for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import expit, logit

from deeppicker.config import CleanConfig, PeaksConfig, PickConfig
from deeppicker.dataset import Dataset
from deeppicker.evaluate import match
from deeppicker.model import Model
from deeppicker.pick import pick
from deeppicker.prepare import box_pixels

_MATCH_RADIUS = 0.2  # boxes (Section 4.4)
_FEWEST = 20  # right and wrong candidates without which no calibration is attempted
# Raw scores saturate, so the floor lies far below any useful threshold; nothing is cleaned at uncalibrated scores.
_CANDIDATES = PickConfig(clean=CleanConfig(max_region=np.inf), peaks=PeaksConfig(floor=1e-3))


def calibrate(model: Model, datasets: Sequence[Dataset]) -> Model:
    """Return the model with its calibration fitted to data sets that it was not trained on; each counts equally.

    With too few right or wrong candidates to tell, the calibration stays as it is.
    """
    raw = replace(model, calibration=(1.0, 0.0))
    odds, right, weights = (np.concatenate(part) for part in zip(*(_judge(raw, d) for d in datasets), strict=True))
    if min(right.sum(), (~right).sum()) < _FEWEST:
        return model
    return replace(model, calibration=fit(odds, right, weights))


def fit(odds: Float[np.ndarray, " n"], right: np.ndarray, weights: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Return slope and offset of the logistic regression of ``right`` on ``odds``."""

    def loss(parameters: Float[np.ndarray, " 2"]) -> tuple[float, Float[np.ndarray, " 2"]]:
        predicted = parameters[0] * odds + parameters[1]
        value = weights @ (np.logaddexp(0, predicted) - right * predicted)
        slope = weights * (expit(predicted) - right)
        return float(value), np.array([slope @ odds, slope.sum()])

    result = minimize(loss, np.array([1.0, 0.0]), jac=True, bounds=[(0.05, 20.0), (-50.0, 50.0)])
    return float(result.x[0]), float(result.x[1])


def _judge(model: Model, dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log-odds, correctness and weight of every candidate in a data set."""
    odds, right = [np.empty(0)], [np.empty(0, dtype=bool)]
    for item in dataset.micrographs:
        micrograph = item.load()
        candidates = pick(micrograph, model, dataset.diameter, _CANDIDATES)
        radius = _MATCH_RADIUS * box_pixels(dataset.diameter, micrograph.pixel_size, model.prepare)
        # Only where there are labels at all: published ones often leave out a frame along the edge.
        inside = ((candidates.positions >= item.avoid.min(0)) & (candidates.positions <= item.avoid.max(0))).all(1)
        candidates = candidates.where(inside)
        matched = np.zeros(len(candidates), dtype=bool)
        matched[match(candidates.positions, item.avoid, radius)[0]] = True
        odds.append(logit(candidates.scores))
        right.append(matched)
    number = max(1, sum(map(len, odds)))
    return (
        np.concatenate(odds),
        np.concatenate(right),
        np.full(number if sum(map(len, odds)) else 0, 1 / number),
    )
