"""Score every position of a prepared micrograph in fully convolutional passes."""

from __future__ import annotations

import numpy as np
import torch

from deeppicker.config import ScoreConfig
from deeppicker.core import Prepared, ScoreMap
from deeppicker.device import in_parts
from deeppicker.errors import FormatError
from deeppicker.networks.model import Model

_LEAST_TILE = 256  # working pixels; smaller tiles are mostly halo


def score(model: Model, prepared: Prepared, config: ScoreConfig) -> ScoreMap:
    """Return the log-odds of a particle at every ``config.step``-th working pixel.

    The scores do not depend on the tile size. Those of the paper's network equal what it says of each window by
    itself. A card whose memory is short gets smaller tiles.

    Raises
    ------
    FormatError
        If the weights are such that scores are no numbers.
    """
    network = model.for_picking

    def scored(tile: int) -> ScoreMap:
        return network.score_map(prepared, config.step or network.stride, tile)

    with torch.inference_mode():
        scores = in_parts(scored, config.tile or network.tile, _LEAST_TILE)
    if not np.isfinite(scores.logits).all():
        raise FormatError("the scores of the model are no numbers, because its weights overflow; train it again")
    return scores
