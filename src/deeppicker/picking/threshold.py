"""Choose the threshold of a data set from its scores alone. No torch.

Scores are probabilities, so the sum of the scores of some picks is the number of them that are expected to be right,
and the sum of all scores the number of particles. From these follow precision, recall and F1 at every threshold.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from scipy.special import expit, logit

from deeppicker.config import CAUTION

WORTHWHILE = 0.5
"""Least expected precision: where more of the picks would be wrong than right, the threshold is higher, so that of
micrographs that hold nothing convincing nothing is picked."""

LEAST, MOST = 0.15, 0.5
"""Limits of a threshold that is chosen by itself, but for one in a gap. With honest scores the best one is half of the
best F1 (Lipton et al. 2014), so 0.5 at most. The lower limit keeps noise out of micrographs that hold little else."""

SETTLED = 1.0
"""Caution of the scores of networks that have learnt from the data set: they are not too low any more."""

_STEP, _BLUR = 0.1, 3.0  # log-odds per bin of the histogram of scores, and standard deviation, in bins, of its blur
_HOLLOW, _CLEAR = 0.8, 2.5  # density in a gap, over that on its lower side, at most; and standard errors between them
_REST = 1 / 3  # part of the picks that must lie above a gap
_BLURRED = 2 * np.sqrt(np.pi) * _BLUR  # bins that a blurred one is worth: the variance of a mean over the Gaussian


def choose_threshold(scores: Float[np.ndarray, " n"], caution: float = CAUTION, *, gaps: bool = True) -> float:
    """Return a threshold somewhat below that of the highest expected F1, within limits, at which picks are worthwhile.

    A network that has learnt from the data set parts particles from contamination by a gap in the scores. Where there
    is one among the picks, the threshold lies in it.

    Parameters
    ----------
    scores : float array, (n,)
        Scores of all candidates of a data set, 0-1, those below any threshold too.
    caution : float
        That of the model's calibration: part of the threshold of highest expected F1 that is taken.
    gaps : bool
        Whether gaps in the scores are looked for, if they are of a network that has learnt from the data set.
    """
    ordered = np.sort(scores)[::-1]
    if len(ordered) == 0:
        return MOST
    f1 = 2 * np.cumsum(ordered) / (np.arange(1, len(ordered) + 1) + ordered.sum())
    chosen = float(np.clip(caution * ordered[int(np.argmax(f1))], LEAST, MOST))
    means = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)  # expected precision of the best 1, 2, ... candidates
    kept = int((ordered >= chosen).sum())
    if kept and means[kept - 1] < WORTHWHILE:
        worthwhile = ordered[means >= WORTHWHILE]
        chosen = float(worthwhile[-1]) if len(worthwhile) else MOST  # which then nothing reaches
    if gaps and caution >= SETTLED:
        chosen = _gap(ordered[ordered >= chosen], chosen)
    return float(np.floor(1000 * chosen) / 1000)  # a short number, which keeps what reaches the exact one


def _gap(picks: Float[np.ndarray, " n"], threshold: float) -> float:
    """Return the emptiest score of a clear gap between two groups of picks, best first; the threshold without one."""
    if len(picks) == 0:
        return threshold
    odds = logit(np.clip(picks, threshold, 1 - 1e-4))
    edges = np.arange(float(logit(threshold)), odds.max() + 2 * _STEP, _STEP)
    density = ndimage.gaussian_filter1d(np.histogram(odds, edges)[0].astype(np.float64), _BLUR)
    sides = np.minimum(np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])[::-1])
    clear = (sides - density) * _BLURRED >= _CLEAR * np.sqrt((sides + density) * _BLURRED)
    above = np.searchsorted(-odds, -edges[:-1], side="right")  # the picks come best first
    gap = clear & (density < _HOLLOW * sides) & (above >= _REST * len(picks))
    if not gap.any():
        return threshold
    depth = np.divide(density, sides, out=np.ones_like(density), where=gap)
    return float(expit(edges[int(np.argmin(depth))] + 0.5 * _STEP))
