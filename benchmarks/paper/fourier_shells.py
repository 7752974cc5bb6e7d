"""A density map against the known structure: the orientation and hand that fit best, and the correlation by shell."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from deeppicker.simulate.volumes import Volume, resample

Cube = Float32[np.ndarray, "side side side"]
_COARSE = 20  # voxels along each side for the search
_KEPT = 5  # orientations that are refined
_REFINED = (16.0, 8.0, 4.0, 2.0, 1.0)  # degrees


def known(volume: Volume, side: int, pixel_size: float) -> Cube:
    """Return the structure in a cube of a side in voxels."""
    density = resample(volume, pixel_size).density
    return _cube(density, side)


def aligned(structure: Cube, target: Cube, rotations: int) -> Cube:
    """Return the structure, turned, moved and, if that fits better, mirrored onto a map."""
    small, goal = (_reduced(_masked(one), _COARSE) for one in (structure, target))
    rng = np.random.default_rng(0)
    # Maps of the same symmetry need not be turned, which would blur them.
    tried = Rotation.concatenate([Rotation.identity(1), Rotation.random(rotations, random_state=rng)])
    best: list[tuple[float, bool, Rotation]] = []
    for mirrored in (False, True):
        source = small[:, :, ::-1] if mirrored else small
        scores = [_score(_turned(source, one), goal) for one in tried]
        best += [(scores[i], mirrored, tried[i]) for i in np.argsort(scores)[-_KEPT:]]
    for degrees in _REFINED:
        near = Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=(20, 3)) / np.sqrt(3))
        best = [_better(one, near, small, goal) for one in sorted(best, key=lambda item: -item[0])[:_KEPT]]
    _, mirrored, rotation = max(best, key=lambda item: item[0])
    turned = _turned(structure[:, :, ::-1] if mirrored else structure, rotation)
    overlap = _overlap(turned, target)
    shift = np.array(np.unravel_index(int(np.argmax(overlap)), overlap.shape))
    return np.roll(turned, shift, axis=(0, 1, 2))


def shells(one: Cube, other: Cube) -> Float[np.ndarray, " shells"]:
    """Return the Fourier shell correlation of two maps inside a soft sphere."""
    a, b = (np.fft.fftn(_masked(part)) for part in (one, other))
    axis = np.fft.fftfreq(len(one), 1 / len(one))
    ring = np.rint(np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2)).astype(int)
    number = len(one) // 2 + 1

    def by_shell(values: np.ndarray) -> np.ndarray:
        return np.bincount(ring.ravel(), values.ravel(), minlength=number)[:number]

    shared = by_shell((a * b.conj()).real)
    return np.asarray(shared / np.sqrt(by_shell(np.abs(a) ** 2) * by_shell(np.abs(b) ** 2) + 1e-20))


def resolution(curve: Float[np.ndarray, " shells"], level: float, side: int, pixel_size: float) -> float:
    """Return the resolution in Å at which a curve first falls below a level, between the shells."""
    below = np.flatnonzero(~(curve >= level))  # also where there is no number
    below = below[below > 0]
    if len(below) == 0:
        return 2 * pixel_size
    last = int(below[0])
    before, after = float(curve[last - 1]), float(curve[last])
    place = last - 1 + (before - level) / max(before - after, 1e-9) if before > level else last - 1
    return side * pixel_size / max(place, 1.0)


def _better(one: tuple[float, bool, Rotation], near: Rotation, small: Cube, goal: Cube) -> tuple[float, bool, Rotation]:
    source = small[:, :, ::-1] if one[1] else small
    others = [(_score(_turned(source, turn * one[2]), goal), one[1], turn * one[2]) for turn in near]
    return max([one, *others], key=lambda item: item[0])


def _overlap(one: Cube, other: Cube) -> Cube:
    return np.asarray(fft.irfftn(fft.rfftn(one).conj() * fft.rfftn(other), one.shape), dtype=np.float32)


def _score(one: Cube, other: Cube) -> float:
    a = one - one.mean()
    return float(_overlap(a, other).max() / (np.linalg.norm(a) * np.linalg.norm(other) + 1e-12))


def _turned(cube: Cube, rotation: Rotation) -> Cube:
    matrix = rotation.as_matrix()
    centre = np.full(3, len(cube) // 2)
    return np.asarray(ndimage.affine_transform(cube, matrix, centre - matrix @ centre, order=1), dtype=np.float32)


def _masked(cube: Cube) -> Cube:
    line = np.arange(len(cube)) - len(cube) // 2
    radius = np.sqrt(line[:, None, None] ** 2 + line[None, :, None] ** 2 + line**2)
    soft = np.clip(0.5 * len(cube) - 1 - radius, 0, 3) / 3
    return np.asarray((cube - cube.mean()) * soft, dtype=np.float32)


def _reduced(cube: Cube, side: int) -> Cube:
    """Return the cube with fewer voxels, by cropping its transform."""
    if side >= len(cube):
        return cube
    start = len(cube) // 2 - side // 2
    part = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(cube)))[(slice(start, start + side),) * 3]
    return np.asarray(np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(part))).real, dtype=np.float32)


def _cube(density: Cube, side: int) -> Cube:
    """Return the density in the middle of a cube of another side."""
    before = side // 2 - len(density) // 2
    if before >= 0:
        after = side - len(density) - before
        return np.pad(density, (before, after))
    start = -before
    return np.ascontiguousarray(density[(slice(start, start + side),) * 3])
