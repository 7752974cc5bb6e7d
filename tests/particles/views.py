"""Simulated micrographs of known particles for classification, with places where junk would be picked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from deeppicker.core import Ctf, Micrograph
from deeppicker.particles.classify.em import rotate
from deeppicker.particles.classify.windows import BOX, disc, radii
from deeppicker.simulate.optics import Optics, transfer
from deeppicker.simulate.volumes import Volume, project, resample

JUNK = ("noise", "ice", "edge", "off-centre")
PIXEL_SIZE = 3.0


@dataclass(frozen=True)
class Truth:
    """A micrograph, its particles, then its junk.

    ``kind`` is the number of the volume, or -1 for junk; ``junk`` is the kind of junk, or an empty string.
    """

    micrograph: Micrograph
    ctf: Ctf
    positions: np.ndarray
    kind: np.ndarray
    junk: list[str]


def micrograph(volumes: list[Volume], number: int, junk: int, snr: float, seed: int, size: int = 1024) -> Truth:
    """Return a micrograph with ``number`` particles in random orientations and ``junk`` places without any."""
    rng = np.random.default_rng([seed, 11])
    diameter = max(volume.diameter for volume in volumes) / PIXEL_SIZE
    places = _places(size, 1.25 * diameter, rng)
    border = 0.16 * size
    free = np.flatnonzero(places[:, 0] > border + diameter)
    number = min(number, int(0.75 * len(free)))
    here, rest = free[:number], free[number:]
    kind = rng.integers(len(volumes), size=number)
    potential = np.zeros((size, size), np.float32)
    for index, volume in enumerate(volumes):
        mine = here[kind == index]
        images = project(resample(volume, PIXEL_SIZE), Rotation.random(len(mine), rng=rng))
        for image, (x, y) in zip(images, places[mine], strict=True):
            _add(potential, image, round(float(x)), round(float(y)))
    inside = ndimage.maximum_filter(potential, int(0.3 * diameter)) > 0.2 * potential.max()
    d = float(rng.uniform(0.8, 2.5))
    ctf = Ctf(defocus_u=d, defocus_v=d)
    optics = Optics(pixel_size=PIXEL_SIZE, ctf=ctf, b_factor=100.0, dose=40.0)
    contrast = fft.irfft2(fft.rfft2(potential) * transfer(optics, potential.shape), potential.shape)
    contrast /= contrast[inside].std()
    ice = rest[: junk // 4]
    noise = rest[junk // 4 : junk // 2]
    for x, y in places[ice]:
        radius = diameter * rng.uniform(0.15, 0.6)
        contrast -= _blob(size, x, y, radius, rng) * np.float32(rng.uniform(2, 5))
    contrast -= np.float32(2.5) / (1 + np.exp(np.clip((np.indices((size, size))[1] - border) / 2, -50, 50))).astype(
        np.float32
    )
    image = 100 + contrast + rng.normal(0, snr**-0.5, (size, size))
    angles = rng.uniform(0, 2 * np.pi, junk // 4)
    off = places[here[: junk // 4]] + 0.5 * diameter * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rows = rng.uniform(0.1 * size, 0.9 * size, junk - 3 * (junk // 4))
    edge = np.stack([rng.normal(border, 0.15 * diameter, len(rows)), rows], axis=1)
    positions = np.concatenate([places[here], places[noise], places[ice], edge, off])
    names = [""] * number + ["noise"] * len(noise) + ["ice"] * len(ice) + ["edge"] * len(edge)
    names += ["off-centre"] * len(off)
    kinds = np.concatenate([kind, np.full(len(positions) - number, -1)])
    jitter = rng.normal(0, 0.03 * diameter, positions.shape)
    return Truth(
        Micrograph(f"mic{seed:03d}.mrc", image.astype(np.float32), PIXEL_SIZE),
        ctf,
        positions + jitter,
        kinds,
        names,
    )


def _places(size: int, spacing: float, rng: np.random.Generator) -> np.ndarray:
    line = np.arange(0.6 * spacing, size - 0.6 * spacing, spacing)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    grid = grid + rng.uniform(-0.05, 0.05, grid.shape) * spacing
    return grid[rng.permutation(len(grid))]


def _add(target: np.ndarray, image: np.ndarray, x: int, y: int) -> None:
    half = len(image) // 2
    padded = np.pad(target, half + 1)
    top, left = y + 1, x + 1
    padded[top : top + len(image), left : left + len(image)] += image
    target[:] = padded[half + 1 : -half - 1, half + 1 : -half - 1]


def _blob(size: int, x: float, y: float, radius: float, rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.indices((size, size), dtype=np.float32)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.6)
    a = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    b = -(columns - x) * np.sin(angle) + (rows - y) * np.cos(angle)
    return (1 / (1 + np.exp(np.clip((np.hypot(a / stretch, b) - radius) / 1.5, -50, 50)))).astype(np.float32)


def agreement(averages: np.ndarray, volumes: list[Volume], diameter: float, views: int, seed: int) -> np.ndarray:
    """Return the correlation of each class average with the most similar of the known projections.

    Within the mask, at the resolution of the projections' 16 lowest frequencies, over 72 rotations in the plane; both
    are centred on their bright part.
    """
    side = averages.shape[-1]
    rng = np.random.default_rng([seed, 12])
    known = []
    for volume in volumes:
        images = project(resample(volume, BOX * diameter / side), Rotation.random(views, rng=rng))
        known.append(np.stack([_resized(image, side) for image in images]))
    references = torch.from_numpy(np.stack([_centred(image) for image in np.concatenate(known)]))
    mask = disc(side, 0.55) > 0.5
    tried = torch.from_numpy(np.stack([_centred(image) for image in averages]))
    targets = _unit(tried.numpy()[:, mask])
    best = np.full(len(averages), -1.0)
    for angle in np.arange(0, 360, 5.0):
        turned = _unit(rotate(references, float(angle)).numpy()[:, mask])
        best = np.maximum(best, (targets @ turned.T).max(axis=1))
    return best


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image cut or padded to ``side``, centred on pixel ``side // 2``."""
    pad = max(0, side - len(image))
    image = np.pad(image, pad)
    start = len(image) // 2 - side // 2
    return image[start : start + side, start : start + side]


def _centred(image: np.ndarray) -> np.ndarray:
    side = len(image)
    contrast = np.maximum(image - np.median(image), 0) * (radii(side) < 0.6 * side / BOX)
    centre = ndimage.center_of_mass(contrast + 1e-12)
    spectrum = fft.fft2(image)
    frequency = np.hypot(*np.meshgrid(fft.fftfreq(side, 1 / side), fft.fftfreq(side, 1 / side)))
    spectrum = ndimage.fourier_shift(spectrum, [side // 2 - value for value in centre])
    return np.real(fft.ifft2(spectrum * (frequency <= 16))).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12)
