"""Score every position of a prepared micrograph in one fully convolutional pass, tile by tile."""

from __future__ import annotations

import numpy as np
import torch

from deeppicker.config import ScoreConfig
from deeppicker.core import Prepared, ScoreMap
from deeppicker.model import Model


def score(model: Model, prepared: Prepared, config: ScoreConfig) -> ScoreMap:
    """Return the log-odds of a particle at every ``config.step``-th working pixel.

    The scores equal those of the network on each window by itself, and do not depend on the tile size.
    """
    window, step = model.network.window, config.step
    height, width = prepared.image.shape
    logits = np.empty(((height - window) // step + 1, (width - window) // step + 1), dtype=np.float32)
    side = max(1, (config.tile - window) // step + 1)  # positions along a tile
    image = torch.from_numpy(prepared.image)
    with torch.inference_mode():
        for row in range(0, logits.shape[0], side):
            for column in range(0, logits.shape[1], side):
                part = logits[row : row + side, column : column + side]
                top, left = row * step, column * step
                bottom = top + (part.shape[0] - 1) * step + window
                right = left + (part.shape[1] - 1) * step + window
                part[:] = model.network.sweep(image[top:bottom, left:right], step).numpy()
    centre = (window - 1) / 2
    return ScoreMap(logits, prepared.grid.derive((centre, centre), float(step)))
