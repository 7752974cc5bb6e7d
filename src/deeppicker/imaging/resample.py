"""Resample an image with anti-aliasing, strip by strip."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch.nn import functional

from deeppicker.core import Grid

_STRIP = 512  # rows of a micrograph that are resampled at a time: bounds memory, and stays in the cache
_BAND = 16  # rows of the result that are computed at a time, from the same rows of the micrograph


def resample(
    image: Float32[np.ndarray, "height width"], scale: float, limits: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[Float32[np.ndarray, "rows columns"], Grid]:
    """Return the image magnified by ``scale`` with anti-aliasing, and where its pixels lie in the original.

    The result is that of PyTorch's bicubic interpolation with anti-aliasing. It is computed strip by strip, so that the
    clipped image is never held, and first along y, where products with small matrices are fast.

    Parameters
    ----------
    image : float32 array, (height, width)
        Any scale and offset.
    scale : float
        Working pixels to a pixel of the image.
    limits : (float, float)
        Pixels outside are moved to the nearer one first.
    """
    height, width = image.shape
    bands = _bands(height, scale)
    result = np.empty((bands[-1].stop, int(width * scale)), dtype=np.float32)
    number = max(1, int(_STRIP * scale / _BAND))
    groups = [bands[start : start + number] for start in range(0, len(bands), number)]
    # Memory that is used again for every strip stays in the cache.
    clipped = np.empty((max(group[-1].last - group[0].first for group in groups), width), dtype=np.float32)
    short = torch.empty((number * _BAND, width))
    for group in groups:
        top, start, stop = group[0].first, group[0].start, group[-1].stop
        strip = np.clip(
            image[top : group[-1].last],
            np.float32(limits[0]),
            np.float32(limits[1]),
            out=clipped[: group[-1].last - top],
        )
        source = torch.from_numpy(strip)
        for band in group:
            place = short[band.start - start : band.stop - start]
            torch.mm(band.weights, source[band.first - top : band.last - top], out=place)
        narrow = functional.interpolate(
            short[None, None, : stop - start],
            scale_factor=(1.0, scale),
            mode="bicubic",
            antialias=True,
            recompute_scale_factor=False,  # keep the exact scale: the same step along x and y for any image size
        )
        result[start:stop] = narrow[0, 0].numpy()
    step = 1 / scale
    return result, Grid((0.5 * step - 0.5, 0.5 * step - 0.5), step)


class _Band(NamedTuple):
    """Some successive rows of a magnified image: from which rows of the image they come, with which weights."""

    start: int
    stop: int
    first: int
    last: int
    weights: Float32[torch.Tensor, "rows sources"]


@lru_cache(maxsize=8)  # the micrographs of a run have one size
def _bands(length: int, scale: float) -> tuple[_Band, ...]:
    """Return how ``length`` rows are magnified: by cubic convolution (Keys 1981), widened where they are reduced."""
    stretch = max(1.0, 1 / scale)
    centres = (np.arange(int(length * scale)) + 0.5) / scale
    first = np.maximum(0, (centres - 2 * stretch + 0.5).astype(int))
    last = np.minimum(length, (centres + 2 * stretch + 0.5).astype(int))
    bands = []
    # All bands have as many rows: one of a single row would be rounded otherwise, and so for each number of threads.
    for start in range(0, len(centres), _BAND):
        part = slice(max(0, min(start, len(centres) - _BAND)), start + _BAND)
        sources = np.arange(first[part][0], last[part][-1])
        weights = _cubic((sources + 0.5 - centres[part, None]) / stretch)
        weights[(sources < first[part, None]) | (sources >= last[part, None])] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        table = torch.from_numpy(weights.astype(np.float32))
        bands.append(_Band(part.start, part.start + len(table), int(sources[0]), int(sources[-1]) + 1, table))
    return tuple(bands)


def _cubic(x: Float[np.ndarray, "rows sources"]) -> Float[np.ndarray, "rows sources"]:
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
