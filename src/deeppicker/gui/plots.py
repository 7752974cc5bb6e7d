"""Plots as SVG text, for the page and for the report: they take on the colours of where they are.

Matplotlib's SVG carries styles in its elements, which the security policy of the page forbids.
"""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_WIDTH, _HEIGHT = 480, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 40
_MOST = 3000  # points that are drawn
_COLOUR = "#1b8a78"
_WINDOW = 10  # points that a running mean covers at least


@dataclass(frozen=True)
class Plot:
    """A plot, and what it shows as a table.

    Parameters
    ----------
    title : str
        What is plotted.
    svg : str
        The picture.
    csv : str
        The numbers, with a header.
    """

    title: str
    svg: str
    csv: str


@dataclass(frozen=True)
class Axis:
    """One direction of a plot.

    Parameters
    ----------
    label : str
        What it shows, with the unit.
    low, high : float
        Its ends.
    """

    label: str
    low: float
    high: float

    def ticks(self) -> list[float]:
        """Return some round numbers within the axis."""
        span = self.high - self.low or 1.0
        step = 10 ** math.floor(math.log10(span / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (factor * step) <= 5)
        first = math.ceil(self.low / step - 1e-9)
        return [float(round(i * step, 10)) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def part(self, value: float | int) -> float:
        """Return where a value lies, from 0 to 1."""
        return (value - self.low) / (self.high - self.low or 1.0)


def axis_of(label: str, values: Sequence[float], *, low: float | None = None, high: float | None = None) -> Axis:
    """Return an axis that holds all values."""
    least = low if low is not None else min(values, default=0.0)
    most = high if high is not None else max(values, default=1.0)
    return Axis(label, float(least), float(most if most > least else least + 1))


def histogram(title: str, counts: Sequence[int], x: Axis) -> Plot:
    """Return bars over equal ranges of ``x``; their heights are logarithms, so that few are seen beside many."""
    tall = [math.log10(1 + count) for count in counts]
    y = axis_of("Number", tall, low=0.0)
    width = (_WIDTH - _LEFT - _RIGHT) / max(1, len(counts))
    bars = "".join(
        f'<rect x="{_LEFT + i * width:.1f}" y="{_y(y.part(value)):.1f}" width="{max(0.5, width - 1):.1f}" '
        f'height="{max(0.0, _y(0.0) - _y(y.part(value))):.1f}" fill="{_COLOUR}"/>'
        for i, value in enumerate(tall)
    )
    powers = range(math.floor(y.high) + 1)
    labels = [(y.part(math.log10(1 + 10**power) if power else 0.301), f"{10**power:,}") for power in powers]
    edges = [x.low + i * (x.high - x.low) / max(1, len(counts)) for i in range(len(counts))]
    return Plot(
        title, _svg(title, x, y, bars, labels), _csv([f"{x.label} from", "Number"], zip(edges, counts, strict=True))
    )


def scatter(title: str, points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> Plot:
    """Return points, and their running mean if there are enough."""
    stride = max(1, math.ceil(len(points) / _MOST))
    dots = "".join(
        f'<circle cx="{_x(x.part(a)):.1f}" cy="{_y(y.part(b)):.1f}" r="2.8" fill="{_COLOUR}" fill-opacity="0.65"/>'
        for a, b in points[::stride]
    )
    course = _path(_running_mean(points), x, y, "currentColor") if len(points) >= 2 * _WINDOW else ""
    return Plot(title, _svg(title, x, y, dots + course), _csv([x.label, y.label], points))


def line(title: str, points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> Plot:
    """Return points joined by a line."""
    return Plot(title, _svg(title, x, y, _path(points, x, y, _COLOUR)), _csv([x.label, y.label], points))


def _path(points: Sequence[tuple[float, float]], x: Axis, y: Axis, colour: str) -> str:
    path = " ".join(f"{_x(x.part(a)):.1f},{_y(y.part(b)):.1f}" for a, b in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return means over neighbours in the order of x, at most as many as there is room for."""
    wide = max(_WINDOW, len(points) // 20)
    ordered = np.array(sorted(points))
    sums = np.cumsum(np.concatenate([[[0.0, 0.0]], ordered]), axis=0)
    means = (sums[wide:] - sums[:-wide]) / wide
    return [(float(a), float(b)) for a, b in means[:: max(1, len(means) // 200)]]


def _csv(header: Sequence[str], rows: Iterable[Sequence[float | int]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{value:.6g}" for value in row] for row in rows)
    return text.getvalue()


def _x(part: float | int) -> float:
    return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)


def _y(part: float | int) -> float:
    return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)


def _svg(title: str, x: Axis, y: Axis, content: str, labels: Sequence[tuple[float, str]] | None = None) -> str:
    labels = labels if labels is not None else [(y.part(tick), f"{tick:,g}") for tick in y.ticks()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="currentColor"><title>{html.escape(title)}</title>'
        + "".join(_grid(x, labels))
        + content
        + f'<text x="{_x(0.5):.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(x.label)}</text>'
        + f'<text transform="translate(12 {_y(0.5):.0f}) rotate(-90)" text-anchor="middle">'
        + f"{html.escape(y.label)}</text>"
        + "</svg>"
    )


def _grid(x: Axis, labels: Sequence[tuple[float, str]]) -> Iterator[str]:
    for tick in x.ticks():
        place = _x(x.part(tick))
        yield f'<text x="{place:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:,g}</text>'
    for part, label in labels:
        place = _y(part)
        yield (
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}" stroke="currentColor" '
            f'stroke-opacity="0.18"/><text x="{_LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{label}</text>'
        )
