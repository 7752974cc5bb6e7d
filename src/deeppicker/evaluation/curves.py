"""Curves, histograms and the matrix of agreement, as the bytes of PNG files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from deeppicker.evaluation.figures import DPI, png, score_range
from deeppicker.evaluation.ranking import PicksCurve
from deeppicker.evaluation.results import DefocusBin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def precision_recall_figure(curves: Mapping[str, PicksCurve]) -> bytes:
    """Draw precision against recall, one line per entry, named by its key (empty: no legend)."""
    figure, axes = _plot("Recall", "Precision")
    for (label, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        axes.plot(curve.recall, curve.precision, color=colour, label=label, linewidth=1.8)
    _unit_range(axes, x=True)
    _legend(axes)
    return png(figure)


def picks_ratio_figure(curves: Mapping[str, PicksCurve]) -> bytes:
    """Draw recall (solid) and precision (dashed) against the number of best-scored picks, as in Fig. 2c-e."""
    figure, axes = _plot("Number of picks / number of reference particles", "Recall, precision")
    for (label, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        name = f" {label}" if label else ""
        axes.plot(curve.ratio, curve.recall, color=colour, label=f"recall{name}", linewidth=1.8)
        axes.plot(curve.ratio, curve.precision, "--", color=colour, label=f"precision{name}", linewidth=1.8)
    _unit_range(axes, x=False)
    axes.set_xlim(left=0)
    axes.legend(frameon=False)
    return png(figure)


def defocus_figure(bins: Sequence[DefocusBin]) -> bytes:
    """Draw recall against defocus, one bar per range, as in Fig. 6a-c."""
    figure, axes = _plot("Defocus (µm)", "Recall")
    for entry in bins:
        low, high = entry.low, entry.high
        axes.bar(low, entry.recall, high - low, align="edge", color=_LINES[5], edgecolor="white")
        label = f"{entry.references}\nparticles"
        axes.text((low + high) / 2, 0.02, label, ha="center", va="bottom", fontsize=8)
    _unit_range(axes, x=False)
    return png(figure)


def score_histogram(scores: Mapping[str, Float[np.ndarray, " n"]]) -> bytes:
    """Draw how the scores of one or more sets of picks are distributed, as in Fig. 6d, e."""
    figure, axes = _plot("Score", "Number of picks")
    finite = {label: values[np.isfinite(values)] for label, values in scores.items()}
    low, high = score_range(np.concatenate([*finite.values(), np.zeros(0)]))
    edges = np.linspace(low, high, 41)
    for (label, values), colour in zip(finite.items(), _colours(len(finite)), strict=True):
        counts, _ = np.histogram(values, edges)
        axes.stairs(counts, edges, color=colour, fill=True, alpha=0.35)
        axes.stairs(counts, edges, color=colour, label=label, linewidth=1.5)
    axes.set_xlim(low, high)
    _legend(axes)
    return png(figure)


def training_curves(history: Sequence[Mapping[str, int | float]]) -> bytes:
    """Draw loss, accuracy and learning rate against the epoch.

    Parameters
    ----------
    history : sequence of mappings
        One per epoch with the keys ``epoch``, ``train_loss``, ``train_accuracy``,
        ``validation_loss``, ``validation_accuracy`` and ``learning_rate``; an undefined number leaves a gap.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.2), dpi=DPI, layout="constrained")
    panels = (
        ("Loss", ("train_loss", "validation_loss")),
        ("Accuracy", ("train_accuracy", "validation_accuracy")),
        ("Learning rate", ("learning_rate",)),
    )
    epochs = [row["epoch"] for row in history]
    for axes, (title, keys) in zip(figure.subplots(1, 3), panels, strict=True):
        _style(axes, "Epoch", title)
        for key, colour in zip(keys, _LINES, strict=False):
            label = "validation" if key.startswith("validation") else "training"
            values = [_number(row[key]) for row in history]
            axes.plot(epochs, values, color=colour, label=label, linewidth=1.8, marker=".")
        if len(keys) > 1:
            axes.legend(frameon=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return png(figure)


def agreement_matrix(labels: Sequence[str], found: Float[np.ndarray, "n n"]) -> bytes:
    """Draw which part of each set of picks (a row) the other sets (the columns) have too; NaN stays empty."""
    from matplotlib.figure import Figure

    count = len(labels)
    side = 1.6 + 0.6 * count
    figure = Figure(figsize=(side + 1.6, side), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(found, cmap="Blues", vmin=0, vmax=1)
    shown = [label.replace("$", r"\$") for label in labels]
    axes.set_xticks(range(count), shown, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), shown)
    axes.set_ylabel("Picks of")
    axes.set_xlabel("found by")
    for (row, column), value in np.ndenumerate(found):
        if np.isfinite(value):
            colour = "white" if value > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    return png(figure)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _plot(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _style(axes, x_label, y_label)
    return figure, axes


def _style(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _unit_range(axes: Axes, *, x: bool) -> None:
    axes.set_ylim(0, 1.02)
    if x:
        axes.set_xlim(0, 1.02)


def _legend(axes: Axes) -> None:
    """Show a legend if any line has a name."""
    if any(axes.get_legend_handles_labels()[1]):
        axes.legend(frameon=False)


def _colours(count: int) -> list[str]:
    return [_LINES[i % len(_LINES)] for i in range(count)]
