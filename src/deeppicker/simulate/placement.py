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
