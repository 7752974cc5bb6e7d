"""Which classes show particles: by what they are, and by how they compare with the rest of the data set.

Some properties speak for themselves. *Strength*: how far the members agree with the average of the others, in standard
deviations of the noise. Members of a class of noise agree with its average only as far as they were aligned to it.
*Detail*: how many rings of frequencies both halves of the members share. *Offset*: how far from the middle the bright
part of the average lies, in particle diameters. *Outside*: the contrast around the particle, in relation to its own.

Others need the data set. *Places*: places without a pick and candidates of the lowest scores are classified with the
picks; a class that is as frequent among them shows gaps, rims, noise. *Mass*: all views of a particle have the same
total density, and a second species has a third of it or more. *Brightness*: debris is far denser. The quality is the
product, each on a scale from 0 to 1.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from deeppicker.particles.classify.em import as_numpy
from deeppicker.particles.classify.refine import Classes
from deeppicker.particles.classify.results import Quality
from deeppicker.particles.classify.windows import BOX, MASK, radii

# (middle, width) of each scale; docs/classification.md tells where they come from
_STRENGTH = (1.2, 0.12)
_DETAIL = (1.6, 0.15)
_OFFSET = (0.14, 0.015)
_OUTSIDE = (0.75, 0.05)
_PLACES = (0.25, 0.05)
_MISFIT = (1.05, 0.08)
_SHARED = 0.5  # correlation of the halves above which a ring counts
_INNER, _RIM = 0.5, (0.55, 0.72)  # diameters from the centre: the particle, and what should be empty
_BRIGHT = 0.05  # part of the particle that is its brightest
_BEST = 0.75  # quantile of the picks whose class tells how rare particles are at the places for comparison
_LEAST_RATIO = 2.5  # how rare they are at least
_MASS = (0.3, 1.0)  # difference of two logarithms of the mass that means nothing, and what more of it means a misfit
_MASS_OF_DOUBTFUL = (0.2, 1.6)  # likewise, where the comparison with places leaves a doubt
_BELIEF = 0.13  # how much the log-odds by the scores count on the scale of the places
_BRIGHTNESS = (0.34, 0.5)  # likewise of brightness


def judge(classes: Classes, pixel_size: float, scores: Float[np.ndarray, " picks"]) -> Quality:
    """Return the quality of each class; empty ones have none.

    Parameters
    ----------
    classes : Classes
        The class averages.
    pixel_size : float
        Å per pixel of their windows; gives the resolution in Å, where the correlation of the halves falls to one half.
    scores : float array, (picks,)
        Of the picks, probabilities if they are between 0 and 1; what follows the picks are places for comparison.
    """
    picks = len(scores)
    averages, held = as_numpy(classes.averages), as_numpy(classes.held)
    label, strength = as_numpy(classes.alignment.label), as_numpy(classes.strength)[:picks]
    members = np.bincount(label[:picks], minlength=len(averages))
    strength = np.bincount(label[:picks], strength, minlength=len(averages)) / np.maximum(members, 1)
    halves = np.where(held, as_numpy(classes.halves), 0)[:, 1:]
    detail = np.clip((halves - _SHARED) / (1 - _SHARED), 0, 1).sum(axis=1)
    finest = int(held[1:].sum())
    shared = (np.pad(halves[:, :finest], ((0, 0), (0, 1))) < _SHARED).argmax(axis=1)
    resolution = averages.shape[-1] * pixel_size / np.maximum(shared, 1)
    offset, outside = _offset_and_outside(averages)
    mass, brightness = _mass_and_brightness(averages)
    places = _ratio(members, np.bincount(label[picks:], minlength=len(averages)))
    quality = _scale(strength, _STRENGTH) * _scale(detail, _DETAIL)
    quality = quality * (1 - _scale(offset, _OFFSET)) * (1 - _scale(outside, _OUTSIDE))
    quality = np.where(members > 1, quality, 0.0)
    quality = quality * compared(members * quality, places, mass, brightness, _belief(scores, label[:picks], members))
    return Quality(
        strength=strength,
        detail=detail.astype(np.float64),
        offset=offset.astype(np.float64),
        outside=outside.astype(np.float64),
        places=places,
        mass=mass.astype(np.float64),
        brightness=brightness.astype(np.float64),
        resolution=resolution,
        quality=quality.astype(np.float64),
        limited=shared >= finest,
    )


def compared(
    weight: Float[np.ndarray, " classes"],
    places: Float[np.ndarray, " classes"],
    mass: Float[np.ndarray, " classes"],
    brightness: Float[np.ndarray, " classes"],
    belief: Float[np.ndarray, " classes"] | float = 0.0,
) -> Float[np.ndarray, " classes"]:
    """Return what the comparison with the rest of the data set says of each class, from 0 to 1.

    Parameters
    ----------
    weight : float array, (classes,)
        How much each class counts: the number of its members, less if it is no particle anyway.
    places : float array, (classes,)
        How much more frequent it is among the picks than among the places for comparison; NaN if there are none.
    mass, brightness : float array, (classes,)
        Of its average.
    belief : float array, (classes,)
        Log-odds by the scores of its members that they are particles, 0 or more; excuses that some lie elsewhere, too.
    """
    rare = np.ones(len(weight))
    if np.isfinite(places).all() and (places > 1).any():
        best = _quantile(places, np.where(places > 1, weight, 0), _BEST)
        rare = np.log(places) / np.log(max(best, _LEAST_RATIO))
    likely = weight * _scale(rare, _PLACES) + 1e-9
    lighter, brighter = (_logarithm(value / _quantile(value, likely, 0.5)) for value in (mass, brightness))
    misfit = _excess(np.abs(lighter), _MASS) + _excess(brighter, _BRIGHTNESS)
    rare = rare - _excess(np.abs(lighter), _MASS_OF_DOUBTFUL) + _BELIEF * belief
    return np.asarray(_scale(rare, _PLACES) * (1 - _scale(misfit, _MISFIT)))


def _belief(
    scores: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], members: Int[np.ndarray, " classes"]
) -> Float[np.ndarray, " classes"]:
    """Return the log-odds of the mean score of each class, 0 where it is below one half or scores are unknown."""
    if not ((scores >= 0) & (scores <= 1)).all():
        return np.zeros(len(members))
    mean = np.clip(np.bincount(label, scores, minlength=len(members)) / np.maximum(members, 1), 0.5, 0.95)
    return np.asarray(np.log(mean / (1 - mean)))


def _ratio(members: Int[np.ndarray, " classes"], others: Int[np.ndarray, " classes"]) -> Float[np.ndarray, " classes"]:
    """Return how much more frequent each class is among the members than among the others."""
    if not others.sum():
        return np.full(len(members), np.nan)
    share = (others + 0.5) / (others.sum() + 0.5)
    return np.asarray(np.maximum(members, 0.1) / members.sum() / share)


def _mass_and_brightness(
    averages: Float[np.ndarray, "classes side side"],
) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
    """Return the mean within the particle's circle, over what lies around it, and that of its brightest part."""
    radius = radii(averages.shape[-1]) * BOX / averages.shape[-1]
    inside = averages[:, radius < _INNER] - np.median(averages[:, radius > MASK], axis=1)[:, None]
    bright = np.sort(inside, axis=1)[:, -max(1, round(_BRIGHT * inside.shape[1])) :]
    return inside.mean(axis=1), bright.mean(axis=1)


def _offset_and_outside(
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


def _excess(value: Float[np.ndarray, " n"], limits: tuple[float, float]) -> Float[np.ndarray, " n"]:
    free, unit = limits
    return np.asarray(np.maximum(value - free, 0) / unit)


def _quantile(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], part: float) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, part * total[-1])]])


def _logarithm(ratio: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.asarray(np.log(np.maximum(ratio, 1e-3)))
