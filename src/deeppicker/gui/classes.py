"""Class averages of picks: what `deeppicker classify` found, which classes are kept, who is in them."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from deeppicker.config import ClassifyConfig
from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.gui.edits import ADDED, REMOVED
from deeppicker.gui.pictures import eight_bit, png
from deeppicker.gui.project import Project
from deeppicker.particles.classify.files import CLASSES, choose_classes, read
from deeppicker.particles.classify.results import Report
from deeppicker.particles.classify.search import number_of_classes


class Classes:
    """The classes of a project; they are read again when their folder changes."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._lock = threading.Lock()
        self._version = 0
        self._report: Report | None = None

    @property
    def version(self) -> int:
        """Changes with the folder; 0 if there is none."""
        table = self._project.classes / CLASSES
        return table.stat().st_mtime_ns // 1000 if table.is_file() else 0  # as exact as numbers of JavaScript are

    @property
    def report(self) -> Report | None:
        """What was found; None if nothing was classified."""
        with self._lock:
            version = self.version
            if version != self._version:
                self._report = read(self._project.classes) if version else None
                self._version = version
            return self._report

    def told(self) -> dict[str, Any]:
        """Return what the page shows of all classes."""
        report, folder = self.report, str(self._project.classes)
        if report is None:
            picks = sum(row.picks for row in self._project.rows if row is not None)
            number = number_of_classes(ClassifyConfig(), picks)
            return {"version": 0, "folder": folder, "classes": [], "picks": picks, "number": number}
        quality = report.quality
        columns = (report.members, quality.quality, quality.resolution, quality.limited, report.good, report.chosen)
        classes = [
            {
                "number": number,
                "members": int(members),
                "quality": round(float(value), 3),
                "resolution": round(float(resolution), 1),
                "limited": bool(limited),
                "good": bool(good),
                "kept": bool(kept),
            }
            for number, (members, value, resolution, limited, good, kept) in enumerate(zip(*columns, strict=True), 1)
            if members
        ]
        total, kept = len(report.label), int(report.kept.sum())
        return {"version": self._version, "folder": folder, "classes": classes, "picks": total, "kept": kept}

    def choose(self, keep: Collection[int]) -> None:
        """Keep these classes only, as ``deeppicker classify --keep`` does."""
        choose_classes(self._project.classes, keep=keep)

    def picture(self, number: int) -> bytes:
        """Return the average of a class as a PNG file, with particles dark as in the micrographs."""
        image = -self._existing(number).averages[number - 1]
        low, high = np.percentile(image, [0.5, 99.5])
        return png(eight_bit(image, float(low), float(max(high, low + 1e-6))))

    def members(self, number: int, start: int, count: int) -> tuple[list[dict[str, Any]], int]:
        """Return some members of a class, from those that agree most with the average down, and how many there are.

        Those that were removed by hand since are left out.
        """
        report = self._existing(number)
        ends = np.cumsum([len(item) for item in report.picks])
        all_of = np.flatnonzero(report.label == number - 1)
        ordered = all_of[np.argsort(-report.strength[all_of], kind="stable")]
        items = []
        for pick in ordered[start : start + count].tolist():
            group = int(np.searchsorted(ends, pick, side="right"))
            item = self._item(report.picks[group], pick - int(ends[group]) + len(report.picks[group]))
            if item is not None:
                items.append({**item, "kept": bool(report.kept[pick])})
        return items, len(ordered)

    def _item(self, picks: Picks, place: int) -> dict[str, Any] | None:
        """Return a pick as the page wants it; None if it was removed. A manual one is named."""
        try:
            index = self._project.index(picks.key)
        except KeyError:  # the classes are those of other micrographs
            return None
        position, marks = picks.positions[place], self._project.marks(index)
        if _nearest(marks.positions(REMOVED), position)[1] <= self._project.reach(index):
            return None
        number, distance = _nearest(marks.positions(ADDED), position)
        score = float(picks.scores[place])
        x, y = position.round(2).tolist()
        item = {"index": index, "x": x, "y": y, "score": None if np.isnan(score) else round(score, 3)}
        return {**item, "name": list(marks.added)[number]} if distance < 0.5 else item

    def _existing(self, number: int) -> Report:
        report = self.report
        if report is None or not 1 <= number <= len(report.members):
            raise InputError(f"there is no class {number}")
        return report


def _nearest(places: Float[np.ndarray, "n 2"], position: Float[np.ndarray, " 2"]) -> tuple[int, float]:
    """Return which place is nearest, and how far it is; infinitely far if there is none."""
    if not len(places):
        return 0, np.inf
    distance, number = cKDTree(places).query(position)
    return int(number), float(distance)
