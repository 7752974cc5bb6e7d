"""Choose the threshold of a data set from its scores alone. No torch.

Scores are probabilities, so the sum of the scores of some picks is the number of them that are expected to be right,
and the sum of all scores the number of particles. From these follow precision, recall and F1 at every threshold.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from deeppicker.config import CAUTION

WORTHWHILE = 0.5
"""Least expected precision: where more of the picks would be wrong than right, the threshold is higher, so that of
micrographs that hold nothing convincing nothing is picked."""

LEAST, MOST = 0.15, 0.5
"""Limits of a threshold that is chosen by itself. With honest scores the best one is half of the best F1 (Lipton et
al. 2014), so 0.5 at most. The lower limit keeps noise out of micrographs that hold little else."""


def choose_threshold(scores: Float[np.ndarray, " n"], caution: float = CAUTION) -> float:
    """Return a threshold somewhat below that of the highest expected F1, within limits, at which picks are worthwhile.

    Parameters
    ----------
    scores : float array, (n,)
        Scores of all candidates of a data set, 0-1, those below any threshold too.
    caution : float
        That of the model's calibration: part of the threshold of highest expected F1 that is taken.
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
    return float(np.floor(1000 * chosen) / 1000)  # a short number, which keeps what reaches the exact one
