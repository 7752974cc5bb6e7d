"""Bring a micrograph to the working scale of a network: low-pass, resample, normalise (Section 4.1)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy import ndimage
from torch.nn import functional

from deeppicker.config import PrepareConfig
from deeppicker.core import Grid, Micrograph, Prepared
from deeppicker.errors import InputError

_MAD_TO_SIGMA = 1.4826  # standard deviation of a normal distribution whose median absolute deviation is 1
_SAMPLES = 1_000_000  # pixels from which the median and its deviation are estimated
_TREND_SAMPLES = 40_000  # pixels to which the trend of a micrograph is fitted
_TREND_POWERS = ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0))  # of y and x
_TREND_PASSES = 4  # fits, each without the outliers of the one before
_STRIP = 512  # rows of a micrograph that are resampled at a time: bounds memory, and stays in the cache
_BAND = 16  # rows of the result that are computed at a time, from the same rows of the micrograph
_COARSE = 8  # the local mean and deviation vary over a box, so they are computed on an image binned this much
_MAX_SCALE = 4.0  # a particle of 11 px; smaller ones are a wrong unit or pixel size
_MAX_PREPARED = 32_768  # working pixels along a side: more than any camera needs at the smallest sensible box


def box_pixels(diameter: float, pixel_size: float, config: PrepareConfig) -> float:
    """Return the side of the box in micrograph pixels, for a particle diameter in Å and a pixel size in Å."""
    return config.box_diameters * diameter / pixel_size


def prepare(micrograph: Micrograph, diameter: float, config: PrepareConfig) -> Prepared:
    """Return the micrograph scaled so that one box spans ``config.window`` pixels, flat and of unit contrast.

    The result extends half a window beyond the micrograph on every side (mirrored), so that every position of the
    micrograph is the centre of a whole window, also in micrographs smaller than one box.

    Parameters
    ----------
    micrograph : Micrograph
        The stored image.
    diameter : float
        Particle diameter in Å.
    config : PrepareConfig
        The preparation with which the network was trained.

    Raises
    ------
    InputError
        If the diameter cannot belong to this micrograph.
    """
    image, grid = _scaled(micrograph, diameter, config)
    deviation = np.pad(deviations(image), config.window // 2, mode="symmetric")
    return Prepared(_normalised(image, config), _framed(grid, config), deviation)


def prepare_image(
    micrograph: Micrograph, diameter: float, config: PrepareConfig
) -> tuple[Float32[np.ndarray, "rows columns"], Grid]:
    """Return the image of what `prepare` returns, and its grid, for those who do not ask for deviations."""
    image, grid = _scaled(micrograph, diameter, config)
    return _normalised(image, config), _framed(grid, config)


def _scaled(
    micrograph: Micrograph, diameter: float, config: PrepareConfig
) -> tuple[Float32[np.ndarray, "rows columns"], Grid]:
    """Return the micrograph without outliers, scaled so that one box spans ``config.window`` pixels."""
    box = box_pixels(diameter, micrograph.pixel_size, config)
    scale = config.window / box if box else np.inf
    sides = [side * scale for side in micrograph.image.shape]
    # A particle larger than the micrograph cannot be in it.
    if not (0 < scale <= _MAX_SCALE and min(sides) >= config.diameter_pixels and max(sides) <= _MAX_PREPARED):
        raise InputError(
            f"{micrograph.name}: a particle diameter of {diameter:g} Å at {micrograph.pixel_size:g} Å per pixel "
            f"is {diameter / micrograph.pixel_size:g} px in a micrograph of "
            f"{micrograph.image.shape[1]}×{micrograph.image.shape[0]} px; "
            "check --diameter and --pixel-size"
        )
    return resample(micrograph.image, scale, outlier_limits(micrograph.image, config.clip))


def _normalised(
    image: Float32[np.ndarray, "height width"], config: PrepareConfig
) -> Float32[np.ndarray, "rows columns"]:
    """Return the image flat and of unit contrast, with half a window more on every side."""
    if config.lowpass > 0:
        image = ndimage.gaussian_filter(image, config.lowpass, mode="nearest")
    flat = flatten(image, config.background * config.window, config.clip)
    return np.pad(flat, config.window // 2, mode="symmetric")


def _framed(grid: Grid, config: PrepareConfig) -> Grid:
    margin = float(config.window // 2)
    return grid.derive((-margin, -margin), 1.0)


def clip_outliers(image: Float32[np.ndarray, "height width"], limit: float) -> Float32[np.ndarray, "height width"]:
    """Return the image with pixels beyond ``limit`` robust standard deviations of the median moved to that limit."""
    clipped: Float32[np.ndarray, "height width"] = np.clip(image, *outlier_limits(image, limit))
    return clipped


def outlier_limits(image: Float32[np.ndarray, "height width"], limit: float) -> tuple[float, float]:
    """Return the values that lie ``limit`` robust standard deviations below and above the median."""
    stride = max(1, int(np.sqrt(image.size / _SAMPLES)))
    sample = image[::stride, ::stride].ravel()
    median = _median(sample)
    sigma = _MAD_TO_SIGMA * _median(np.abs(sample - np.float32(median))) or float(sample.std())
    if sigma == 0:  # nothing but a few outliers on a constant image
        sigma = float(image.std())
    return median - limit * sigma, median + limit * sigma


def _median(values: Float32[np.ndarray, " n"]) -> float:
    """Return the median as `numpy.median` does, which takes several times as long."""
    middle = len(values) // 2
    parted = np.partition(values, middle)
    upper = parted[middle]
    lower = upper if len(values) % 2 else parted[:middle].max()
    return float(np.float32(0.5) * lower + np.float32(0.5) * upper)


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


def deviations(image: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
    """Return the difference of each pixel from a quadratic trend, in robust standard deviations of these differences.

    The trend follows ice thickness and illumination, and leaves ice crystals, gold and carbon edges as they are.
    """
    y, x = (np.linspace(-1, 1, side) for side in image.shape)
    stride = max(1, int(np.sqrt(image.size / _TREND_SAMPLES)))
    rows, columns = np.meshgrid(y[::stride], x[::stride], indexing="ij")
    terms = np.stack([(rows**i * columns**j).ravel() for i, j in _TREND_POWERS])
    values = image[::stride, ::stride].ravel()
    usual = np.ones(values.shape, dtype=bool)
    for _ in range(_TREND_PASSES):
        used = terms * usual
        # Normal equations: six terms on -1 to 1 are well conditioned, and this is many times as fast as on all pixels.
        normal, right_side = np.einsum("in,jn->ij", used, terms), np.einsum("in,n->i", used, values)
        weights, *_ = np.linalg.lstsq(normal, right_side, rcond=None)
        rest = np.abs(values - np.einsum("t,tn->n", weights, terms)).astype(np.float32)
        usual = rest <= np.float32(3 * _MAD_TO_SIGMA * _median(rest))
    difference = image.copy()
    for power in range(3):  # of x; what belongs to it depends on y only
        factor = np.sum([w * y**i for (i, j), w in zip(_TREND_POWERS, weights, strict=True) if j == power], axis=0)
        difference -= factor.astype(np.float32)[:, None] * (x**power).astype(np.float32)
    sample = difference[::stride, ::stride].ravel()
    middle = np.float32(_median(sample))
    sigma = np.float32(_MAD_TO_SIGMA * _median(np.abs(sample - middle)) or 1.0)
    difference -= middle
    difference /= sigma
    return difference


def flatten(
    image: Float32[np.ndarray, "height width"], sigma: float, limit: float
) -> Float32[np.ndarray, "height width"]:
    """Subtract the local mean and divide by the local standard deviation.

    Parameters
    ----------
    image : float32 array, (height, width)
        Any scale and offset.
    sigma : float
        Standard deviation of the Gaussian neighbourhood in pixels.
    limit : float
        Values beyond this many standard deviations are moved to it.
    """
    tensor = torch.from_numpy(image)[None, None]
    flat = tensor - _smooth(tensor, sigma)
    # NumPy's mean is the same for any number of threads, PyTorch's is not.
    overall = math.sqrt(float(flat.square().numpy().mean()))
    # A featureless region (empty frame, saturated edge) must not be blown up into noise of full contrast.
    local = _smooth(flat.square(), sigma).clamp_min((0.1 * overall) ** 2 + 1e-30).sqrt()
    return (flat / local).clamp_(-limit, limit)[0, 0].numpy()


def _smooth(image: Float[torch.Tensor, "1 1 height width"], sigma: float) -> Float[torch.Tensor, "1 1 height width"]:
    """Return the Gaussian local mean, computed on a coarser image."""
    height, width = image.shape[-2:]
    coarse = functional.avg_pool2d(image, _COARSE, ceil_mode=True, count_include_pad=False)
    smooth = ndimage.gaussian_filter(coarse[0, 0].numpy(), sigma / _COARSE, mode="reflect")
    fine = functional.interpolate(torch.from_numpy(smooth)[None, None], scale_factor=float(_COARSE), mode="bilinear")
    return fine[..., :height, :width]
