"""Score every position of a prepared micrograph in fully convolutional passes."""

from __future__ import annotations

import torch

from deeppicker.config import ScoreConfig
from deeppicker.core import Prepared, ScoreMap
from deeppicker.networks.model import Model


def score(model: Model, prepared: Prepared, config: ScoreConfig) -> ScoreMap:
    """Return the log-odds of a particle at every ``config.step``-th working pixel.

    The scores do not depend on the tile size. Those of the paper's network equal what it says of each window by
    itself.
    """
    network = model.for_picking
    with torch.inference_mode():
        return network.score_map(prepared, config.step or network.stride, config.tile or network.tile)
