"""What self-training changes in a data set: picks that came and went, and class averages before and after."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial import cKDTree

from deeppicker.config import ClassifyConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.particles.classify.em import classify
from deeppicker.particles.classify.others import sample
from deeppicker.particles.classify.refine import refine
from deeppicker.particles.classify.windows import cut, join

COLOURS = ((255, 255, 255), (0, 158, 115), (213, 94, 0), (240, 228, 66))
"""Of picks that stayed, came and went, and of known particles; those of Okabe and Ito, for colour-blind readers."""

_SHOWN = 500  # pixels of a micrograph that a picture shows
_MOST = 600  # picks that are averaged
_CLASSES = 12
_INCHES, _DPI = 6, 100  # side of the square that shows the micrograph
_SHADES = (1, 99.7)  # percentiles that are drawn black and white


def draw(
    micrographs: Sequence[Micrograph],
    truth: Sequence[Picks],
    diameter: float,
    before: Sequence[Picks],
    after: Sequence[Picks],
    path: Path,
) -> None:
    """Draw part of the first micrograph with the picks before and after learning, and beside it their averages.

    Parameters
    ----------
    micrographs : sequence of Micrograph
        All of the data set.
    truth, before, after : sequence of Picks
        Of each micrograph.
    diameter : float
        Of the particle, in Å.
    path : Path
        The picture to write: a PNG.
    """
    figure = Figure(figsize=(1.7 * _INCHES, _INCHES), dpi=_DPI)
    whole = 1 / 1.7
    axes = figure.add_axes((0, 0, whole, 1))
    _draw_picks(axes, micrographs[0], truth[0], 0.5 * diameter, before[0], after[0])
    for row, (title, picks) in enumerate((("before", before), ("after", after))):
        axes = figure.add_axes((whole + 0.01, 0.5 - 0.5 * row, 0.99 - whole, 0.46))
        axes.set_title(f"{sum(map(len, picks)):,} picks {title}", fontsize=11, pad=3)
        axes.axis("off")
        sheet = _sheet(micrographs, picks, diameter)
        if sheet is not None:
            axes.imshow(sheet, cmap="gray", vmin=0, vmax=1)
    buffer = io.BytesIO()
    figure.savefig(buffer)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*np.repeat(np.arange(0, 256, 9), 3).tolist(), *np.ravel(COLOURS).tolist()])
    Image.open(buffer).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def _draw_picks(axes: Axes, micrograph: Micrograph, truth: Picks, radius: float, before: Picks, after: Picks) -> None:
    """Draw the picks that stayed (white), came (green) and went (orange), and known centres (dots)."""
    image = micrograph.image[:_SHOWN, :_SHOWN]
    low, high = np.percentile(image, (1, 99))
    pixels = radius / micrograph.pixel_size
    stayed, kept = (_near(*pair, 0.6 * pixels) for pair in ((after, before), (before, after)))
    axes.imshow(image, cmap="gray", vmin=low, vmax=high)
    axes.scatter(*truth.positions.T, s=4, color=np.array(COLOURS[-1]) / 255)
    size = (72 * _INCHES * 2 * pixels / _SHOWN) ** 2 / 2
    kinds = (after.positions[stayed], after.positions[~stayed], before.positions[~kept])
    for points, colour in zip(kinds, COLOURS, strict=False):
        edge = np.array(colour) / 255
        axes.scatter(*points.T, s=size, facecolors="none", edgecolors=edge, linewidths=1.5)
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    axes.axis("off")


def _near(points: Picks, others: Picks, radius: float) -> np.ndarray:
    if len(points) == 0 or len(others) == 0:
        return np.zeros(len(points), dtype=bool)
    return np.asarray(cKDTree(others.positions).query(points.positions)[0] <= radius)


def _sheet(micrographs: Sequence[Micrograph], picks: Sequence[Picks], diameter: float) -> np.ndarray | None:
    """Return the class averages of some picks side by side, the largest class first; None if there are no picks."""
    drawn = sample(picks, _MOST, np.random.default_rng(0))
    some = [(micrograph, one) for micrograph, one in zip(micrographs, drawn, strict=True) if len(one)]
    if not some:
        return None
    config = ClassifyConfig(classes=_CLASSES)
    windows = join([cut(micrograph, one.positions, diameter, config.side) for micrograph, one in some])
    classes = refine(windows, *classify(windows, config), config)
    members = torch.bincount(classes.alignment.label, minlength=_CLASSES)
    tiles = []
    for index in torch.argsort(members, descending=True).tolist():
        average = classes.averages[index].numpy()
        low, high = np.percentile(average, _SHADES)
        tile = np.clip((average - low) / max(high - low, 1e-9), 0, 1) if members[index] else np.ones_like(average)
        tiles.append(np.pad(tile, 1, constant_values=1))
    rows = [np.hstack(tiles[start : start + 4]) for start in range(0, _CLASSES, 4)]
    return np.vstack(rows)
