"""Particles as images of one size and contrast, with what the microscope transferred of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy import fft
from scipy.spatial import cKDTree

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
_OWN = 0.4  # diameters from its centre within which everything belongs to a particle
_EMPTY = 0.5  # diameters from every pick beyond which there is background
_SAME = 1.0  # pixels; closer than this two positions are the same pick
_BACKGROUND = 0.1  # part of a window that is enough background to measure it there


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


def join(parts: list[tuple[Float32[np.ndarray, "_ side side"], Float32[np.ndarray, " rings"]]]) -> Windows:
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
    neighbours: Float[np.ndarray, "m 2"] | None = None,
) -> tuple[Float32[np.ndarray, "n side side"], Float32[np.ndarray, " rings"]]:
    """Return windows around positions in a micrograph, and the transfer of their frequencies.

    What is closer to another pick than to the middle of a window belongs to a neighbour, and is replaced by background.

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
    neighbours : float array, (m, 2), optional
        All picks of the micrograph; default: the positions.
    """
    pixel_size = BOX * diameter / side
    transfer = np.ones(side // 2 + 1, dtype=np.float32)
    finest = round(0.5 * side * pixel_size / micrograph.pixel_size)  # ring beyond which the micrograph holds nothing
    micrograph = Micrograph(micrograph.name, clip_outliers(micrograph.image, _CLIP), micrograph.pixel_size)
    if ctf is not None:
        micrograph = flip_phases(micrograph, ctf)
        transfer = _rings_of(ctf, side, pixel_size)
    transfer[finest + 1 :] = 0
    image, grid = resample(micrograph.image, micrograph.pixel_size / pixel_size)
    image = np.pad(-flatten(image, 1.0 * side, _CLIP), side, mode="symmetric")
    corners = np.rint(grid.indices(positions)).astype(np.int64) + side - side // 2
    corners = np.clip(corners, 0, [image.shape[1] - side, image.shape[0] - side])
    views = np.lib.stride_tricks.sliding_window_view(image, (side, side))
    own = grid.indices(positions)
    others = own if neighbours is None else grid.indices(neighbours)
    return normalised(views[corners[:, 1], corners[:, 0]], _nearest(own, others, side)), transfer


def _nearest(
    positions: Float[np.ndarray, "n 2"], others: Float[np.ndarray, "m 2"], side: int
) -> Float32[np.ndarray, "n side side"]:
    """Return how far each pixel of a window is from the nearest other position, in pixels of the window."""
    line = np.arange(side, dtype=np.float32) - side // 2
    result = np.full((len(positions), side, side), 2.0 * side, dtype=np.float32)
    near = cKDTree(others).query_ball_point(positions, 1.5 * side) if len(others) else [[]] * len(positions)
    for distance, place, indices in zip(result, positions, near, strict=True):
        for dx, dy in others[indices] - place:
            if abs(dx) + abs(dy) > _SAME:
                np.minimum(distance, np.hypot(line[:, None] - dy, line[None, :] - dx), out=distance)
    return result


def normalised(
    images: Float32[np.ndarray, "n side side"], nearest: Float32[np.ndarray, "n side side"]
) -> Float32[np.ndarray, "n side side"]:
    """Return windows with a background of zero mean and unit deviation, also where the neighbours were.

    Parameters
    ----------
    images : float32 array, (n, side, side)
        Windows.
    nearest : float32 array, (n, side, side)
        Distance of each pixel from the nearest other pick, in pixels.
    """
    side = images.shape[-1]
    radius, unit = radii(side), side / BOX
    empty = (radius > _EMPTY * unit) & (nearest > _EMPTY * unit)
    crowded = empty.mean(axis=(1, 2)) < _BACKGROUND
    empty[crowded] = radius > 0.5 * side - 1  # the corners, whatever they hold
    number = empty.sum(axis=(1, 2))
    mean = (images * empty).sum(axis=(1, 2)) / number
    variance = (np.square(images - mean[:, None, None]) * empty).sum(axis=(1, 2)) / number
    if crowded.any() and not crowded.all():
        mean[crowded], variance[crowded] = np.median(mean[~crowded]), np.median(variance[~crowded])
    deviation = np.maximum(np.sqrt(variance), 1e-3 * images.std() + 1e-6)
    own = np.clip((nearest - np.maximum(radius, 0)) / _RAMP + 0.5, 0, 1)
    own = np.maximum(own, radius < _OWN * unit)
    return np.asarray((images - mean[:, None, None]) / deviation[:, None, None] * own, dtype=np.float32)


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
