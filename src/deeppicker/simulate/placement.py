"""Where particles lie and how they are turned."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int
from scipy.spatial.transform import Rotation

_TRIES = 12  # random positions tried for each particle that is wanted


def place(
    free: Bool[np.ndarray, "height width"], number: int, distance: float, clusters: int, rng: np.random.Generator
) -> Int[np.ndarray, "n 2"]:
    """Return at most ``number`` positions (x, y) on free pixels, no two closer than ``distance`` pixels.

    With ``clusters``, positions gather around so many points.
    """
    height, width = free.shape
    wanted = number * _TRIES
    if clusters:
        centres = rng.uniform((0, 0), (width, height), size=(clusters, 2))
        spread = rng.uniform(0.5, 1.5) * distance * np.sqrt(number / clusters)
        points = centres[rng.integers(clusters, size=wanted)] + rng.normal(scale=spread, size=(wanted, 2))
    else:
        points = rng.uniform((0, 0), (width, height), size=(wanted, 2))
    points = np.floor(points).astype(np.int64)
    points = points[((points >= 0) & (points < [width, height])).all(axis=1)]
    points = points[free[points[:, 1], points[:, 0]]]
    chosen = np.empty((number, 2), dtype=np.int64)
    count = 0
    for point in points:
        if count == number:
            break
        if not (((chosen[:count] - point) ** 2).sum(axis=1) < distance**2).any():
            chosen[count] = point
            count += 1
    return chosen[:count]


def pack(free: Bool[np.ndarray, "height width"], distance: float, rng: np.random.Generator) -> Int[np.ndarray, "n 2"]:
    """Return positions (x, y) on free pixels in rows ``distance`` pixels apart, hexagonal or square, with vacancies.

    The middle of a vacancy is a place where a ring of neighbours, and no particle, lies around.
    """
    height, width = free.shape
    turn, skew = rng.uniform(0, 2 * np.pi), rng.choice([np.pi / 3, np.pi / 2])
    reach = int(np.hypot(height, width) / distance / np.sin(skew)) + 1
    line = np.arange(-reach, reach + 1)
    first, second = (distance * np.array([np.cos(a), np.sin(a)]) for a in (turn, turn + skew))
    steps = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    lattice = np.array([width / 2, height / 2]) + steps @ np.stack([first, second])
    lattice = lattice[rng.random(len(lattice)) > rng.uniform(0.02, 0.35)]
    points = lattice + rng.normal(scale=rng.uniform(0, 0.08) * distance, size=lattice.shape)
    if rng.random() < 0.5:  # rafts
        rafts = rng.uniform((0, 0), (width, height), size=(int(rng.integers(1, 7)), 2))
        radius = distance * rng.uniform(1.5, 6)
        points = points[(((points[:, None] - rafts) ** 2).sum(axis=2) < radius**2).any(axis=1)]
    whole = np.floor(points).astype(np.int64)
    whole = whole[((whole >= 0) & (whole < [width, height])).all(axis=1)]
    return np.asarray(whole[free[whole[:, 1], whole[:, 0]]])


def orient(number: int, preferred: bool, rng: np.random.Generator) -> Rotation:
    """Return random orientations, or such that mostly show one to three views, turned in the plane."""
    free = Rotation.random(number, rng=rng)
    if not preferred or number == 0:
        return free
    views = Rotation.random(int(rng.integers(1, 4)), rng=rng)
    chosen = views[rng.integers(len(views), size=number)]
    tilt = Rotation.from_rotvec(rng.normal(scale=rng.uniform(0.05, 0.3), size=(number, 3)))
    turn = Rotation.from_rotvec(rng.uniform(0, 2 * np.pi, size=(number, 1)) * np.array([[0.0, 0.0, 1.0]]))
    fixed = (turn * tilt * chosen).as_matrix()
    loose = rng.random(number) < 0.15
    return Rotation.from_matrix(np.where(loose[:, None, None], free.as_matrix(), fixed))
