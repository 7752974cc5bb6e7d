"""Plots of a whole run: scores, picks in the order of the micrographs, precision, defocus, contamination."""

from __future__ import annotations

from collections.abc import Mapping

from deeppicker.evaluation.evaluate import evaluate_picks
from deeppicker.evaluation.results import EvaluateConfig, Evaluation, MicrographInfo
from deeppicker.gui.plots import Axis, Plot, axis_of, histogram, line, scatter
from deeppicker.gui.project import Project
from deeppicker.gui.scores import Scores
from deeppicker.runs.selection import passing

_LEAST = 120.0  # seconds that a data collection takes at least


def plots_of(project: Project, scores: Scores) -> list[Plot]:
    """Return the plots that there are data for."""
    rows = [(i, row) for i, row in enumerate(project.rows) if row is not None and not row.error]
    known = range(len(project.entries)) if project.wanted.picks is not None else [i for i, _ in rows]
    counts = project.counts()
    picks = {i: float(counts[i]) for i in known}
    precision = {i: row.right / row.picks for i, row in rows if row.picks}
    ice = {i: share for i, share in enumerate(scores.ice) if share is not None}
    order = {i: float(i + 1) for i in range(len(project.entries))}
    defocus = {i: entry.defocus for i, entry in enumerate(project.entries) if entry.defocus is not None}
    plots, spread = [], scores.histogram()
    if any(spread):
        plots.append(histogram("Scores of all candidates", spread, Axis("Score", 0.0, 1.0)))
    plots += _against(order, "Micrograph, in order", picks, "Picks", "Picks of each micrograph")
    plots += _against(order, "Micrograph, in order", precision, "Precision", "Expected precision")
    if len(hours := _hours(scores)) > 1:
        plots += _against(hours, "Hours", picks, "Picks", "Picks over time")
        plots += _against(hours, "Hours", precision, "Precision", "Expected precision over time")
    plots += _against(defocus, "Defocus (µm)", picks, "Picks", "Picks against defocus")
    plots += _against(defocus, "Defocus (µm)", precision, "Precision", "Expected precision against defocus")
    if any(ice.values()):
        plots += _against(order, "Micrograph, in order", ice, "Part", "Contaminated part of the area")
    found = evaluated(project)
    if found is not None and found.curve is not None:
        points = list(zip(found.curve.recall, found.curve.precision, strict=True))
        part = Axis("Precision", 0.0, 1.0)
        plots.append(line("Precision against recall", points, Axis("Recall", 0.0, 1.0), part))
    return plots


def _against(x: Mapping[int, float], along: str, y: Mapping[int, float], up: str, title: str) -> list[Plot]:
    """Return a plot of one property of micrographs against another; none if nothing is known."""
    points = [(x[i], value) for i, value in y.items() if i in x]
    if not points:
        return []
    tall = axis_of(up, [b for _, b in points], low=0.0) if up == "Picks" else Axis(up, 0.0, 1.0)
    return [scatter(title, points, axis_of(along, [a for a, _ in points]), tall)]


def _hours(scores: Scores) -> dict[int, float]:
    """Return when micrographs were written, in hours after the first; nothing if all were copied at once."""
    times = {i: time for i, time in enumerate(scores.times) if time is not None}
    first, last = min(times.values(), default=0.0), max(times.values(), default=0.0)
    return {i: (time - first) / 3600 for i, time in times.items()} if last - first > _LEAST else {}


def evaluated(project: Project) -> Evaluation | None:
    """Return how the candidates agree with the reference, if there is one."""
    if not project.reference or project.diameter is None:
        return None
    select = project.select
    config = EvaluateConfig(particle_diameter=project.diameter, threshold=project.threshold)
    picks, reference, info = [], [], {}
    for index, entry in enumerate(project.entries):
        key = project.key(index)
        if key not in project.reference or not entry.path.is_file():
            continue
        header = project.header(index)
        if header.pixel_size is None:
            continue
        found = project.automatic(index)
        picks.append(found if select is None else found.where(passing(found, select)))
        reference.append(project.reference[key])
        size = (header.height, header.width)
        info[key] = MicrographInfo(pixel_size=header.pixel_size, size=size, defocus=entry.defocus)
    return evaluate_picks(picks, reference, config, info) if picks else None
