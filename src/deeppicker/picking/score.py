"""Score every position of a prepared micrograph in fully convolutional passes, tile by tile."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32
from scipy.special import expit
from torch.nn import functional

from deeppicker.config import ScoreConfig
from deeppicker.core import Prepared, ScoreMap
from deeppicker.networks.base import DenseNetwork, Network
from deeppicker.networks.model import Model


def score(model: Model, prepared: Prepared, config: ScoreConfig) -> ScoreMap:
    """Return the log-odds of a particle at every ``config.step``-th working pixel.

    The scores do not depend on the tile size. Those of the paper's network equal what it says of each window by
    itself.
    """
    step = config.step or model.network.stride
    tile = config.tile or model.network.tile
    with torch.inference_mode():
        if isinstance(model.network, DenseNetwork):
            return _score_map(model.network, prepared, max(step, model.network.stride), tile)
        return _score_windows(model.network, prepared, step, tile)


def _score_windows(network: Network, prepared: Prepared, step: int, tile: int) -> ScoreMap:
    """Sweep a network of windows over the image; the first position is the centre of the first window."""
    window = network.window
    height, width = prepared.image.shape
    logits = np.empty(((height - window) // step + 1, (width - window) // step + 1), dtype=np.float32)
    side = max(1, (tile - window) // step + 1)  # positions along a tile
    image = torch.from_numpy(prepared.image)
    for row in range(0, logits.shape[0], side):
        for column in range(0, logits.shape[1], side):
            part = logits[row : row + side, column : column + side]
            top, left = row * step, column * step
            bottom = top + (part.shape[0] - 1) * step + window
            right = left + (part.shape[1] - 1) * step + window
            part[:] = network.sweep(image[top:bottom, left:right], step).numpy()
    centre = (window - 1) / 2
    return ScoreMap(logits, prepared.grid.derive((centre, centre), float(step)))


def _score_map(network: DenseNetwork, prepared: Prepared, step: int, tile: int) -> ScoreMap:
    """Let a dense network draw its maps; each tile sees as much around it as its scores depend on."""
    height, width = prepared.image.shape
    logits = np.empty((-(-height // step), -(-width // step)), dtype=np.float32)
    sides = [network.multiple // network.coarse * -(-side // network.multiple) for side in (height, width)]
    junk = np.empty(sides, dtype=np.float32)
    image = torch.from_numpy(prepared.image)
    side = max(1, tile // network.multiple) * network.multiple
    for top in range(0, height, side):
        for left in range(0, width, side):
            first_row, last_row = _seen(top, side, height, network)
            first_column, last_column = _seen(left, side, width, network)
            seen = image[first_row:last_row, first_column:last_column]
            maps = network.maps(seen, step)
            for target, part, block in zip((logits, junk), maps, (step, network.coarse), strict=True):
                inside = target[top // block : (top + side) // block, left // block : (left + side) // block]
                rows, columns = (top - first_row) // block, (left - first_column) // block
                inside[:] = part.numpy()[rows : rows + inside.shape[0], columns : columns + inside.shape[1]]
    middle = 0.5 * (network.stride - 1)  # of the block of pixels that a place of the map stands for
    fine = _refined(expit(junk), network.coarse // network.stride)[:: step // network.stride, :: step // network.stride]
    return ScoreMap(
        logits,
        prepared.grid.derive((middle, middle), float(step)),
        np.ascontiguousarray(fine[: logits.shape[0], : logits.shape[1]]),
    )


def _seen(start: int, side: int, length: int, network: DenseNetwork) -> tuple[int, int]:
    """Return where, along one axis, begins and ends what the network is shown for a tile of ``side`` at ``start``."""
    last = min(-(-length // network.multiple) * network.multiple, start + side + network.halo)
    return max(0, min(start - network.halo, last - network.least)), last


def _refined(
    coarse: Float32[np.ndarray, "coarse_rows coarse_columns"], factor: int
) -> Float32[np.ndarray, "rows columns"]:
    """Return a map interpolated to ``factor`` times as many places along each side."""
    tensor = torch.from_numpy(coarse)[None, None]
    fine = functional.interpolate(tensor, scale_factor=float(factor), mode="bilinear")[0, 0]
    return fine.numpy()
