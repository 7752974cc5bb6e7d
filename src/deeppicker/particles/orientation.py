"""Are coordinates flipped or swapped? The eight orientations, compared by what the images show at the picks. No torch.

Particles differ from their surroundings, so the right orientation has contrast at its picks, darker or brighter, and
the other ones have about as little as random positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage, signal

from deeppicker.core import Micrograph
from deeppicker.formats.orientation import ORIENTATIONS

CORE = 0.7
"""Of the diameter: what is compared with its surroundings, so that a diameter that is a third too large still works."""

_ACROSS = 12  # pixels of the reduced image along a diameter: enough for a disc, and quick
_CLIP = 3.0  # standard deviations; ice and dirt must not outweigh particles
_BACKGROUND = 3.0  # diameters over which the image is made flat
_CONTROLS = 1000  # random positions in each micrograph
_CLEARLY = 5.0  # standard errors by which another orientation must be better; one in a million by chance
_FEWEST = 20  # picks by which anything can be told


@dataclass(frozen=True)
class Contrasts:
    """The contrast at each pick in each orientation, and at random positions.

    Parameters
    ----------
    picks : float array, (n, 8)
        In standard deviations of the map of contrasts; 0 outside of the image. Dark particles have positive contrast.
    inside : bool array, (n, 8)
        Whether the pick lies in the image in that orientation.
    controls : float array, (m,)
        At random positions.
    """

    picks: Float[np.ndarray, "n 8"]
    inside: Bool[np.ndarray, "n 8"]
    controls: Float[np.ndarray, " m"]


@dataclass(frozen=True)
class Verdict:
    """How the orientations compare.

    Parameters
    ----------
    contrast : float array, (8,)
        Mean over all picks, in the order of `ORIENTATIONS`.
    against_chance : float array, (8,)
        By how many standard errors it exceeds that of random positions.
    outside : float array, (8,)
        Fraction of the picks outside of their image.
    best : int
        The orientation with the strongest contrast, whichever sign: hollow particles, bright ones, and a diameter
        that is far off make it negative.
    better : float
        By how many standard errors the best one exceeds the given one, pick by pick; 0 if it is the given one.
    number : int
        Of picks.
    """

    contrast: Float[np.ndarray, " 8"]
    against_chance: Float[np.ndarray, " 8"]
    outside: Float[np.ndarray, " 8"]
    best: int
    better: float
    number: int

    @property
    def wrong(self) -> bool:
        """Whether another orientation fits clearly better than the given one."""
        return self.certain and self.better > _CLEARLY

    @property
    def certain(self) -> bool:
        """Whether the picks tell anything: some orientation has clearly more contrast than random positions."""
        return self.number >= _FEWEST and abs(float(self.against_chance[self.best])) > _CLEARLY


def contrasts(
    micrograph: Micrograph, positions: Float[np.ndarray, "n 2"], diameter: float, rng: np.random.Generator
) -> Contrasts:
    """Return the contrast at the picks of a micrograph in all orientations, and at random positions.

    Parameters
    ----------
    micrograph : Micrograph
        Particles dark.
    positions : float array, (n, 2)
        The picks (x, y) in pixels, as given.
    diameter : float
        Of the particles, in Å.
    rng : Generator
        For the random positions.
    """
    shape = micrograph.image.shape
    pixels, factor = contrast_map(micrograph.image, CORE * diameter / micrograph.pixel_size)
    sides = np.array([shape[1], shape[0]])
    turned = [orientation.apply(positions, shape) for orientation in ORIENTATIONS]
    inside = np.stack([((p > -0.5) & (p < sides - 0.5)).all(axis=1) for p in turned], axis=1)
    values = np.stack([_at(pixels, p / factor) for p in turned], axis=1)
    controls = _at(pixels, rng.uniform(0, sides - 1, (_CONTROLS, 2)) / factor)
    return Contrasts(np.where(inside, values, 0.0), inside, controls)


def contrast_map(image: Float32[np.ndarray, "height width"], diameter: float) -> tuple[np.ndarray, float]:
    """Return how much darker a disc around each pixel is than the ring around it, and the reduction of that map.

    Parameters
    ----------
    image : float32 array, (height, width)
        A micrograph.
    diameter : float
        Of the disc, in pixels.

    Returns
    -------
    map : float array, (rows, columns)
        Reduced; mean 0, standard deviation 1. Flat and of even contrast, so that no region outweighs the others.
    factor : float
        Pixels of the image for each of the map, along both sides: pixel (x, y) lies at (x, y) / factor.
    """
    factor = max(1.0, diameter / _ACROSS)
    smooth = ndimage.gaussian_filter(np.asarray(image, dtype=np.float64), 0.5 * factor if factor > 1 else 0.0)
    rows, columns = (np.rint(np.arange(0, side - 1, factor)).astype(np.int64) for side in image.shape)
    small = smooth[np.ix_(rows, columns)]
    across = diameter / factor
    flat = _even(small, _BACKGROUND * across)
    y, x = np.indices((2 * math.ceil(across) + 1,) * 2) - math.ceil(across)
    distance = np.hypot(x, y) / across
    disc, ring = distance <= 0.5, (distance > 0.55) & (distance <= 0.9)
    kernel = ring / ring.sum() - disc / disc.sum()
    padded = np.pad(flat, math.ceil(across), mode="reflect")
    contrast = signal.fftconvolve(padded, kernel, mode="valid")
    contrast = np.clip(_even(contrast, _BACKGROUND * across), -_CLIP, _CLIP)
    return (contrast - contrast.mean()) / (contrast.std() or 1.0), factor


def judge(measured: Iterable[Contrasts]) -> Verdict:
    """Return how the orientations compare over all micrographs.

    Parameters
    ----------
    measured : iterable of Contrasts
        Of each micrograph; at least one.
    """
    parts: Sequence[Contrasts] = list(measured)
    picks = np.concatenate([part.picks for part in parts])
    controls = np.concatenate([part.controls for part in parts])
    number = len(picks)
    if number < 2:
        none = np.zeros(len(ORIENTATIONS))
        return Verdict(none, none, none, 0, 0.0, number)
    contrast = picks.mean(axis=0)
    error = np.sqrt(picks.var(axis=0, ddof=1) / number + controls.var(ddof=1) / len(controls))
    best = int(np.argmax(np.abs(contrast)))
    sign = np.sign(contrast)
    difference = sign[best] * picks[:, best] - sign[0] * picks[:, 0]
    deviation = float(difference.std(ddof=1))
    better = float(difference.mean()) * math.sqrt(number) / deviation if best and deviation > 0 else 0.0
    outside = 1 - np.concatenate([part.inside for part in parts]).mean(axis=0)
    against = np.where(error > 0, (contrast - controls.mean()) / np.where(error > 0, error, 1.0), 0.0)
    return Verdict(contrast, against, outside, best, better, number)


def _at(pixels: np.ndarray, positions: Float[np.ndarray, "n 2"]) -> np.ndarray:
    return np.asarray(ndimage.map_coordinates(pixels, positions.T[::-1], order=1, mode="nearest"))


def _even(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return the image with local mean 0 and local standard deviation 1, clipped."""
    image = image - ndimage.gaussian_filter(image, sigma)
    deviation = np.sqrt(ndimage.gaussian_filter(image * image, sigma))
    least = 1e-3 * (float(deviation.max()) or 1.0)
    return np.asarray(np.clip(image / np.maximum(deviation, least), -_CLIP, _CLIP))
