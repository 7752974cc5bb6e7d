"""A contact sheet: what picks look like, the best, those at the threshold, what was rejected, and random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float32
from scipy import ndimage

from deeppicker.core import BOX_DIAMETERS, Micrograph
from deeppicker.evaluation.figures import DPI, picture

_TILE = 96  # pixels of a window
_SHADES = 3.0  # standard deviations from the middle grey to black and white


def montage(rows: Mapping[str, Sequence[Float32[np.ndarray, "side side"]]], kind: str = "png") -> bytes:
    """Draw rows of windows, each with its name, as a picture of a kind that `figures.picture` knows."""
    from matplotlib.figure import Figure

    columns = max([1, *map(len, rows.values())])
    width, height = columns * _TILE, len(rows) * (_TILE + 22)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="#1A1A1A")
    for number, (name, windows) in enumerate(rows.items()):
        top = 1 - number * (_TILE + 22) / height
        figure.text(6 / width, top - 11 / height, name, color="white", fontsize=10, va="center_baseline")
        for column, window in enumerate(windows):
            place = (column * _TILE / width, top - (_TILE + 22) / height, (_TILE - 2) / width, (_TILE - 2) / height)
            axes = figure.add_axes(place)
            axes.imshow(window, cmap="gray", vmin=-_SHADES, vmax=_SHADES, interpolation="bilinear")
            axes.set_axis_off()
    return picture(figure, kind)


def windows(
    micrograph: Micrograph, positions: Float[np.ndarray, "n 2"], particle_diameter: float
) -> list[Float32[np.ndarray, "side side"]]:
    """Return windows of one and a half diameters (Å) around positions, smoothed, each in its own standard deviations.

    What lies outside of the micrograph is NaN, which is drawn as nothing.
    """
    pixels = particle_diameter / micrograph.pixel_size
    half = max(2, round(BOX_DIAMETERS * pixels / 2))
    smooth = ndimage.gaussian_filter(micrograph.image, pixels / 25)
    padded = np.pad(smooth, half, constant_values=np.nan)
    found = []
    height, width = smooth.shape
    for x, y in np.clip(np.rint(positions), 0, [width - 1, height - 1]).astype(int).tolist():
        window = padded[y : y + 2 * half, x : x + 2 * half]
        found.append(np.asarray((window - np.nanmean(window)) / (np.nanstd(window) or 1.0), dtype=np.float32))
    return found
