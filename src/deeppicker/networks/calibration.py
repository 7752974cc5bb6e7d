"""What turns the scores of a network into probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

from deeppicker.config import CAUTION
from deeppicker.config.limits import within

_LEAST = 1e-7  # closest that a score comes to 0 and 1 before its log-odds are taken
_FLATTEST = 0.2  # least slope on the log-odds
_MOST = 100.0  # that a coefficient may be; log-odds of 16 are certain, and a fit stays below 85
_FEW, _DOUBTFUL = 2.0, 0.1  # number and score of the candidates that the confidence starts from


@dataclass(frozen=True)
class Calibration:
    """What turns the scores of a network into probabilities, given the micrograph that they come from.

    With ``x``, the network's log-odds, and ``z``, those of the micrograph's `confidence`, the probability is that of
    the micrograph to hold particles at all, ``presence_slope·z + presence_offset``, times that of the candidate to be
    one of them, ``(slope + interaction·z)·x + offset + context·z``; both as log-odds. Where nothing in a micrograph
    convinces, weak candidates are noise; where much does, they are particles too. The network itself sees only a few
    diameters around. ``caution`` is the part of the threshold of highest expected F1 that suits the scores.
    """

    slope: float = 1.0
    offset: float = 0.0
    context: float = 0.0
    interaction: float = 0.0
    presence_slope: float = 0.0
    presence_offset: float = 30.0  # certain
    caution: float = CAUTION

    def __post_init__(self) -> None:
        coefficients = ("slope", "offset", "context", "interaction", "presence_slope", "presence_offset")
        within(self, **dict.fromkeys(coefficients, (-_MOST, _MOST)), caution=(0, 1))

    def __call__(self, scores: Float[np.ndarray, " n"], confidence: float) -> Float[np.ndarray, " n"]:
        """Return probabilities for the scores (0-1) of a network in a micrograph of some confidence."""
        z = float(logit(confidence))
        x = logit(np.clip(scores, _LEAST, 1 - _LEAST))
        steepness = max(self.slope + self.interaction * z, _FLATTEST)  # the order of the candidates stays
        one = expit(steepness * x + self.offset + self.context * z)
        return np.asarray(one * expit(self.presence_slope * z + self.presence_offset))


def confidence(scores: Float[np.ndarray, " n"]) -> float:
    """Return how convincing the candidates of a micrograph are on average, weighted by their scores; 0-1.

    It starts from that of two doubtful candidates, so that a few do not say much.
    """
    return float(((scores**2).sum() + _DOUBTFUL * _FEW) / (scores.sum() + _FEW))
