"""Noise that resembles micrographs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float32
from scipy import fft

from deeppicker.core import Micrograph


def without_structure(micrograph: Micrograph, rng: np.random.Generator) -> Micrograph:
    """Return noise that resembles a micrograph in its spectrum alone: a micrograph without any particle.

    The Fourier phases are random. The amplitudes are those of the micrograph raised to a random power between 0
    (white noise, as of an empty detector) and a half (towards the texture of the micrograph itself).
    """
    return replace(micrograph, image=coloured_noise(micrograph.image, 0.5 * rng.uniform(), rng))


def coloured_noise(
    image: Float32[np.ndarray, "height width"], power: float, rng: np.random.Generator
) -> Float32[np.ndarray, "height width"]:
    """Return noise of unit deviation whose amplitude spectrum is that of an image raised to a power."""
    amplitude = np.abs(fft.rfft2(image))
    amplitude[0, 0] = 0
    noise = fft.rfft2(rng.standard_normal(image.shape, dtype=np.float32))
    shaped = fft.irfft2(noise * amplitude ** np.float32(power), image.shape)
    return np.ascontiguousarray(shaped / shaped.std(), dtype=np.float32)
