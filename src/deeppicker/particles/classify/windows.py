"""Particles as images of one size and contrast, with what the microscope transferred of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy import fft

from deeppicker.core import BOX_DIAMETERS, Ctf, Micrograph
from deeppicker.imaging.ctf import phase
from deeppicker.imaging.normalise import clip_outliers, flatten
from deeppicker.imaging.resample import resample
from deeppicker.particles.ctf import flip_phases

BOX = BOX_DIAMETERS
"""Side of a window in particle diameters."""
MASK = 0.6
"""Radius in particle diameters beyond which nothing counts for the alignment."""

_CLIP = 6.0  # robust standard deviations
_OVERSAMPLING = 8  # frequencies in each ring at which the transfer is averaged
_RAMP = 3.0  # pixels over which masks fall off


@dataclass(frozen=True)
class Windows:
    """Particles in windows of 1.5 diameters.

    Parameters
    ----------
    images : float32 array, (n, side, side)
        Particles bright; the background around them has zero mean and unit deviation.
    group : int array, (n,)
        The micrograph of each.
    transfer : float32 array, (groups, side // 2 + 1)
        What part of the contrast each ring of frequencies of a micrograph holds; ones where that is not known.
    """

    images: Float32[np.ndarray, "n side side"]
    group: Int[np.ndarray, " n"]
    transfer: Float32[np.ndarray, "groups rings"]

    def __len__(self) -> int:
        return len(self.images)


def join(parts: list[tuple[Float32[np.ndarray, "n side side"], Float32[np.ndarray, " rings"]]]) -> Windows:
    """Return the windows of several micrographs as one set."""
    numbers = [len(images) for images, _ in parts]
    return Windows(
        np.concatenate([images for images, _ in parts]),
        np.repeat(np.arange(len(parts)), numbers),
        np.stack([transfer for _, transfer in parts]),
    )


def cut(
    micrograph: Micrograph,
    positions: Float[np.ndarray, "n 2"],
    diameter: float,
    side: int,
    ctf: Ctf | None = None,
) -> tuple[Float32[np.ndarray, "n side side"], Float32[np.ndarray, " rings"]]:
    """Return windows around positions in a micrograph, and the transfer of their frequencies.

    Parameters
    ----------
    micrograph : Micrograph
        Particles dark.
    positions : float array, (n, 2)
        Centres; they come to lie within half a pixel of index ``side // 2``. At the edge the micrograph is mirrored.
    diameter : float
        Particle diameter in Å.
    side : int
        Pixels of a window along each side.
    ctf : Ctf, optional
        If known, the phases of the whole micrograph are flipped: what defocus spreads beyond a window comes back.
    """
    pixel_size = BOX * diameter / side
    transfer = np.ones(side // 2 + 1, dtype=np.float32)
    micrograph = Micrograph(micrograph.name, clip_outliers(micrograph.image, _CLIP), micrograph.pixel_size)
    if ctf is not None:
        micrograph = flip_phases(micrograph, ctf)
        transfer = _rings_of(ctf, side, pixel_size)
    image, grid = resample(micrograph.image, micrograph.pixel_size / pixel_size)
    image = np.pad(-flatten(image, 1.0 * side, _CLIP), side, mode="symmetric")
    corners = np.rint(grid.indices(positions)).astype(np.int64) + side - side // 2
    corners = np.clip(corners, 0, [image.shape[1] - side, image.shape[0] - side])
    views = np.lib.stride_tricks.sliding_window_view(image, (side, side))
    return normalised(views[corners[:, 1], corners[:, 0]]), transfer


def normalised(images: Float32[np.ndarray, "n side side"]) -> Float32[np.ndarray, "n side side"]:
    """Return windows whose corners, where the particle is not, have zero mean and unit deviation."""
    outside = radii(images.shape[-1]) > 0.5 * images.shape[-1] - 1
    values = images[:, outside]
    mean = values.mean(axis=1)[:, None, None]
    deviation = np.maximum(values.std(axis=1), 1e-3 * images.std() + 1e-6)[:, None, None]
    return np.asarray((images - mean) / deviation, dtype=np.float32)


def radii(side: int) -> Float32[np.ndarray, "side side"]:
    """Return the distance of each pixel from the centre of a window."""
    line = np.arange(side, dtype=np.float32) - side // 2
    return np.hypot(line[:, None], line[None, :])


def disc(side: int, diameters: float) -> Float32[np.ndarray, "side side"]:
    """Return a disc of a radius in particle diameters, with a soft edge."""
    inside = (diameters * side / BOX - radii(side)) / _RAMP
    return np.asarray(0.5 + 0.5 * np.sin(0.5 * np.pi * np.clip(2 * inside + 1, -1, 1)), dtype=np.float32)


def _rings_of(ctf: Ctf, side: int, pixel_size: float) -> Float32[np.ndarray, " rings"]:
    rings = side // 2 + 1
    fine = (np.arange(rings * _OVERSAMPLING) + 0.5) / _OVERSAMPLING - 0.5
    q = np.abs(fine) / (side * pixel_size)
    values = np.abs(np.sin(phase(ctf.microscope, q, np.full(len(q), ctf.defocus))))
    return np.asarray(values.reshape(rings, -1).mean(axis=1), dtype=np.float32)


def spectrum_rings(side: int) -> Int[np.ndarray, "side half"]:
    """Return the ring of frequencies that each coefficient of a real FFT belongs to."""
    frequency = np.hypot(fft.fftfreq(side, 1 / side)[:, None], fft.rfftfreq(side, 1 / side)[None, :])
    return np.asarray(np.rint(frequency), dtype=np.int64)
