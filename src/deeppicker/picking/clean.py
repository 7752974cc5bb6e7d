"""Smooth a score map, and remove implausibly large regions of high score: ice, carbon, aggregates (Section 2.1)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage
from scipy.special import logit

from deeppicker.config import CleanConfig
from deeppicker.core import ScoreMap
from deeppicker.picking.peaks import local_maxima

_NEIGHBOURS = np.ones((3, 3), dtype=bool)  # positions that touch at a corner are neighbours too


def smooth(scores: ScoreMap, sigma: float) -> ScoreMap:
    """Return the score map smoothed by a Gaussian of standard deviation ``sigma``, in micrograph pixels."""
    return replace(scores, logits=ndimage.gaussian_filter(scores.logits, sigma / scores.grid.step, mode="nearest"))


def oversized(
    logits: Float32[np.ndarray, "height width"], peak_distance: float, config: CleanConfig
) -> Bool[np.ndarray, "height width"]:
    """Return which positions belong to a region that is too large.

    Positions above ``config.connect_threshold`` are connected with their eight neighbours. The size of a region is
    its area divided by the number of its peaks, so that particles which touch are judged one by one, while a
    featureless region stays as large as it is. Regions larger than ``config.max_region`` times the average are too
    large.
    """
    threshold = float(logit(config.connect_threshold))
    labels, number = ndimage.label(logits > threshold, structure=_NEIGHBOURS)
    if number == 0:
        return np.zeros(logits.shape, dtype=bool)
    areas = np.bincount(labels.ravel(), minlength=number + 1)
    peaks = local_maxima(logits, peak_distance, threshold)
    counts = np.bincount(labels[peaks[:, 0], peaks[:, 1]], minlength=number + 1)
    sizes = areas / np.maximum(counts, 1)
    average = areas[1:].sum() / np.maximum(counts, 1)[1:].sum()
    suspect = sizes > config.max_region * average
    suspect[0] = False  # the background
    junk: Bool[np.ndarray, "height width"] = suspect[labels]
    return junk
