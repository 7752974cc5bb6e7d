"""Pictures of picks over their micrograph, as the bytes of files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32
from scipy import ndimage

from deeppicker.core import Micrograph, Picks
from deeppicker.evaluation.agreement import Agreement
from deeppicker.evaluation.figures import DPI, picture, score_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

# From the palette of Okabe and Ito, which colour-blind readers can tell apart; these stand out on grey.
MATCHED = "#56B4E9"
FALSE = "#E69F00"
MISSED = "#F0E442"
LEFT_OUT = "#B0B0B0"
_SHADES = 3.5  # robust standard deviations from the median that become black and white at most
_WIDTHS = (900, 1500)  # pixels
_BAR_HEIGHT = 40  # pixels
_BAR_COLOUR = "#1A1A1A"


@dataclass(frozen=True)
class _Layer:
    """Circles of one kind and their line in the legend."""

    positions: Float[np.ndarray, "n 2"]
    colour: str
    dashed: bool
    label: str


def overlay(micrograph: Micrograph, picks: Picks, particle_diameter: float, kind: str = "png") -> bytes:
    """Draw the picks over their micrograph, coloured by score, as circles of the particle's size.

    Parameters
    ----------
    micrograph : Micrograph
        Drawn smoothed and with its contrast stretched, 900 to 1500 pixels wide; row 0 is at the top.
    picks : Picks
        Circles; one colour when they have no scores.
    particle_diameter : float
        Å. Diameter of the circles.
    kind : str
        One of `figures.KINDS`.

    Returns
    -------
    bytes
        A file of that kind.
    """
    figure, axes, width = _canvas(micrograph, particle_diameter)
    layer = _Layer(picks.positions, MATCHED, False, f"{len(picks)} picks")
    if not picks.has_scores:
        _draw_layers(figure, axes, [layer], particle_diameter / micrograph.pixel_size)
        return picture(figure, kind)
    colours = _score_colours(picks.scores)
    circles = _circles(axes, layer, particle_diameter / micrograph.pixel_size)
    circles.set_edgecolor(colours.to_rgba(picks.scores))
    _legend_text(figure, 0.015, layer.label, "white")
    _score_bar(figure, colours, width)
    return picture(figure, kind)


def overlay_agreement(
    micrograph: Micrograph, agreement: Agreement, particle_diameter: float, kind: str = "png"
) -> bytes:
    """Draw what agrees with the reference, what is false and what is missed, as circles of the particle size.

    See `overlay` for the parameters; missed references are dashed, so the kinds differ without colour too.
    """
    figure, axes, _ = _canvas(micrograph, particle_diameter)
    layers = [
        _Layer(agreement.left_out, LEFT_OUT, True, f"left out, at the border: {len(agreement.left_out)}"),
        _Layer(agreement.missed, MISSED, True, f"references missed: {len(agreement.missed)}"),
        _Layer(agreement.false, FALSE, False, f"picks without reference: {len(agreement.false)}"),
        _Layer(agreement.matched, MATCHED, False, f"picks that agree: {len(agreement.matched)}"),
    ]
    _draw_layers(figure, axes, layers, particle_diameter / micrograph.pixel_size)
    return picture(figure, kind)


def displayed(image: Float32[np.ndarray, "height width"], diameter: float) -> Float32[np.ndarray, "height_2 width_2"]:
    """Return the image binned to at most the largest width, smoothed, and stretched to 0-1."""
    factor = max(1, math.ceil(image.shape[1] / _WIDTHS[1]))
    height, width = (factor * max(1, side // factor) for side in image.shape)
    binned = image[:height, :width].reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
    smooth = ndimage.gaussian_filter(binned.astype(np.float32), diameter / factor / 25)
    low, high = np.percentile(smooth, [0.5, 99.5]).tolist()
    middle = float(np.median(smooth))  # ice and particles are most of the image, junk must not set the contrast
    spread = _SHADES * 1.4826 * float(np.median(np.abs(smooth - middle)))
    low, high = max(low, middle - spread), min(high, middle + spread)
    stretched: Float32[np.ndarray, "height_2 width_2"] = np.clip((smooth - low) / max(high - low, 1e-12), 0, 1)
    return stretched


def _canvas(micrograph: Micrograph, particle_diameter: float) -> tuple[Figure, Axes, int]:
    """Return a figure with the image above a bar for the legend, its axes in micrograph pixels, its width."""
    from matplotlib.figure import Figure

    height, width = micrograph.image.shape
    shown_width = int(np.clip(width, *_WIDTHS))
    shown_height = max(1, round(shown_width * height / width))
    total = shown_height + _BAR_HEIGHT
    figure = Figure(figsize=(shown_width / DPI, total / DPI), dpi=DPI, facecolor=_BAR_COLOUR)
    axes = figure.add_axes((0.0, _BAR_HEIGHT / total, 1.0, shown_height / total))
    image = displayed(micrograph.image, particle_diameter / micrograph.pixel_size)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="bilinear", aspect="auto")
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    _scale_bar(axes, micrograph)
    return figure, axes, shown_width


def _circles(axes: Axes, layer: _Layer, diameter: float) -> Any:
    """Add circles of a diameter in micrograph pixels and return their collection."""
    from matplotlib.collections import EllipseCollection

    n = len(layer.positions)
    circles = EllipseCollection(
        np.full(n, diameter),
        np.full(n, diameter),
        np.zeros(n),
        units="xy",
        offsets=layer.positions,
        offset_transform=axes.transData,
        facecolors="none",
        edgecolors=layer.colour,
        linewidths=1.4,
        linestyles="--" if layer.dashed else "-",
    )
    axes.add_collection(circles, autolim=False)
    return circles


def _draw_layers(figure: Figure, axes: Axes, layers: Sequence[_Layer], diameter: float) -> None:
    for layer in layers:
        _circles(axes, layer, diameter)
    x = 0.015
    for layer in reversed(layers):
        if len(layer.positions) or not layer.label.endswith("left out"):
            x = _legend_text(figure, x, ("◌ " if layer.dashed else "○ ") + layer.label, layer.colour)


def _legend_text(figure: Figure, x: float, label: str, colour: str) -> float:
    """Write a label into the bar at ``x`` and return where the next one goes."""
    middle = _BAR_HEIGHT / 2 / DPI / float(figure.get_figheight())
    text = figure.text(x, middle, label, color=colour, fontsize=11, va="center_baseline")
    extent = text.get_window_extent()
    return x + (extent.width + 22) / DPI / float(figure.get_figwidth())


def _score_colours(scores: Float[np.ndarray, " n"]) -> ScalarMappable:
    """Return the colours of scores: purple for low ones to yellow for high ones, grey for none."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    bright = ListedColormap(colormaps["plasma"](np.linspace(0.25, 1, 192))).with_extremes(bad=LEFT_OUT)
    return ScalarMappable(Normalize(*score_range(scores)), bright)


