"""Are coordinates flipped or swapped? The eight orientations, compared by what the images show at the picks. No torch.

Particles look alike and differ from their surroundings, so in the right orientation the picks have something in common
that random positions do not have. What a place looks like is its *profile*: the mean of the image in rings around it.
The profiles of the other picks tell what that of a pick should be like, whether the particles are dark, bright,
solid or hollow. In a wrong orientation, picks have no more in common than random positions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage, signal

from deeppicker.core import Micrograph, Picks
from deeppicker.formats.orientation import ORIENTATIONS

_RINGS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8)  # radii in diameters between which the image is averaged
_ACROSS = 16  # pixels of the reduced image along a diameter
_CLIP = 3.0  # standard deviations; ice and dirt must not outweigh particles
_BACKGROUND = 2.1  # diameters over which the image is made flat
_CONTROLS = 1000  # random positions in each micrograph
_STEADY = 0.02  # of the mean variance of the rings, added to each, so that rings that say the same do not cancel
_CLEARLY = 5.0  # standard errors by which another orientation must be better; one in a million by chance
_BARELY = 3.0  # standard errors below which two orientations cannot be told apart
_FEWEST = 20  # picks by which anything can be told


@dataclass(frozen=True)
class Profiles:
    """The profile at each pick in each orientation, and at random positions.

    Parameters
    ----------
    picks : float array, (n, 8, rings)
        Mean of the flattened image in rings of growing radius.
    inside : bool array, (n, 8)
        Whether the pick lies in the image in that orientation.
    controls : float array, (m, rings)
        At random positions.
    """

    picks: Float[np.ndarray, "n 8 rings"]
    inside: Bool[np.ndarray, "n 8"]
    controls: Float[np.ndarray, "m rings"]


@dataclass(frozen=True)
class Verdict:
    """How the orientations compare.

    Parameters
    ----------
    contrast : float array, (8,)
        By how much a pick differs from random positions as the other picks do, in standard deviations of these; mean
        over all picks, in the order of `ORIENTATIONS`.
    against_chance : float array, (8,)
        The same in its standard errors.
    outside : float array, (8,)
        Fraction of the picks outside of their image.
    best : int
        The orientation with the largest contrast.
    behind : float array, (8,)
        By how many standard errors each falls behind the best one, pick by pick; 0 for that.
    number : int
        Of picks.
    """

    contrast: Float[np.ndarray, " 8"]
    against_chance: Float[np.ndarray, " 8"]
    outside: Float[np.ndarray, " 8"]
    best: int
    behind: Float[np.ndarray, " 8"]
    number: int

    @property
    def certain(self) -> bool:
        """Whether the picks tell anything: some orientation has clearly more contrast than random positions."""
        return self.number >= _FEWEST and float(self.against_chance[self.best]) > _CLEARLY

    @property
    def wrong(self) -> bool:
        """Whether another orientation fits clearly better than the given one."""
        return self.certain and float(self.behind[0]) > _CLEARLY

    @property
    def alike(self) -> list[int]:
        """The orientations that cannot be told apart from the best one, that among them."""
        return [index for index in range(len(ORIENTATIONS)) if self.behind[index] <= _BARELY]

    @property
    def right(self) -> bool:
        """Whether the given orientation fits clearly better than all others."""
        return self.certain and self.alike == [0]


def check_orientation(
    micrographs: Iterable[Micrograph], picks: Iterable[Picks], diameter: float, seed: int = 0
) -> Verdict:
    """Return whether coordinates are flipped or swapped against their micrographs.

    Parameters
    ----------
    micrographs, picks : iterables
        The images and the coordinates in each, in the same order; not what they are called but their order counts.
    diameter : float
        Of the particles, in Å; it may be a third too large, or a fifth too small.
    seed : int
        Of the random positions.

    Returns
    -------
    Verdict
        Its ``right``, ``wrong`` and ``certain`` say what follows, ``best`` which of `ORIENTATIONS` fits best.
    """
    both = zip(micrographs, picks, strict=True)
    return judge(
        profiles(micrograph, item.positions, diameter, np.random.default_rng(seed)) for micrograph, item in both
    )


def profiles(
    micrograph: Micrograph, positions: Float[np.ndarray, "n 2"], diameter: float, rng: np.random.Generator
) -> Profiles:
    """Return the profiles at the picks of a micrograph in all orientations, and at random positions.

    Parameters
    ----------
    micrograph : Micrograph
        Particles dark or bright.
    positions : float array, (n, 2)
        The picks (x, y) in pixels, as given.
    diameter : float
        Of the particles, in Å.
    rng : Generator
        For the random positions.
    """
    shape = micrograph.image.shape
    rings, factor = ring_maps(micrograph.image, diameter / micrograph.pixel_size)
    sides = np.array([shape[1], shape[0]])
    turned = [orientation.apply(positions, shape) for orientation in ORIENTATIONS]
    inside = np.stack([((p > -0.5) & (p < sides - 0.5)).all(axis=1) for p in turned], axis=1)
    picks = np.stack([_at(rings, p / factor) for p in turned], axis=1)
    return Profiles(picks, inside, _at(rings, rng.uniform(0, sides - 1, (_CONTROLS, 2)) / factor))


def ring_maps(
    image: Float32[np.ndarray, "height width"], diameter: float
) -> tuple[Float[np.ndarray, "rings rows columns"], float]:
    """Return the means of an image in rings around each pixel, and the reduction of these maps.

    Parameters
    ----------
    image : float32 array, (height, width)
        A micrograph.
    diameter : float
        Of the particles, in pixels.

    Returns
    -------
    maps : float array, (rings, rows, columns)
        Reduced; of an image that is flat and of even contrast, so that no region outweighs the others.
    factor : float
        Pixels of the image for each of the maps, along both sides: pixel (x, y) lies at (x, y) / factor.
    """
    factor = max(1.0, diameter / _ACROSS)
    smooth = ndimage.gaussian_filter(np.asarray(image, dtype=np.float64), 0.5 * factor if factor > 1 else 0.0)
    rows, columns = (np.rint(np.arange(0, side - 1, factor)).astype(np.int64) for side in image.shape)
    across = diameter / factor
    flat = _even(smooth[np.ix_(rows, columns)], _BACKGROUND * across)
    reach = math.ceil(_RINGS[-1] * across)
    y, x = np.indices((2 * reach + 1,) * 2) - reach
    distance = np.hypot(x, y) / across
    padded = np.pad(flat, reach, mode="reflect")
    maps = []
    for inner, outer in itertools.pairwise(_RINGS):
        ring = (distance >= inner) & (distance < outer)
        maps.append(signal.fftconvolve(padded, ring / max(1, ring.sum()), mode="valid"))
    return np.stack(maps), factor


def judge(measured: Iterable[Profiles]) -> Verdict:
    """Return how the orientations compare over all micrographs.

    Parameters
    ----------
    measured : iterable of Profiles
        Of each micrograph; at least one.
    """
    parts: Sequence[Profiles] = list(measured)
    picks = np.concatenate([part.picks for part in parts])
    inside = np.concatenate([part.inside for part in parts])
    number = len(picks)
    if number < 2:
        none = np.zeros(len(ORIENTATIONS))
        return Verdict(none, none, none, 0, none, number)
    agreement = np.where(inside, _agreement(picks, np.concatenate([part.controls for part in parts])), 0.0)
    contrast = agreement.mean(axis=0)
    best = int(np.argmax(contrast))
    against = _in_errors(agreement)
    behind = _in_errors(agreement[:, [best]] - agreement)
    return Verdict(contrast, against, 1 - inside.mean(axis=0), best, behind, number)


def _agreement(
    picks: Float[np.ndarray, "n 8 rings"], controls: Float[np.ndarray, "m rings"]
) -> Float[np.ndarray, "n 8"]:
    """Return how far each pick differs from random positions in the direction in which the other picks do.

    That direction is Fisher's, which separates the two best; in standard deviations of random positions.
    """
    centred = picks - controls.mean(axis=0)
    covariance = np.cov(controls, rowvar=False)
    covariance += np.eye(len(covariance)) * (_STEADY * np.trace(covariance) / len(covariance) + 1e-12)
    white = centred @ np.linalg.cholesky(np.linalg.inv(covariance))
    others = (white.sum(axis=0) - white) / (len(white) - 1)
    length = np.linalg.norm(others, axis=-1)
    return np.asarray((white * others).sum(axis=-1) / np.where(length > 0, length, 1.0))


def _in_errors(values: Float[np.ndarray, "n 8"]) -> Float[np.ndarray, " 8"]:
    """Return the mean of each column in its standard errors."""
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return np.where(error > 0, values.mean(axis=0) / np.where(error > 0, error, 1.0), 0.0)


def _at(maps: Float[np.ndarray, "rings rows columns"], positions: Float[np.ndarray, "n 2"]) -> np.ndarray:
    """Return the values of all maps at positions, (n, rings)."""
    where = positions.T[::-1]
    return np.stack([ndimage.map_coordinates(one, where, order=1, mode="nearest") for one in maps], axis=1)


def _even(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return the image with local mean 0 and local standard deviation 1, clipped."""
    image = image - ndimage.gaussian_filter(image, sigma)
    deviation = np.sqrt(ndimage.gaussian_filter(image * image, sigma))
    least = 1e-3 * (float(deviation.max()) or 1.0)
    return np.asarray(np.clip(image / np.maximum(deviation, least), -_CLIP, _CLIP))
