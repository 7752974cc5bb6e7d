"""How much darker candidates are than what surrounds them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from deeppicker.picking.boxes import cut_boxes

_AROUND = 1.5  # radius up to which the surroundings count, in those of the particle: a box


def contrasts(
    image: Float32[np.ndarray, "height width"], places: Float[np.ndarray, "n 2"], diameter: float
) -> Float[np.ndarray, " n"]:
    """Return by how much the mean of the ring around each place exceeds that of the disc of a particle on it.

    Parameters
    ----------
    image : float32 array, (height, width)
        A prepared micrograph, so the result is in its standard deviations, and positive for particles.
    places : float array, (n, 2)
        x and y in its pixels; those too close to its edge for a ring count as a little further inside.
    diameter : float
        Of the particle, in its pixels.
    """
    weights = _weights(diameter)
    differences = [(boxes * weights).sum(axis=(1, 2)) for boxes in cut_boxes(image, places, len(weights) // 2)]
    return np.concatenate([np.zeros(0), *differences]).round(3)  # digits that mean something


def _weights(diameter: float) -> Float32[np.ndarray, "side side"]:
    """Return what makes the difference of the two means of a window its weighted sum."""
    reach = int(_AROUND * diameter / 2)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = 2 * np.hypot(rows, columns) / diameter
    disc = distance <= 1
    ring = (distance <= _AROUND) & ~disc
    weights: Float32[np.ndarray, "side side"] = (ring / ring.sum() - disc / disc.sum()).astype(np.float32)
    return weights