def _score_bar(figure: Figure, colours: ScalarMappable, width: int) -> None:
    """Put the colours of the scores at the right end of the bar."""
    height = DPI * float(figure.get_figheight())
    axes = figure.add_axes(((width - 270) / width, 14 / height, 210 / width, 12 / height))
    figure.colorbar(colours, cax=axes, orientation="horizontal", ticks=[])
    low, high = colours.get_clim()
    style: dict[str, Any] = {"color": "white", "fontsize": 10, "va": "center", "transform": axes.transAxes}
    axes.text(-0.03, 0.5, f"score {low:.3g}", ha="right", **style)
    axes.text(1.03, 0.5, f"{high:.3g}", ha="left", **style)


def _scale_bar(axes: Axes, micrograph: Micrograph) -> None:
    """Draw a bar of a round length, about a seventh of the width, in the lower left corner."""
    from matplotlib.patches import Rectangle

    height, width = micrograph.image.shape
    length = _round_length(width * micrograph.pixel_size / 7)
    label = f"{length / 10:g} nm" if length >= 100 else f"{length:g} Å"
    unit = width / 100
    pixels = length / micrograph.pixel_size
    for corner, size, colour, alpha in (
        ((unit, height - 5.2 * unit), (pixels + 2 * unit, 4.2 * unit), "black", 0.6),
        ((2 * unit, height - 2.4 * unit), (pixels, 0.6 * unit), "white", 1.0),
    ):
        axes.add_patch(Rectangle(corner, *size, facecolor=colour, edgecolor="none", alpha=alpha, zorder=4))
    middle = (2 * unit + pixels / 2, height - 2.8 * unit)
    axes.text(*middle, label, color="white", fontsize=12, ha="center", va="bottom", zorder=5)


def _round_length(length: float) -> float:
    """Return the largest of 1, 2, 5 × 10^k that is not above the length."""
    power = 10.0 ** math.floor(math.log10(length))
    return power * max(step for step in (1, 2, 5) if step * power <= length * (1 + 1e-9))
