"""Which classes show particles. Nothing is learnt: four properties of a class, with limits found on simulated junk.

*Strength*: how far its members agree with the average of the others, in standard deviations of the noise. Members of
a class of noise agree with its average only as far as they were aligned to it. *Detail*: how many rings of
frequencies the members share. Ice, edges and what was picked off the centre share the coarse ones only. *Offset*: how
far from the middle the bright part of the average lies, in particle diameters. *Outside*: the contrast around the
particle, in relation to its own. The quality is the product of the four, each on a scale from 0 to 1.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from deeppicker.particles.classify.em import as_numpy
from deeppicker.particles.classify.refine import Classes
from deeppicker.particles.classify.results import Quality
from deeppicker.particles.classify.windows import BOX, MASK, radii

# (middle, width) of each scale; docs/classification.md tells where they come from
_STRENGTH = (1.9, 0.15)
_DETAIL = (5.0, 0.3)
_OFFSET = (0.14, 0.015)
_OUTSIDE = (0.75, 0.05)
_SHARED = 0.5  # correlation above which a ring counts
_INNER, _RIM = 0.5, (0.55, 0.72)  # diameters from the centre: the particle, and what should be empty


def judge(classes: Classes, pixel_size: float) -> Quality:
    """Return the quality of each class; empty ones have none.

    Parameters
    ----------
    classes : Classes
        The class averages.
    pixel_size : float
        Å per pixel of their windows; gives the resolution in Å, where the correlation falls to one half.
    """
    averages, members = as_numpy(classes.averages), as_numpy(classes.members)
    side = averages.shape[-1]
    label = as_numpy(classes.alignment.label)
    sums = np.bincount(label, as_numpy(classes.strength), minlength=len(members))
    strength = sums / np.maximum(members, 1)
    consistency = as_numpy(classes.consistency)[:, 1:]
    shared = np.clip((consistency - _SHARED) / (1 - _SHARED), 0, 1)
    detail = shared.sum(axis=1)
    offset, outside = _places(averages)
    first = np.argmax(np.pad(consistency, ((0, 0), (0, 1))) < _SHARED, axis=1)
    resolution = side * pixel_size / np.maximum(first, 1)
    quality = _scale(strength, _STRENGTH) * _scale(detail, _DETAIL)
    quality = quality * (1 - _scale(offset, _OFFSET)) * (1 - _scale(outside, _OUTSIDE))
    quality = np.where(members > 1, quality, 0.0)
    values = (strength, detail, offset, outside, resolution, quality)
    return Quality(*(np.asarray(value, dtype=np.float64) for value in values))


def _places(
    averages: Float[np.ndarray, "classes side side"],
) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
    """Return the offset of the bright part, and the contrast outside in relation to that inside."""
    side = averages.shape[-1]
    radius = radii(side) * BOX / side
    line = (np.arange(side) - side // 2) * BOX / side
    contrast = averages - np.median(averages, axis=(1, 2))[:, None, None]
    bright = np.maximum(contrast, 0) * (radius < MASK)
    mass = bright.sum(axis=(1, 2)) + 1e-9
    offset = np.hypot((bright.sum(axis=1) * line).sum(axis=1), (bright.sum(axis=2) * line).sum(axis=1)) / mass
    squared = np.square(contrast)
    rim = squared[:, (radius > _RIM[0]) & (radius < _RIM[1])].mean(axis=1)
    return offset, rim / (squared[:, radius < _INNER].mean(axis=1) + 1e-9)


def _scale(value: Float[np.ndarray, " classes"], limits: tuple[float, float]) -> Float[np.ndarray, " classes"]:
    middle, width = limits
    return np.asarray(1 / (1 + np.exp(-np.clip((value - middle) / width, -50, 50))))
