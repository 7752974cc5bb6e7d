"""Bring a micrograph to the working scale of a network: low-pass, resample, normalise (Section 4.1)."""

from __future__ import annotations

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
_TREND_PASSES = 4  # fits, each without the outliers of the one before
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
    image, grid = resample(clip_outliers(micrograph.image, config.clip), scale)
    deviation = deviations(image)
    if config.lowpass > 0:
        image = ndimage.gaussian_filter(image, config.lowpass, mode="nearest")
    image = flatten(image, config.background * config.window, config.clip)
    margin = config.window // 2
    padded, padded_deviation = (np.pad(part, margin, mode="symmetric") for part in (image, deviation))
    return Prepared(padded, grid.derive((-float(margin), -float(margin)), 1.0), padded_deviation)


def clip_outliers(image: Float32[np.ndarray, "height width"], limit: float) -> Float32[np.ndarray, "height width"]:
    """Return the image with pixels beyond ``limit`` robust standard deviations of the median moved to that limit."""
    stride = max(1, int(np.sqrt(image.size / _SAMPLES)))
    sample = image[::stride, ::stride]
    median = float(np.median(sample))
    sigma = _MAD_TO_SIGMA * float(np.median(np.abs(sample - median))) or float(sample.std())
    if sigma == 0:  # nothing but a few outliers on a constant image
        sigma = float(image.std())
    clipped: Float32[np.ndarray, "height width"] = np.clip(image, median - limit * sigma, median + limit * sigma)
    return clipped


def resample(
    image: Float32[np.ndarray, "height width"], scale: float
) -> tuple[Float32[np.ndarray, "rows columns"], Grid]:
    """Return the image magnified by ``scale`` with anti-aliasing, and where its pixels lie in the original."""
    resized = functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(image))[None, None],
        scale_factor=scale,
        mode="bicubic",
        antialias=True,
        recompute_scale_factor=False,  # keep the exact scale: the same step along x and y for any image size
    )
    step = 1 / scale
    return resized[0, 0].numpy(), Grid((0.5 * step - 0.5, 0.5 * step - 0.5), step)


def deviations(image: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
    """Return the difference of each pixel from a quadratic trend, in robust standard deviations of these differences.

    The trend follows ice thickness and illumination, and leaves ice crystals, gold and carbon edges as they are.
    """
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in image.shape)
    terms = [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0)]  # powers of y and x
    stride = max(1, int(np.sqrt(image.size / _TREND_SAMPLES)))
    rows, columns = y[::stride, None], x[None, ::stride]
    design = np.stack([(rows**i * columns**j).ravel() for i, j in terms], axis=1)
    values = image[::stride, ::stride].ravel()
    usual = np.ones(values.shape, dtype=bool)
    for _ in range(_TREND_PASSES):
        weights, *_ = np.linalg.lstsq(design[usual], values[usual], rcond=None)
        rest = np.abs(values - design @ weights)
        usual = rest <= 3 * _MAD_TO_SIGMA * np.median(rest)
    difference = image.copy()
    for (i, j), weight in zip(terms, weights, strict=True):
        difference -= weight * y[:, None] ** i * x[None, :] ** j
    sample = difference[::stride, ::stride]
    difference -= np.median(sample)
    sigma = _MAD_TO_SIGMA * float(np.median(np.abs(sample))) or 1.0
    difference /= np.float32(sigma)
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
    overall = float(flat.square().mean().sqrt())
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
