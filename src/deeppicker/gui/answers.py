"""What the page is told about a project, as values for JSON."""

from __future__ import annotations

import itertools
from bisect import bisect
from typing import Any

import numpy as np

from deeppicker.config import SelectConfig
from deeppicker.core import BOX_DIAMETERS, Picks
from deeppicker.errors import InputError
from deeppicker.evaluation.agreement import agree
from deeppicker.evaluation.results import EvaluateConfig, MicrographInfo
from deeppicker.formats.recorded import CANDIDATES, file_of
from deeppicker.gui.classes import Classes
from deeppicker.gui.edits import ADDED, REMOVED
from deeppicker.gui.pictures import base_factor
from deeppicker.gui.project import Project
from deeppicker.gui.scores import Scores
from deeppicker.runs.results import Results, Row

_PAGE = 120  # particles of the gallery that are shown at a time
_NEWEST, _FALL = 20, 0.5  # micrographs whose mean number of picks is watched; part of the mean before that alarms
_ADVISED, _RANGES = 50, 4  # micrographs that are proposed; ranges of defocus, from each of which one is taken in turn


def of_project(project: Project, *, read_only: bool) -> dict[str, Any]:
    """Return what all micrographs share."""
    return {
        "folder": project.folder.resolve().name,
        "path": str(project.folder),
        "run": project.has_run,
        "other": project.wanted.picks is not None,
        "reference": bool(project.reference),
        "diameter": project.diameter,
        **of_select(project.select),
        "readOnly": read_only,
    }


def of_select(select: SelectConfig | None) -> dict[str, float | None]:
    """Return what tells picks from other candidates."""
    select = select or SelectConfig()
    return {"threshold": select.threshold, "minContrast": select.min_contrast, "maxContrast": select.max_contrast}


def of_list(project: Project, scores: Scores) -> dict[str, Any]:
    """Return one column for each property of the micrographs."""
    marked = project.log.marked()
    rows = [row or Row(entry.name) for row, entry in zip(project.rows, project.entries, strict=False)]
    keys = [project.key(index) for index in range(len(rows))]
    marks = [marked.get(key) for key in keys]
    return {
        "version": project.version,
        "names": keys,
        "picks": project.counts()[: len(rows)],
        "precision": [_ratio(row.right, row.picks) for row in rows],
        "recall": [_ratio(row.right, row.particles) for row in rows],
        "failed": {str(index): row.error for index, row in enumerate(rows) if row.error},
        "defocus": [entry.defocus for entry in project.entries[: len(rows)]],
        "ice": _padded(scores.ice, len(rows)),
        "doubt": _padded(scores.doubt, len(rows)),
        "complete": [bool(mark and mark.complete) for mark in marks],
        "advice": advice(project, scores),
        "edits": [len(mark.added) + len(mark.removed) if mark else 0 for mark in marks],
    }


