"""Large images tile by tile, so that memory is bounded and the result is that of the whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

Image = Float32[np.ndarray, "height width"]
Map = Float32[np.ndarray, "rows columns"]


def sweep(
    image: Image, window: int, step: int, tile: int, score: Callable[[torch.Tensor], torch.Tensor], device: torch.device
) -> Map:
    """Return the scores of all windows that begin at multiples of ``step``.

    Parameters
    ----------
    image : float32 array, (height, width)
        At least as large as a window.
    window, step, tile : int
        Sides of a window and of a tile, and the distance of neighbouring windows, in pixels.
    score : callable
        Returns the scores of all windows of a tile.
    device : torch.device
        Where it wants the tile.
    """
    height, width = image.shape
    scores = np.empty(((height - window) // step + 1, (width - window) // step + 1), dtype=np.float32)
    side = max(1, (tile - window) // step + 1)  # positions along a tile
    pixels = torch.from_numpy(image)
    for row in range(0, scores.shape[0], side):
        for column in range(0, scores.shape[1], side):
            part = scores[row : row + side, column : column + side]
            top, left = row * step, column * step
            bottom = top + (part.shape[0] - 1) * step + window
            right = left + (part.shape[1] - 1) * step + window
            part[:] = score(pixels[top:bottom, left:right].to(device)).cpu().numpy()
    return scores


class Reach(NamedTuple):
    """What a network that maps whole images must see of them for the map of a tile, in pixels."""

    multiple: int
    """Tiles begin and end at multiples of this."""
    halo: int
    """How far beyond the tile, at most, lies what its map depends on."""
    least: int
    """Side that is shown at least, where the image has it."""

    def seen(self, start: int, side: int, length: int) -> tuple[int, int]:
        """Return where, along one axis, begins and ends what is shown for a tile of ``side`` at ``start``."""
        last = min(-(-length // self.multiple) * self.multiple, start + side + self.halo)
        return max(0, min(start - self.halo, last - self.least)), last


def draw(
    image: Image,
    blocks: Sequence[int],
    tile: int,
    reach: Reach,
    maps: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    device: torch.device,
) -> list[Map]:
    """Return maps of an image that is extended to multiples, each with a value for each block of so many pixels.

    Parameters
    ----------
    image : float32 array, (height, width)
        The image.
    blocks : sequence of int
        Sides of the blocks of each map.
    tile : int
        Side of the largest tile, rounded down to a multiple; tiles are about equally large, which takes least memory.
    reach : Reach
        What is shown for each tile.
    maps : callable
        Returns the maps of a part of the image.
    device : torch.device
        Where it wants the part.
    """
    height, width = image.shape
    rows, columns = (-(-length // reach.multiple) * reach.multiple for length in image.shape)
    drawn = [np.empty((rows // block, columns // block), dtype=np.float32) for block in blocks]
    tall, wide = (_even(length, max(1, tile // reach.multiple), reach.multiple) for length in image.shape)
    pixels = torch.from_numpy(image)
    for top, left in itertools.product(range(0, height, tall), range(0, width, wide)):
        first_row, last_row = reach.seen(top, tall, height)
        first_column, last_column = reach.seen(left, wide, width)
        shown = pixels[first_row:last_row, first_column:last_column].to(device)
        for target, part, block in zip(drawn, maps(shown), blocks, strict=True):
            inside = target[top // block : (top + tall) // block, left // block : (left + wide) // block]
            row, column = (top - first_row) // block, (left - first_column) // block
            inside[:] = part.cpu().numpy()[row : row + inside.shape[0], column : column + inside.shape[1]]
    return drawn


def _even(length: int, most: int, multiple: int) -> int:
    """Return the side of equal tiles along ``length``, as few as there can be of up to ``most`` multiples."""
    multiples = -(-length // multiple)
    number = -(-multiples // most)
    return -(-multiples // number) * multiple
