"""One HTML file about a run, which needs no server and no network: to mail, or to archive with a deposition."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.resources import files

import numpy as np

from deeppicker.config import SelectConfig
from deeppicker.errors import DeepPickerError
from deeppicker.formats import read_micrograph
from deeppicker.gui.answers import of_totals
from deeppicker.gui.pictures import first_look, jpeg
from deeppicker.gui.project import Project
from deeppicker.gui.scores import Scores
from deeppicker.gui.statistics import evaluated, plots_of
from deeppicker.runs.results import Row

_SIDE = 480  # pixels of a picture
_QUALITY = 70


def _style() -> str:
    return (files("deeppicker.gui") / "static" / "report.css").read_text(encoding="utf-8")


def report(project: Project, pictures: int) -> str:
    """Return the file. ``pictures`` micrographs are shown: the worst, the best, and others between them."""
    scores = Scores(project)
    scores.read()
    title = f"{project.folder.resolve().name}: particle picking"
    plots = "".join(_figure(plot.svg, plot.title) for plot in plots_of(project, scores))
    sections = [
        ("", f'<div class="facts">{"".join(_facts(project, scores))}</div>'),
        ("Statistics", f'<div class="plots">{plots}</div>'),
        ("Micrographs, from the lowest expected precision up", "".join(_gallery(project, pictures))),
        ("All micrographs", f'<div class="table" tabindex="0">{_table(project)}</div>'),
    ]
    return page(title, _how(project), sections)


def page(title: str, subtitle: str, sections: Sequence[tuple[str, str]]) -> str:
    """Return an HTML file of sections, each a heading (as text; may be empty) and its content (as HTML)."""
    body = "".join(
        f"<section>{f'<h2>{html.escape(name)}</h2>' if name else ''}{content}</section>" for name, content in sections
    )
    head = (
        f'<meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_style()}</style>'
    )
    header = f"<header><h1>{html.escape(title)}</h1><p>{html.escape(subtitle)}</p></header>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{header}{body}</main></body></html>\n'


def _how(project: Project) -> str:
    reference = "" if project.wanted.reference is None else f"; compared with {project.wanted.reference.name}"
    return f"DeepPicker {version('deeppicker')}{reference}. Precision and recall are expected from the scores."


def _facts(project: Project, scores: Scores) -> Iterator[str]:
    rows = _good(project)
    picks, right = sum(row.picks for row in rows), sum(row.right for row in rows)
    particles = sum(row.particles for row in rows)
    totals = of_totals(project)
    values: list[tuple[str, str]] = [
        ("micrographs", f"{len(rows):,}"),
        ("picks", f"{picks:,}"),
        ("expected precision", _percent(right, picks)),
        ("expected recall", _percent(right, particles)),
        ("particle diameter", "–" if project.diameter is None else f"{project.diameter:.0f} Å"),
        ("threshold", "–" if project.threshold is None else f"{project.threshold:.3f}"),
        ("candidates", f"{int(scores.select(SelectConfig(threshold=0.0)).picks):,}"),
    ]
    if project.select is not None and project.select.filtered:
        values.append(("contrast", _limits(project.select)))
    failed = sum(1 for row in project.rows if row is not None and row.error)
    if failed:
        values.append(("failed", f"{failed:,}"))
    if totals["added"] or totals["removed"]:
        values.append(("added, removed by hand", f"{totals['added']:,}, {totals['removed']:,}"))
    found = evaluated(project)
    if found is not None and found.pooled.f1 is not None:
        rates = found.pooled
        values.append(("precision, measured", f"{rates.precision or 0:.3f}"))
        values.append(("recall, measured", f"{rates.recall or 0:.3f}"))
    return (f"<div><b>{html.escape(value)}</b>{html.escape(name)}</div>" for name, value in values)


def _limits(select: SelectConfig) -> str:
    low, high = select.min_contrast, select.max_contrast
    if high is None:
        return f"from {low:.2f}"
    return f"up to {high:.2f}" if low is None else f"{low:.2f} to {high:.2f}"


def _percent(part: float, whole: float | int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def _share(part: float, whole: float | int) -> str:
    return f"{part / whole:.3f}" if whole else ""


def _good(project: Project) -> list[Row]:
    return [row for row in project.rows if row is not None and not row.error]


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _gallery(project: Project, number: int) -> Iterator[str]:
    yield '<div class="pictures">'
    yield from _pictures(project, number)
    yield "</div>"


def _pictures(project: Project, number: int) -> Iterator[str]:
    order = sorted(
        (i for i, row in enumerate(project.rows) if row is not None and not row.error),
        key=lambda i: _precision(project.rows[i]),
    )
    for place in sorted(set(np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int).tolist())):
        try:
            yield _picture(project, order[place])
        except DeepPickerError as error:  # a micrograph that is no longer there
            yield _figure("", str(error))


def _precision(row: Row | None) -> float:
    return row.right / row.picks if row is not None and row.picks else 0.0


def _picture(project: Project, index: int) -> str:
    kept, manual = project.final(index, project.select)
    by_hand = f", {len(manual)} of them by hand" if len(manual) else ""
    rate = f"expected precision {100 * _precision(project.rows[index]):.0f} %"
    caption = f"{project.key(index)}: {len(kept) + len(manual)} picks{by_hand}, {rate}"
    return _figure(drawing(project, index, project.select, _SIDE), caption)


def drawing(project: Project, index: int, select: SelectConfig | None, side: int) -> str:
    """Return a micrograph, reduced to about ``side`` pixels, with its picks by a selection as SVG."""
    entry, header = project.entries[index], project.header(index)
    micrograph = read_micrograph(entry.path, name=entry.name, pixel_size=header.pixel_size or 1.0)
    height, width = micrograph.image.shape
    image = -micrograph.image if project.recorded.invert else micrograph.image
    factor = max(1, round(max(height, width) / side))
    picture = base64.b64encode(jpeg(first_look(image, factor, flat=side / 10, smooth=0.7), _QUALITY)).decode()
    kept, manual = project.final(index, select)
    radius = 0.5 * project.diameter / micrograph.pixel_size if project.diameter else max(height, width) / 60
    circles = _circles(kept.positions, radius, "#ffd23f") + _circles(manual.positions, radius, "#35d0ff")
    key, rows, columns = project.key(index), height // factor * factor, width // factor * factor
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-0.5 -0.5 {width} {height}" role="img">'
        f"<title>{html.escape(key)} with its picks</title>"
        f'<image href="data:image/jpeg;base64,{picture}" x="-0.5" y="-0.5" width="{columns}" height="{rows}"/>'
        f'<g fill="none" stroke-width="{max(width, height) / 300:.1f}">{circles}</g></svg>'
    )


def _circles(positions: np.ndarray, radius: float, colour: str) -> str:
    dots = "".join(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{radius:.0f}"/>' for x, y in positions.tolist())
    return f'<g stroke="{colour}">{dots}</g>'


def _table(project: Project) -> str:
    names = (
        "micrograph",
        "picks",
        "below threshold",
        "precision",
        "recall",
        "defocus (µm)",
        "seconds",
        "added",
        "removed",
    )
    lines = list(_lines(project))
    rows = "".join(f"<tr>{_cells(line)}</tr>" for line in lines)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *lines])
    content = base64.b64encode(text.getvalue().encode(errors="surrogateescape")).decode()
    return (
        f'<p><a download="micrographs.csv" href="data:text/csv;base64,{content}">Save as CSV</a></p>'
        f"<table><thead><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _cells(values: Sequence[str]) -> str:
    return "".join(f"<td>{html.escape(value)}</td>" for value in values)


def _lines(project: Project) -> Iterator[list[str]]:
    for index, row in enumerate(project.rows):
        key, marks = project.key(index), project.marks(index)
        if row is None or row.error:
            yield [key, row.error if row is not None else "not picked"]
            continue
        defocus = project.entries[index].defocus
        yield [
            key, str(row.picks), str(row.candidates), _share(row.right, row.picks),
            _share(row.right, row.particles), "" if defocus is None else f"{defocus:.2f}", f"{row.seconds:.1f}",
            str(len(marks.added) or ""), str(len(marks.removed) or ""),
        ]  # fmt: skip
