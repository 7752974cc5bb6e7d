"""Fig. 5: training on a few or on many particles of the target itself."""

from __future__ import annotations

import numpy as np

from deeppicker.evaluation.results import Evaluation
from paper.cross_molecule import draw_curves
from paper.data import title_of
from paper.figures import COLOURS, MARKERS, Canvas
from paper.results import Picture, Section, Table, Verdict
from paper.study import RATES, THRESHOLD, Lesson, Study, rates_of

_NEARLY = 0.05  # recall, or average precision
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#000000")  # as in the paper: red, blue, green, black
_AUTOMATIC = "automatic"


def lessons(study: Study) -> list[tuple[Lesson, str]]:
    """Return the networks that this experiment needs, and what they pick."""
    return [(lesson, target) for target in study.targets for lesson in _choices(study, target).values()]


def run(study: Study, canvas: Canvas) -> Section:
    found = {
        target: {
            kind: study.evaluated(study.picks(study.network(lesson), target), target)
            for kind, lesson in _choices(study, target).items()
        }
        for target in study.targets
    }
    _draw_recall(canvas, found)
    draw_curves(canvas, found, _COLOURS)
    there = ", ".join(
        f"{title_of(t)} {len(study.molecule(t).training.dataset):,}"
        for t in study.targets
        if len(study.molecule(t).training.dataset) < study.settings.few[-1]
    )
    return Section(
        "Fig. 5: semi-automatic picking",
        f"The paper's network, trained on {', '.join(f'{n:,}' for n in study.settings.few)} particles of the target in "
        "other micrographs than those picked, against four other molecules (automatic).",
        (_few(study, found), _close(study, found)),
        (_table(found),),
        (
            Picture(canvas.stem("recall"), f"Recall at score {THRESHOLD} (Fig. 5b)."),
            Picture(canvas.stem("curves"), "Recall (solid) and precision (dashed), as in Fig. 5c–e.", wide=True),
        ),
        (f"Of some targets there are fewer particles to train on than {study.settings.few[-1]:,}: {there}.",)
        if there
        else (),
    )


def _choices(study: Study, target: str) -> dict[str, Lesson]:
    return {f"{n:,}": study.own(target, n) for n in study.settings.few} | {_AUTOMATIC: study.cross(target, 4)}


def _means(found: dict[str, dict[str, Evaluation]], kind: str) -> tuple[float, float]:
    """Return the mean recall at the threshold and the mean average precision."""
    rates = [row[kind].pooled for row in found.values()]
    return float(np.mean([r.recall or 0 for r in rates])), float(np.mean([r.average_precision or 0 for r in rates]))


def _few(study: Study, found: dict[str, dict[str, Evaluation]]) -> Verdict:
    least, most = f"{study.settings.few[0]:,}", f"{study.settings.few[-1]:,}"
    low, high = _means(found, least), _means(found, most)
    lost = {t: (row[most].pooled.average_precision or 0) - (row[least].pooled.average_precision or 0)
            for t, row in found.items()}  # fmt: skip
    worst = max(lost, key=lambda target: lost[target])
    return Verdict(
        f"{least} particles do nearly as well as {most}.",
        f"mean recall {low[0]:.3f} against {high[0]:.3f}, mean average precision {low[1]:.3f} against {high[1]:.3f}",
        low[0] > high[0] - _NEARLY and low[1] > high[1] - _NEARLY,
        f"Nearly means within {_NEARLY}. {title_of(worst)} loses most: {lost[worst]:+.3f} of "
        "average precision between the two.",
    )


def _close(study: Study, found: dict[str, dict[str, Evaluation]]) -> Verdict:
    most = f"{study.settings.few[-1]:,}"
    own, automatic = _means(found, most), _means(found, _AUTOMATIC)
    gaps = {
        t: (row[most].pooled.average_precision or 0) - (row[_AUTOMATIC].pooled.average_precision or 0)
        for t, row in found.items()
    }
    worst = max(gaps, key=lambda target: gaps[target])
    return Verdict(
        f"{most} particles of the target are only slightly better than other molecules.",
        f"mean average precision {own[1]:.3f} against {automatic[1]:.3f}",
        own[1] - automatic[1] < 2 * _NEARLY,
        f"Slightly means less than {2 * _NEARLY}. The largest difference is {gaps[worst]:+.3f}, for {title_of(worst)}.",
    )


def _draw_recall(canvas: Canvas, found: dict[str, dict[str, Evaluation]]) -> None:
    with canvas.panels("recall", 1, size=(5.4, 2.6)) as (axes,):
        for index, kind in enumerate(next(iter(found.values()))):
            places = np.arange(len(found)) + 0.19 * (index - 1.5)
            values = np.array([row[kind].pooled.recall or 0.0 for row in found.values()])
            colour = _COLOURS[index] if kind != _AUTOMATIC else COLOURS[3]
            axes.bar(places, values, 0.17, color=colour, label=kind)
            axes.plot(places, values + 0.03, MARKERS[index], color=colour, markersize=3.5)
        axes.set(ylim=(0, 1.08), ylabel=f"recall at {THRESHOLD}")
        axes.set_xticks(range(len(found)), [title_of(t).replace(", ", ",\n") for t in found])
        axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.16))


def _table(found: dict[str, dict[str, Evaluation]]) -> Table:
    rows = [
        (
            title_of(target),
            kind,
            *rates_of(one),
        )
        for target, row in found.items()
        for kind, one in row.items()
    ]
    head = ("target", "particles", *RATES)
    return Table("Particles of the target in training, and what they reach", head, tuple(rows))
