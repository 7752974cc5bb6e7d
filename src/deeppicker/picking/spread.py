"""How far the contrast of candidates reaches from its middle: contamination is often compact and clear to see."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Float32
from scipy import ndimage

from deeppicker.picking.boxes import cut_boxes

_BLUR = 1 / 16  # diameters; standard deviation of the blur that takes the noise away
_REACH = 0.625  # diameters from the middle up to which contrast counts
_AROUND = 0.75  # diameters up to which the surroundings count: a box


def spreads(
    image: Float32[np.ndarray, "height width"], places: Float[np.ndarray, "n 2"], diameter: float
) -> Float[np.ndarray, " n"]:
    """Return by what fraction the radius of gyration of each candidate exceeds that of a filled disc of its diameter.

    What is darker than its surroundings counts, noise too, so it is larger for what is hard to see.

    Parameters
    ----------
    image : float32 array, (height, width)
        A prepared micrograph.
    places : float array, (n, 2)
        x and y in its pixels; those too close to its edge for a box count as a little further inside.
    diameter : float
        Of the particle, in its pixels.
    """
    reach = int(_AROUND * diameter)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(rows, columns)
    gyration = [_gyration(boxes, distance, diameter) for boxes in cut_boxes(image, places, reach)]
    disc = diameter / math.sqrt(8)
    return np.concatenate([np.zeros(0), *gyration]) / disc - 1


def _gyration(
    boxes: Float32[np.ndarray, "n side side"], distance: Float[np.ndarray, "side side"], diameter: float
) -> Float[np.ndarray, " n"]:
    """Return the radius of gyration of what is darker than its surroundings in each box."""
    smooth = ndimage.gaussian_filter(boxes, (0, _BLUR * diameter, _BLUR * diameter))
    around = (distance > diameter / 2) & (distance <= _AROUND * diameter)
    background = np.median(smooth[:, around], axis=1)[:, None, None]
    dark = np.clip(background - smooth, 0, None) * (distance <= _REACH * diameter)
    mass = dark.sum(axis=(1, 2))
    second = (dark * distance**2).sum(axis=(1, 2))
    return np.asarray(np.sqrt(second / np.maximum(mass, 1e-9)), dtype=np.float64)
