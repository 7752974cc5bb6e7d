"""Plots of a whole run: scores, picks in the order of the micrographs, precision, defocus, contamination."""

from __future__ import annotations

from collections.abc import Sequence

from deeppicker.evaluation.evaluate import evaluate_picks
from deeppicker.evaluation.results import EvaluateConfig, Evaluation, MicrographInfo
from deeppicker.gui.plots import Axis, axis_of, histogram, line, scatter
from deeppicker.gui.project import Project
from deeppicker.gui.scores import Scores


def plots_of(project: Project, scores: Scores) -> list[tuple[str, str]]:
    """Return the plots that there are data for, each with its title."""
    rows = [(i, row) for i, row in enumerate(project.rows) if row is not None and not row.error]
    order = axis_of("Micrograph, in order", [float(i + 1) for i, _ in rows], low=1.0)
    part = Axis("Precision", 0.0, 1.0)
    plots = [histogram("Scores of all candidates", scores.histogram(), Axis("Score", 0.0, 1.0))]
    picks = [(float(i + 1), float(row.picks)) for i, row in rows]
    plots.append(scatter("Picks of each micrograph", picks, order, _numbers(picks)))
    rates = [(float(i + 1), row.right / row.picks) for i, row in rows if row.picks]
    plots.append(scatter("Expected precision", rates, order, part))
    defocus = [(focus, float(row.picks)) for i, row in rows if (focus := project.entries[i].defocus) is not None]
    if defocus:
        x = axis_of("Defocus (µm)", [x for x, _ in defocus])
        plots.append(scatter("Picks against defocus", defocus, x, _numbers(defocus)))
    ice = [(float(i + 1), share) for i, share in enumerate(scores.ice) if share is not None]
    if any(share for _, share in ice):
        plots.append(scatter("Contaminated part of the area", ice, order, Axis("Part", 0.0, 1.0)))
    found = evaluated(project)
    if found is not None and found.curve is not None:
        points = list(zip(found.curve.recall, found.curve.precision, strict=True))
        plots.append(line("Precision against recall", points, Axis("Recall", 0.0, 1.0), part))
    return [(_title(plot), plot) for plot in plots]


def _numbers(points: Sequence[tuple[float, float]]) -> Axis:
    return axis_of("Picks", [y for _, y in points], low=0.0)


def _title(plot: str) -> str:
    return plot.partition("<title>")[2].partition("</title>")[0]


def evaluated(project: Project) -> Evaluation | None:
    """Return how the candidates agree with the reference, if there is one."""
    if not project.reference or project.diameter is None:
        return None
    config = EvaluateConfig(particle_diameter=project.diameter, threshold=project.threshold)
    picks, reference, info = [], [], {}
    for index, entry in enumerate(project.entries):
        key = project.key(index)
        header = project.header(index)
        if key not in project.reference or header.pixel_size is None:
            continue
        picks.append(project.automatic(index))
        reference.append(project.reference[key])
        size = (header.height, header.width)
        info[key] = MicrographInfo(pixel_size=header.pixel_size, size=size, defocus=entry.defocus)
    return evaluate_picks(picks, reference, config, info) if picks else None
