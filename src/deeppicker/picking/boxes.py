"""The surroundings of candidates, cut from a prepared micrograph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32

_AT_ONCE = 256  # boxes that are in memory


def cut_boxes(
    image: Float32[np.ndarray, "height width"], places: Float[np.ndarray, "n 2"], reach: int
) -> Iterator[Float32[np.ndarray, "m side side"]]:
    """Yield the boxes around places, in their order, so many at a time.

    Parameters
    ----------
    image : float32 array, (height, width)
        A prepared micrograph.
    places : float array, (n, 2)
        x and y in its pixels; those too close to its edge for a box count as a little further inside.
    reach : int
        Pixels of a box on each side of the middle one.
    """
    side = 2 * reach + 1
    last = np.array(image.shape[::-1]) - side
    left, top = np.clip(np.rint(places).astype(np.int64) - reach, 0, last).T
    boxes = np.lib.stride_tricks.sliding_window_view(image, (side, side))
    for start in range(0, len(places), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        yield boxes[top[some], left[some]]
