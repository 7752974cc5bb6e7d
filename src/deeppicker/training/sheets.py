"""Whole micrographs as the dense network sees them, with what it is to learn there: what self-training draws from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.spatial import cKDTree

from deeppicker.core import Grid, Micrograph
from deeppicker.networks.dense import DenseNetwork
from deeppicker.networks.model import Model
from deeppicker.picking.prepare import prepare_image

_SIGMA = 0.1  # diameters; of the peaks that the network draws, as in training (CropConfig.target_sigma)
_MASKED = 0.4  # diameters around an unknown place about which nothing is learnt
_FINE, _COARSE = 2, 8  # working pixels to a place of the map of centres, and of that of sizes
_FAR = 1e6


@dataclass(frozen=True)
class Sheet:
    """A micrograph at the network's scale, where the network learns.

    Parameters
    ----------
    image : float32 tensor, (height, width)
        Prepared as for picking; both sides are multiples of 16.
    grid : Grid
        Where its pixels lie in the micrograph.
    sizes : float32 tensor, (bins, height/8, width/8)
        The coarse map of the model that learning starts from: presence, contamination, sizes. They are to stay.
    """

    image: Float32[torch.Tensor, "height width"]
    grid: Grid
    sizes: Float32[torch.Tensor, "bins coarse_rows coarse_columns"]


@dataclass(frozen=True)
class Crops:
    """Parts of sheets, turned and mirrored, and what the network should make of them.

    Parameters
    ----------
    images : float32 tensor, (n, side, side)
        As in `Sheet`.
    centres : float32 tensor, (n, side/2, side/2)
        1 at a particle's centre, falling off around it; NaN where nothing is known.
    sizes : float32 tensor, (n, bins, side/8, side/8)
        As in `Sheet`.
    """

    images: Float32[torch.Tensor, "n rows columns"]
    centres: Float32[torch.Tensor, "n fine_rows fine_columns"]
    sizes: Float32[torch.Tensor, "n bins coarse_rows coarse_columns"]


def load_sheet(micrograph: Micrograph, model: Model, diameter: float) -> Sheet:
    """Return a micrograph as the model sees it at a particle diameter in Å."""
    network = model.network if model.place.type == "cpu" else copy.deepcopy(model.network).to(model.place)
    assert isinstance(network, DenseNetwork)
    prepared, grid = prepare_image(micrograph, diameter, model.prepare)
    image = network.extended(torch.from_numpy(prepared)).to(model.place)
    with torch.inference_mode():
        sizes = network.coarse_maps(image[None])[0]
    return Sheet(image, grid, sizes.clone())


def target(
    sheet: Sheet, sure: Float[np.ndarray, "n 2"], unknown: Float[np.ndarray, "m 2"], diameter: float
) -> Float32[torch.Tensor, "rows columns"]:
    """Return the map of centres that the network should draw.

    Parameters
    ----------
    sheet : Sheet
        The micrograph.
    sure, unknown : float array, (n, 2) and (m, 2)
        Positions (x, y) in the micrograph of particles, and of what may be particles or not.
    diameter : float
        Of the particle, in working pixels.
    """
    shape = tuple(sheet.image.shape)
    near = _distances(sheet.grid.indices(sure), shape)
    centres = np.exp(-0.5 * (near / (_SIGMA * diameter)) ** 2).astype(np.float32)
    masked = (_distances(sheet.grid.indices(unknown), shape) <= _MASKED * diameter) & (centres < 0.1)
    centres[masked] = np.nan
    return torch.from_numpy(centres).to(sheet.image.device)


def _distances(points: Float[np.ndarray, "n 2"], shape: tuple[int, ...]) -> Float[np.ndarray, "rows columns"]:
    """Return how far each place of the map of centres is from the next point."""
    rows, columns = (np.arange(0.5 * (_FINE - 1), side, _FINE) for side in shape)
    if len(points) == 0:
        return np.full((len(rows), len(columns)), _FAR)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1)
    return np.asarray(cKDTree(points).query(grid)[0])


def draw_crops(
    sheets: Sequence[Sheet], targets: Sequence[torch.Tensor], side: int, number: int, rng: np.random.Generator
) -> Crops:
    """Return random crops of at most ``side`` working pixels, square, of sheets that are all equally likely."""
    side = min(side, *(length for sheet in sheets for length in sheet.image.shape)) // 16 * 16
    parts = []
    for index in rng.integers(len(sheets), size=number):
        sheet = sheets[index]
        top, left = (int(rng.integers((length - side) // _COARSE + 1)) * _COARSE for length in sheet.image.shape)
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        maps = ((sheet.image, 1), (targets[index], _FINE), (sheet.sizes, _COARSE))
        parts.append(
            [
                _turned(
                    whole[..., top // step : (top + side) // step, left // step : (left + side) // step], turns, mirror
                )
                for whole, step in maps
            ]
        )
    images, centres, sizes = (torch.stack(part) for part in zip(*parts, strict=True))
    return Crops(images, centres, sizes)


def _turned(part: torch.Tensor, turns: int, mirror: bool) -> torch.Tensor:
    return torch.rot90(part.transpose(-1, -2) if mirror else part, turns, (-2, -1))
