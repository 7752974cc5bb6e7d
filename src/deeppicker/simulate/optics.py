"""From the projected potential to what a camera records: contrast transfer, envelope, dose, detector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy import fft

from deeppicker.core import Ctf
from deeppicker.imaging.ctf import transfer as contrast_transfer

# Interaction constant, rad per volt and Å (Kirkland, Advanced Computing in Electron Microscopy, 2010, table 5.2).
_INTERACTION = {300.0: 6.53e-4, 200.0: 7.29e-4, 120.0: 8.64e-4}


@dataclass(frozen=True, kw_only=True)
class Optics:
    """What the microscope does to one micrograph."""

    pixel_size: float
    """Å."""
    ctf: Ctf
    """Its defocus and voltage; 300, 200 or 120 kV."""
    b_factor: float
    """Å²; the envelope is exp(-B q² / 4)."""
    dose: float
    """e/Å²."""

    @property
    def interaction(self) -> float:
        """Phase shift in rad for each volt and Å that the electron crosses."""
        return _INTERACTION[self.ctf.microscope.voltage]


def transfer(optics: Optics, shape: tuple[int, ...]) -> Float32[np.ndarray, "height half"]:
    """Return the contrast transfer on the frequencies of a real FFT: dark particles have negative values.

    At frequency q it is minus the sine of the phase (Wade, Ultramicroscopy 46, 1992), times the envelope.
    """
    envelope = np.exp(-0.25 * optics.b_factor * frequencies(shape, optics.pixel_size) ** 2)
    return np.asarray(-contrast_transfer(optics.ctf, shape, optics.pixel_size) * envelope, dtype=np.float32)


def image_of(
    phase: Float32[np.ndarray, "height width"], absorption: Float32[np.ndarray, "height width"], optics: Optics
) -> Float32[np.ndarray, "height width"]:
    """Return the expected intensity, 1 in empty space, of a weak phase object behind an absorber.

    Parameters
    ----------
    phase : float32 array, (height, width)
        Phase shift in rad.
    absorption : float32 array, (height, width)
        Natural logarithm of what is lost to scattering.
    optics : Optics
        The microscope.
    """
    spectrum = fft.rfft2(phase, workers=1) * transfer(optics, phase.shape)
    contrast = 2 * fft.irfft2(spectrum, phase.shape, workers=1)
    result: Float32[np.ndarray, "height width"] = np.maximum(1 + contrast, 0.05) * np.exp(-absorption)
    return result


def record(
    intensity: Float32[np.ndarray, "height width"], optics: Optics, blur: float, rng: np.random.Generator
) -> Float32[np.ndarray, "height width"]:
    """Return the counts of a detector: dose noise, seen through a point spread of ``blur`` pixels."""
    expected = intensity * (optics.dose * optics.pixel_size**2)
    counts = rng.poisson(expected).astype(np.float32)
    if blur <= 0:
        return counts
    squared = frequencies(intensity.shape, 1.0) ** 2
    spread = np.exp(-2 * math.pi**2 * blur**2 * squared)
    blurred: Float32[np.ndarray, "height width"] = fft.irfft2(fft.rfft2(counts) * spread, intensity.shape)
    return blurred


def frequencies(shape: tuple[int, ...], pixel_size: float) -> Float[np.ndarray, "height half"]:
    """Return the frequency in 1/Å of each coefficient of a real FFT."""
    rows, columns = fft.fftfreq(shape[0], pixel_size), fft.rfftfreq(shape[1], pixel_size)
    return np.asarray(np.hypot(rows[:, None], columns[None, :]), dtype=np.float32)


def random_field(
    shape: tuple[int, ...], exponent: float | int, shortest: float | int, rng: np.random.Generator
) -> Float32[np.ndarray, "height width"]:
    """Return Gaussian noise of unit deviation whose power falls as frequency**-exponent, without what is shorter.

    Parameters
    ----------
    shape : (int, int)
        Height and width.
    exponent : float
        0 for white noise; 2 to 4 for clouds.
    shortest : float
        Wavelength in pixels below which nothing is left.
    rng : Generator
        Randomness.
    """
    q = frequencies(shape, 1.0)
    q[0, 0] = q[0, 1]
    weight = q ** (-exponent / 2) * np.exp(-((q * shortest) ** 2))
    weight[0, 0] = 0
    field = fft.irfft2(fft.rfft2(rng.standard_normal(shape, dtype=np.float32)) * weight, shape)
    unit: Float32[np.ndarray, "height width"] = np.asarray(field / (field.std() + 1e-12), dtype=np.float32)
    return unit
