"""Make images comparable: clip outliers, remove the trend, flatten the background and its contrast."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy import ndimage
from torch.nn import functional

_MAD_TO_SIGMA = 1.4826  # standard deviation of a normal distribution whose median absolute deviation is 1
_SAMPLES = 1_000_000  # pixels from which the median and its deviation are estimated
_TREND_SAMPLES = 40_000  # pixels to which the trend of a micrograph is fitted
_TREND_POWERS = ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0))  # of y and x
_TREND_PASSES = 4  # fits, each without the outliers of the one before
_COARSE = 8  # the local mean and deviation vary over a box, so they are computed on an image binned this much


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
