"""One style for all figures: colours that colour-blind readers can tell apart, and lines that differ in print."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from deeppicker.core import Micrograph
from deeppicker.evaluation.overlays import displayed
from deeppicker.formats.atomic import atomic_path, make_folder

# The palette of Okabe and Ito; blue, green, vermilion and black for one to four other molecules, near to the paper's.
COLOURS = ("#0072B2", "#009E73", "#D55E00", "#000000", "#CC79A7", "#E69F00", "#56B4E9")
OWN = "#E69F00"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "deeppicker",
}
_PANEL = (2.7, 2.4)  # inches


class Canvas:
    """Where the figures of an experiment go: PNG and SVG files, named after it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    @contextmanager
    def panels(self, stem: str, columns: int, rows: int = 1, size: tuple[float, float] = _PANEL, **options: Any) -> Any:
        """Give the axes of a new figure, flat, and write it at the end; without frames if ``axis`` is False."""
        axis = options.pop("axis", True)
        with matplotlib.rc_context(_STYLE):
            figure = Figure(figsize=(columns * size[0], rows * size[1]), dpi=150, layout="constrained")
            axes = np.atleast_1d(figure.subplots(rows, columns, **options)).ravel()
            if not axis:
                for one in axes:
                    one.set_axis_off()
            yield axes
            self.write(figure, stem)

    def write(self, figure: Figure, stem: str) -> None:
        """Write a figure."""
        make_folder(self.folder)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            with atomic_path(self.folder / f"{self.name}-{stem}.{kind}") as path, path.open("wb") as file:
                figure.savefig(file, format=kind, metadata=metadata)

    def stem(self, stem: str) -> str:
        """Return the name of a figure's files without their suffix."""
        return f"{self.name}-{stem}"


def shared_legend(axes: Sequence[Axes], columns: int = 5) -> None:
    """Draw the legend of the first panel below all panels."""
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=columns)  # type: ignore[call-arg]


def show_micrograph(axes: Axes, micrograph: Micrograph, diameter: float) -> None:
    """Draw a micrograph, smoothed to what a particle needs and stretched."""
    height, width = micrograph.image.shape
    image = displayed(micrograph.image, diameter / micrograph.pixel_size)
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.grid(visible=False)


def bar(axes: Axes, name: str, value: float, points: Sequence[float], colour: str) -> None:
    """Draw a horizontal bar below those that are there, with points on it."""
    axes.barh(name, value, color=colour, alpha=0.55)
    axes.plot(points, [name] * len(points), "o", color="black", markersize=3.5)
    axes.yaxis.set_inverted(True)


def circles(axes: Axes, positions: np.ndarray, diameter: float, colour: str, style: str = "solid") -> None:
    """Draw circles of a diameter in pixels."""
    size = np.full(len(positions), diameter)
    axes.add_collection(
        EllipseCollection(
            size, size, np.zeros(len(positions)), units="xy", offsets=positions, offset_transform=axes.transData,
            facecolors="none", edgecolors=colour, linewidths=1.6, linestyles=style,
        )
    )  # fmt: skip
