"""Particles that no structure file holds: hollow, ring-like, long and flat ones, and membranes around others.

A network that only sees compact structures learns that a particle is a dark compact blob. All lengths are Å.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from deeppicker.simulate.volumes import Volume, from_density

_VOXELS = 40  # along the diameter of a shape
_LIPID_DENSITY = (0.5, 0.9)  # of that of protein
_BILAYER = 42.0  # Å; thickness of a nanodisc

Axes = tuple[Float32[np.ndarray, "z y x"], Float32[np.ndarray, "z y x"], Float32[np.ndarray, "z y x"]]


def invent(rng: np.random.Generator, diameter: float) -> Volume:
    """Return a random shape of about the given diameter in Å."""
    kind = str(rng.choice(sorted(SHAPES)))
    z, y, x = _axes()
    inside = SHAPES[kind](rng, (z, y, x))
    grain = ndimage.gaussian_filter(rng.standard_normal(inside.shape, dtype=np.float32), rng.uniform(1.0, 2.5))
    texture = 1 + rng.uniform(0.2, 0.9) * grain / grain.std()
    density = ndimage.gaussian_filter(inside * np.maximum(texture, 0).astype(np.float32), rng.uniform(0.5, 1.0))
    volume = from_density(kind, density, 1.0)
    scale = diameter / volume.diameter
    return Volume(kind, volume.density, scale, diameter)


def in_membrane(rng: np.random.Generator, volume: Volume) -> Volume:
    """Return the particle in a nanodisc or a detergent micelle, as membrane proteins are imaged."""
    side = len(volume.density)
    z, y, x = (volume.voxel_size * (axis - side // 2) for axis in np.indices((side,) * 3, dtype=np.float32))
    radius = max(0.5 * volume.diameter * rng.uniform(0.55, 0.85), 35.0)
    height = z - rng.uniform(-0.25, 0.25) * volume.diameter
    across = np.hypot(x, y)
    half = 0.5 * _BILAYER * rng.uniform(0.9, 1.3)
    if rng.random() < 0.5:
        lipid = (np.abs(height) < half) & (across < radius)
    else:
        lipid = (height / half) ** 2 + (across / radius) ** 2 < 1
    soft = ndimage.gaussian_filter(lipid.astype(np.float32), 4.0 / volume.voxel_size)
    density = np.maximum(volume.density, soft * np.float32(rng.uniform(*_LIPID_DENSITY)))
    return from_density(volume.name, density, volume.voxel_size)


def oligomer(rng: np.random.Generator, volume: Volume) -> Volume:
    """Return two to four copies of the particle that touch, around a common axis."""
    copies = int(rng.integers(2, 5))
    ring = 0.5 * volume.diameter / volume.voxel_size / np.sin(np.pi / copies) * rng.uniform(0.8, 1.0)  # radius, voxels
    side = len(volume.density) + 2 * int(np.ceil(ring))
    density = np.zeros((len(volume.density), side, side), dtype=np.float32)
    for index in range(copies):
        angle = 360 * index / copies
        turned = ndimage.rotate(volume.density, angle, axes=(1, 2), reshape=False, order=1)
        y = round(0.5 * (side - len(turned)) - ring * np.sin(np.radians(angle)))
        x = round(0.5 * (side - len(turned)) + ring * np.cos(np.radians(angle)))
        density[:, y : y + len(turned), x : x + len(turned)] += turned
    return from_density(f"{volume.name}_oligomer", density, volume.voxel_size)


def _axes() -> Axes:
    line = np.arange(-0.6 * _VOXELS, 0.6 * _VOXELS + 1, dtype=np.float32) / (0.5 * _VOXELS)
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    return z, y, x


def _shell(rng: np.random.Generator, axes: Axes) -> Float32[np.ndarray, "z y x"]:
    z, y, x = axes
    radius = np.sqrt(x**2 + y**2 + (z / rng.uniform(0.75, 1.0)) ** 2)
    return np.asarray((radius < 1) & (radius > rng.uniform(0.5, 0.85)), dtype=np.float32)


def _ring(rng: np.random.Generator, axes: Axes) -> Float32[np.ndarray, "z y x"]:
    z, y, x = axes
    hole, half_height = rng.uniform(0.35, 0.7), rng.uniform(0.2, 0.55)
    angle, across = np.arctan2(y, x), np.hypot(x, y)
    lobes = 1 + rng.uniform(0, 0.15) * np.cos(rng.integers(5, 15) * angle)
    return ((across < lobes * 0.95) & (across > hole) & (np.abs(z) < half_height)).astype(np.float32)


def _barrel(rng: np.random.Generator, axes: Axes) -> Float32[np.ndarray, "z y x"]:
    z, y, x = axes
    across, width = np.hypot(x, y), rng.uniform(0.35, 0.65)
    wall = (across < width) & (across > width * rng.uniform(0.4, 0.75)) & (np.abs(z) < 0.9)
    gaps = np.cos(rng.uniform(8, 16) * z + rng.uniform(0, 6)) > rng.uniform(-1.5, 0)  # stacked rings
    return (wall & gaps).astype(np.float32)


def _rod(rng: np.random.Generator, axes: Axes) -> Float32[np.ndarray, "z y x"]:
    z, y, x = axes
    bend = rng.uniform(-0.25, 0.25) * z**2
    width = rng.uniform(0.15, 0.35) * (1 + rng.uniform(0, 0.4) * np.cos(rng.uniform(2, 8) * z))
    return ((np.hypot(x - bend, y) < width) & (np.abs(z) < 0.95)).astype(np.float32)


def _disc(rng: np.random.Generator, axes: Axes) -> Float32[np.ndarray, "z y x"]:
    z, y, x = axes
    return ((np.hypot(x, y * rng.uniform(1, 1.4)) < 0.98) & (np.abs(z) < rng.uniform(0.12, 0.3))).astype(np.float32)


def _domains(rng: np.random.Generator, axes: Axes) -> Float32[np.ndarray, "z y x"]:
    """Return overlapping balls that touch, as of a protein with several domains, sometimes symmetric."""
    z, y, x = axes
    density = np.zeros_like(z)
    number, fold = int(rng.integers(2, 9)), int(rng.choice([1, 1, 1, 2, 3, 4, 6]))
    point = np.zeros(3)
    for _ in range(number):
        direction = rng.normal(size=3)
        point = point + direction / np.linalg.norm(direction) * rng.uniform(0.2, 0.5)
        point = point * min(1.0, 0.7 / float(np.linalg.norm(point)))
        radius = rng.uniform(0.18, 0.4)
        for turn in 2 * np.pi * np.arange(fold) / fold:
            cx, cy = (
                point[0] * np.cos(turn) - point[1] * np.sin(turn),
                point[0] * np.sin(turn) + point[1] * np.cos(turn),
            )
            density[(x - cx) ** 2 + (y - cy) ** 2 + (z - point[2]) ** 2 < radius**2] = 1
    return density


SHAPES: dict[str, Callable[[np.random.Generator, Axes], Float32[np.ndarray, "z y x"]]] = {
    "shell": _shell,
    "ring": _ring,
    "barrel": _barrel,
    "rod": _rod,
    "disc": _disc,
    "domains": _domains,
}
"""Procedural particles by name; each function returns a density on axes that run to about ±1.2 radii."""
