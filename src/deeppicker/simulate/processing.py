"""What programs do to micrographs before somebody picks them: filters, denoising, flattening, 8 bits."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage, signal

Image = Float32[np.ndarray, "height width"]


def lowpass(image: Image, sigma: float) -> Image:
    """Return the image after a Gaussian low-pass of ``sigma`` pixels."""
    return np.asarray(ndimage.gaussian_filter(image, sigma), dtype=np.float32)


def denoise(image: Image, size: int, strength: float) -> Image:
    """Return the image after an adaptive Wiener filter over ``size`` pixels (Lim 1990, as in SciPy).

    Where it varies little it becomes its local mean, where it varies much it stays; ``strength`` multiplies the
    variance that counts as noise.
    """
    noise = strength * float(
        np.median(ndimage.uniform_filter(image**2, size) - ndimage.uniform_filter(image, size) ** 2)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a constant neighbourhood
        smooth = signal.wiener(image.astype(np.float64), (size, size), noise=max(noise, 1e-9))
    return np.asarray(np.nan_to_num(smooth), dtype=np.float32)


def flatten(image: Image, sigma: float) -> Image:
    """Return the image without its local mean over ``sigma`` pixels."""
    return np.asarray(image - ndimage.gaussian_filter(image, sigma), dtype=np.float32)


def quantise(image: Image, levels: int = 256) -> Image:
    """Return the image in whole grey levels from 0, its extreme thousandth clipped."""
    low, high = np.percentile(image, [0.1, 99.9])
    scaled = (image - low) / max(float(high - low), 1e-12)
    return np.asarray(np.rint(np.clip(scaled, 0, 1) * (levels - 1)), dtype=np.float32)


def bordered(image: Image, rng: np.random.Generator) -> tuple[Image, Bool[np.ndarray, "height width"]]:
    """Return the image with edges as motion correction leaves them, and a mask of these.

    Rows and columns repeat the last good one or are constant; sometimes a small rotation leaves constant wedges.
    """
    image = image.copy()
    mask = np.zeros(image.shape, dtype=bool)
    constant = np.float32(rng.choice([0.0, image.mean(), image.min(), np.median(image)]))
    repeated = rng.random() < 0.6
    for side in range(4):  # turned so that each edge is the upper one in turn
        if rng.random() < 0.5:
            continue
        part, covered = np.rot90(image, side), np.rot90(mask, side)  # views
        depth = 1 + int(0.06 * rng.random() ** 2 * len(part))
        if repeated:
            part[:depth], covered[:depth] = part[depth], True
        else:
            slope = rng.choice([0.0, rng.uniform(0, 1)])
            edge = depth * (1 - slope * np.linspace(0, 1, part.shape[1]))
            wedge = np.arange(len(part))[:, None] < edge
            part[wedge], covered[wedge] = constant, True
    return image, mask


def process(image: Image, diameter: float, rng: np.random.Generator) -> tuple[Image, str]:
    """Return the image after a random choice of these steps, and their names.

    ``diameter`` is that of the particle in pixels; no filter is so strong that it takes the particle away.
    """
    steps: list[str] = []
    image = (image - image.mean()) / (image.std() + 1e-12)
    if rng.random() < 0.3:
        image, steps = flatten(image, diameter * rng.uniform(1.5, 6)), [*steps, "flatten"]
    if rng.random() < 0.4:
        image, steps = lowpass(image, diameter * rng.uniform(0.01, 0.07)), [*steps, "lowpass"]
    if rng.random() < 0.4:
        size = 2 * int(rng.integers(1, max(2, int(diameter / 12)) + 1)) + 1
        image, steps = denoise(image, size, rng.uniform(0.5, 2)), [*steps, "denoise"]
    if rng.random() < 0.5:
        image, steps = quantise(image, int(rng.choice([64, 256, 256]))), [*steps, "quantise"]
    return image, "+".join(steps) or "none"