def advice(project: Project, scores: Scores) -> list[int]:
    """Return which micrographs to correct next: those that would teach most, spread over defocus."""
    doubt = scores.doubt
    chosen = [
        index
        for index in sorted(range(len(doubt)), key=lambda index: -doubt[index])
        if doubt[index] > 0 and not project.marks(index).complete
    ]
    known = sorted(focus for entry in project.entries if (focus := entry.defocus) is not None)
    if not known:
        return chosen[:_ADVISED]
    edges = [known[len(known) * part // _RANGES] for part in range(1, _RANGES)]
    groups: list[list[int]] = [[] for _ in range(_RANGES)]
    for index in chosen:
        groups[bisect(edges, project.entries[index].defocus or 0.0)].append(index)
    turns = itertools.zip_longest(*groups)
    return [index for turn in turns for index in turn if index is not None][:_ADVISED]


def _ratio(part: float, whole: float | int) -> float | None:
    return round(part / whole, 4) if whole else None


def _padded(values: list[Any], length: int) -> list[Any]:
    return [None if value is None else round(value, 4) for value in values[:length]] + [None] * (length - len(values))


def of_micrograph(project: Project, index: int) -> dict[str, Any]:
    """Return what is drawn on one micrograph."""
    header = project.header(index)
    found = project.automatic(index)
    size = header.pixel_size
    diameter = project.diameter
    box = BOX_DIAMETERS * diameter / size if size and diameter else None
    return {
        "index": index,
        "name": project.key(index),
        "file": project.entries[index].name,
        "width": header.width,
        "height": header.height,
        "pixelSize": size,
        "factor": base_factor((header.height, header.width), box),
        "candidates": _columns(found),
        "rejected": _rejected(project, index),
        "reference": _of_reference(project, index),
        **of_marks(project, index, found),
    }


def of_marks(project: Project, index: int, found: Picks | None = None) -> dict[str, Any]:
    """Return what was marked by hand, and the numbers of the candidates that this hides."""
    found = project.automatic(index) if found is None else found
    marks = project.marks(index)
    hidden = np.flatnonzero(marks.hides(found, project.reach(index)))
    return {"added": marks.added, "removed": marks.removed, "complete": marks.complete, "hidden": hidden.tolist()}


def of_agreement(project: Project, index: int, select: SelectConfig | None) -> dict[str, Any]:
    """Return which picks, as corrected, and which of the reference agree."""
    header, diameter = project.header(index), project.diameter
    reference = project.reference.get(project.key(index))
    if diameter is None or header.pixel_size is None:
        raise InputError("the diameter and the pixel size are needed to compare; set --diameter and --pixel-size")
    if reference is None:
        return {"matched": [], "false": [], "missed": []}
    kept, manual = project.final(index, select)
    both = np.concatenate([kept.positions, manual.positions])
    info = MicrographInfo(pixel_size=header.pixel_size, size=(header.height, header.width))
    found = agree(Picks.unscored(kept.micrograph, both), reference, info, EvaluateConfig(particle_diameter=diameter))
    return {name: getattr(found, name).round(1).tolist() for name in ("matched", "false", "missed")}


def of_selection(scores: Scores, select: SelectConfig) -> dict[str, Any]:
    """Return what a selection keeps in all micrographs."""
    chosen = scores.select(select)
    return {
        **of_select(select),
        "picks": chosen.picks,
        "precision": chosen.precision,
        "recall": chosen.recall,
        "read": scores.done,
        "counts": chosen.counts.tolist(),
        "contrast": chosen.contrast,
    }


def of_gallery(project: Project, scores: Scores, order: str, select: SelectConfig, start: int) -> dict[str, Any]:
    """Return a page of particles, without those that marks hide; see `Scores.ranked`."""
    ranked = scores.ranked(order, select)
    page = ranked[start : start + _PAGE]
    items = []
    known: dict[int, tuple[Picks, set[int]]] = {}
    for index, place in page.tolist():
        if index not in known:
            found = project.automatic(index)
            known[index] = (found, set(of_marks(project, index, found)["hidden"]))
        found, hidden = known[index]
        if place not in hidden and place < len(found):
            x, y = found.positions[place].round(2).tolist()
            score = float(found.scores[place])
            items.append({"index": index, "x": x, "y": y, "score": None if np.isnan(score) else round(score, 3)})
    return {"items": items, "start": start, "total": len(ranked), "page": _PAGE}


def of_members(classes: Classes, number: int, start: int) -> dict[str, Any]:
    """Return a page of the members of a class."""
    items, total = classes.members(number, start, _PAGE)
    return {"items": items, "start": start, "total": total, "page": _PAGE}


def of_newest(project: Project) -> dict[str, Any]:
    """Return the mean number of picks of the newest micrographs and of those before, and whether picks fall off."""
    picks = [row.picks for row in project.rows if row is not None and not row.error]
    newest, before = picks[-_NEWEST:], picks[:-_NEWEST]
    means = [float(np.mean(part)) if part else None for part in (newest, before)]
    falling = means[0] is not None and means[1] is not None and means[0] < _FALL * means[1]
    return {"newest": means[0], "before": means[1], "falling": falling}


def of_totals(project: Project) -> dict[str, int]:
    """Return how much was done by hand."""
    marks = project.log.marked().values()
    return {
        "complete": sum(mark.complete for mark in marks),
        "added": sum(len(mark.positions(ADDED)) for mark in marks),
        "removed": sum(len(mark.positions(REMOVED)) for mark in marks),
    }


def _columns(picks: Picks) -> dict[str, list[float | None]]:
    scores = [None if np.isnan(score) else score for score in np.round(picks.scores, 4).tolist()]
    x, y = picks.positions.round(2).T.tolist() if len(picks) else ([], [])
    columns = {"x": x, "y": y, "score": scores}
    return columns if picks.contrast is None else {**columns, "contrast": picks.contrast.tolist()}


def _rejected(project: Project, index: int) -> dict[str, Any] | None:
    name = project.entries[index].name
    if project.wanted.picks is not None or not file_of(project.folder, CANDIDATES, name).is_file():
        return None
    picks, reasons = Results(project.folder).read_rejected(name)
    return {**_columns(picks), "reason": [reason.replace("_", " ") for reason in reasons]}


def _of_reference(project: Project, index: int) -> dict[str, Any] | None:
    picks = project.reference.get(project.key(index))
    return None if picks is None else _columns(picks)
