"""Bring a micrograph to the working scale of a network: low-pass, resample, normalise (Section 4.1)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from deeppicker.config import PrepareConfig
from deeppicker.core import Grid, Micrograph, Prepared
from deeppicker.errors import InputError
from deeppicker.imaging.normalise import deviations, flatten, outlier_limits
from deeppicker.imaging.resample import resample

_MAX_SCALE = 4.0  # a particle of 11 px; smaller ones are a wrong unit or pixel size
_MAX_PREPARED = 32_768  # working pixels along a side: more than any camera needs at the smallest sensible box


def box_pixels(diameter: float, pixel_size: float, config: PrepareConfig) -> float:
    """Return the side of the box in micrograph pixels, for a particle diameter in Å and a pixel size in Å."""
    return config.box_diameters * diameter / pixel_size


def prepare(micrograph: Micrograph, diameter: float, config: PrepareConfig) -> Prepared:
    """Return the micrograph scaled so that one box spans ``config.window`` pixels, flat and of unit contrast.

    The result extends half a window beyond the micrograph on every side (mirrored), so that every position of the
    micrograph is the centre of a whole window, also in micrographs smaller than one box.

    Parameters
    ----------
    micrograph : Micrograph
        The stored image.
    diameter : float
        Particle diameter in Å.
    config : PrepareConfig
        The preparation with which the network was trained.

    Raises
    ------
    InputError
        If the diameter cannot belong to this micrograph.
    """
    image, grid = _scaled(micrograph, diameter, config)
    deviation = np.pad(deviations(image), config.window // 2, mode="symmetric")
    return Prepared(_normalised(image, config), _framed(grid, config), deviation)


def prepare_image(
    micrograph: Micrograph, diameter: float, config: PrepareConfig
) -> tuple[Float32[np.ndarray, "rows columns"], Grid]:
    """Return the image of what `prepare` returns, and its grid, for those who do not ask for deviations."""
    image, grid = _scaled(micrograph, diameter, config)
    return _normalised(image, config), _framed(grid, config)


def _scaled(
    micrograph: Micrograph, diameter: float, config: PrepareConfig
) -> tuple[Float32[np.ndarray, "rows columns"], Grid]:
    """Return the micrograph without outliers, scaled so that one box spans ``config.window`` pixels."""
    scale = working_scale(micrograph, diameter, config)
    return resample(micrograph.image, scale, outlier_limits(micrograph.image, config.clip))


def working_scale(micrograph: Micrograph, diameter: float, config: PrepareConfig) -> float:
    """Return the factor by which a micrograph is scaled, for a particle diameter in Å.

    Raises
    ------
    InputError
        If the diameter cannot belong to this micrograph.
    """
    box = box_pixels(diameter, micrograph.pixel_size, config)
    scale = config.window / box if box else np.inf
    sides = [side * scale for side in micrograph.image.shape]
    # A particle larger than the micrograph cannot be in it.
    if not (0 < scale <= _MAX_SCALE and min(sides) >= config.diameter_pixels and max(sides) <= _MAX_PREPARED):
        raise InputError(
            f"{micrograph.name}: a particle diameter of {diameter:g} Å at {micrograph.pixel_size:g} Å per pixel "
            f"is {diameter / micrograph.pixel_size:g} px in a micrograph of "
            f"{micrograph.image.shape[1]}×{micrograph.image.shape[0]} px; "
            "check --diameter and --pixel-size"
        )
    return scale


def _normalised(
    image: Float32[np.ndarray, "height width"], config: PrepareConfig
) -> Float32[np.ndarray, "rows columns"]:
    """Return the image flat and of unit contrast, with half a window more on every side."""
    if config.lowpass > 0:
        image = ndimage.gaussian_filter(image, config.lowpass, mode="nearest")
    flat = flatten(image, config.background * config.window, config.clip)
    return np.pad(flat, config.window // 2, mode="symmetric")


def _framed(grid: Grid, config: PrepareConfig) -> Grid:
    margin = float(config.window // 2)
    return grid.derive((-margin, -margin), 1.0)
