"""The contrast transfer function, as torch-ctf computes it (Rohou & Grigorieff, J. Struct. Biol. 192, 2015, 216)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch_ctf import calculate_ctf_2d, calculate_total_phase_shift

from deeppicker.core import Ctf, Microscope


def phase(
    microscope: Microscope, frequency: Float[np.ndarray, ...], defocus: Float[np.ndarray, ...]
) -> Float[np.ndarray, ...]:
    """Return the phase in rad, whose sine is the transfer, at frequencies in 1/Å for defocus in µm."""
    negative = calculate_total_phase_shift(
        defocus_um=torch.from_numpy(defocus),
        voltage_kv=torch.tensor(microscope.voltage),
        spherical_aberration_mm=torch.tensor(microscope.spherical_aberration),
        phase_shift_degrees=torch.tensor(microscope.phase_shift),
        amplitude_contrast_fraction=torch.tensor(microscope.amplitude_contrast),
        fftfreq_grid_angstrom_squared=torch.from_numpy(frequency**2),
    )
    result: Float[np.ndarray, ...] = -negative.numpy()
    return result


def transfer(ctf: Ctf, shape: tuple[int, ...], pixel_size: float) -> Float32[np.ndarray, "height half"]:
    """Return the contrast transfer on the frequencies of a real FFT.

    It is positive at low frequency: multiplied by it, an image keeps its contrast.
    """
    microscope = ctf.microscope
    values = calculate_ctf_2d(
        defocus=torch.tensor(ctf.defocus),
        astigmatism=torch.tensor(0.5 * (ctf.defocus_u - ctf.defocus_v)),
        astigmatism_angle=torch.tensor(ctf.angle),
        voltage=microscope.voltage,
        spherical_aberration=microscope.spherical_aberration,
        amplitude_contrast=microscope.amplitude_contrast,
        phase_shift=microscope.phase_shift,
        pixel_size=pixel_size,
        image_shape=(shape[0], shape[1]),
        rfft=True,
        fftshift=False,
    ).numpy()
    return np.asarray(values if values[0, 0] > 0 else -values, dtype=np.float32)
