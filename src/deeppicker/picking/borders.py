"""Find the blank borders of a micrograph: what motion correction leaves where frames do not overlap.

Programs fill such borders by repeating the last row or column, or with one value; shifted and turned frames leave
wedges. Nothing real lies there, yet a network finds particles in the stripes. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy import ndimage

_STRETCH = 15  # pixels side by side that must repeat together; in quantised noise single ones do so by chance


@dataclass(frozen=True)
class Borders:
    """How many pixels deep the blank border is at each edge.

    Parameters
    ----------
    top, bottom : int array, (width,)
        For each column.
    left, right : int array, (height,)
        For each row.
    """

    top: Int[np.ndarray, " width"]
    bottom: Int[np.ndarray, " width"]
    left: Int[np.ndarray, " height"]
    right: Int[np.ndarray, " height"]

    def inside(self, positions: Float[np.ndarray, "n 2"], distance: float) -> Bool[np.ndarray, " n"]:
        """Return which positions (x, y) are at least ``distance`` pixels inside what is not blank, along x and y."""
        columns, rows = positions.T
        limits = [
            (rows, self.top, columns),
            (len(self.left) - 1 - rows, self.bottom, columns),
            (columns, self.left, rows),
            (len(self.top) - 1 - columns, self.right, rows),
        ]
        kept = [depth >= _deepest_near(blank, along, distance) + distance for depth, blank, along in limits]
        return np.asarray(np.all(kept, axis=0))


def find_borders(image: Float32[np.ndarray, "height width"]) -> Borders:
    """Return the borders in which the outermost row or column repeats exactly, or whose values are all the same."""
    return Borders(_depths(image), _depths(image[::-1]), _depths(image.T), _depths(image.T[::-1]))


def _depths(image: Float32[np.ndarray, "rows columns"]) -> Int[np.ndarray, " columns"]:
    """Return for each column how many rows, from the first one down, repeat it; 0 where none does."""
    depths = np.zeros(image.shape[1], dtype=np.int64)
    stretch = min(_STRETCH, image.shape[1])
    repeats = np.ones(image.shape[1], dtype=bool)
    for row in range(1, len(image)):
        repeats &= image[row] == image[0]
        repeats = ndimage.binary_opening(repeats, np.ones(stretch, dtype=bool))
        if not repeats.any():
            break
        depths[repeats] = row + 1
    return depths


def _deepest_near(
    depths: Int[np.ndarray, " length"], places: Float[np.ndarray, " n"], distance: float
) -> Int[np.ndarray, " n"]:
    """Return the greatest of the depths within a distance of each place along an edge."""
    deepest = ndimage.maximum_filter1d(depths, 2 * int(distance) + 1)
    nearest = np.clip(np.rint(places), 0, len(depths) - 1).astype(np.int64)
    return np.asarray(deepest[nearest])
