"""Fig. 5: training on a few or on many particles of the target itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from deeppicker.evaluation.results import Evaluation
from paper.cross_molecule import draw_curves, draw_recall
from paper.data import title_of
from paper.figures import Canvas
from paper.results import Picture, Section, Table, Verdict
from paper.study import RATES, THRESHOLD, Lesson, Study, rates_of

_NEARLY = 0.05  # recall, or average precision
_ENOUGH = 4
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
    draw_recall(canvas, found, _COLOURS)
    draw_curves(canvas, found, _COLOURS)
    enough = _enough(study)
    return Section(
        "Fig. 5: semi-automatic picking",
        f"The paper's network, trained on {', '.join(f'{n:,}' for n in study.settings.few)} particles of the target in "
        "other micrographs than those picked, against four other molecules (automatic).",
        (_few(study, found, enough), _close(found, enough, f"{study.settings.few[-1]:,}")),
        (_table(study, found),),
        (
            Picture(canvas.stem("recall"), f"Recall at score {THRESHOLD} (Fig. 5b)."),
            Picture(canvas.stem("curves"), "Recall (solid) and precision (dashed), as in Fig. 5c–e.", wide=True),
        ),
        (
            "Where a target has fewer particles, each comes from several versions of its micrograph. Judged are those "
            f"with at least {_ENOUGH} times as many as the fewest: {', '.join(map(title_of, enough)) or 'none'}.",
        ),
    )


def _enough(study: Study) -> list[str]:
    """Return the targets with so many particles that few and many differ."""
    few, most = study.settings.few[0], study.settings.few[-1]
    return [name for name in study.targets if study.particles(study.own(name, most)) >= _ENOUGH * few]


def _choices(study: Study, target: str) -> dict[str, Lesson]:
    return {f"{n:,}": study.own(target, n) for n in study.settings.few} | {_AUTOMATIC: study.cross(target, 4)}


def _mean(found: Iterable[Evaluation]) -> tuple[float, float]:
    """Return the mean recall at the threshold and the mean average precision."""
    rates = [one.pooled for one in found]
    return float(np.mean([r.recall or 0 for r in rates])), float(np.mean([r.average_precision or 0 for r in rates]))


def _few(study: Study, found: dict[str, dict[str, Evaluation]], enough: Sequence[str]) -> Verdict:
    least, most = f"{study.settings.few[0]:,}", f"{study.settings.few[-1]:,}"
    claim = "400 particles do nearly as well as 10,000."
    if not enough:
        return Verdict(claim, "too few particles to tell", None, "")
    low, high = (_mean(found[target][kind] for target in enough) for kind in (least, most))
    lost = _differences(found, enough, most, least)
    worst = max(lost, key=lambda target: lost[target])
    return Verdict(
        claim,
        f"with {least} against {most}: mean recall {low[0]:.3f} against {high[0]:.3f}, mean average precision "
        f"{low[1]:.3f} against {high[1]:.3f}",
        low[0] > high[0] - _NEARLY and low[1] > high[1] - _NEARLY,
        f"Nearly means within {_NEARLY}. Average precision changes most for {title_of(worst)}, by {-lost[worst]:+.3f}.",
    )


def _close(found: dict[str, dict[str, Evaluation]], enough: Sequence[str], most: str) -> Verdict:
    claim = "10,000 particles of the target are only slightly better than other molecules."
    if not enough:
        return Verdict(claim, "too few particles to tell", None, "")
    own, automatic = (_mean(found[target][kind] for target in enough)[1] for kind in (most, _AUTOMATIC))
    gaps = _differences(found, enough, most, _AUTOMATIC)
    worst = max(gaps, key=lambda target: abs(gaps[target]))
    return Verdict(
        claim,
        f"mean average precision {own:.3f} with {most} of the target, {automatic:.3f} with others",
        abs(gaps[worst]) < 2 * _NEARLY,
        f"Slightly means less than {2 * _NEARLY} for every target. The largest difference is {gaps[worst]:+.3f}, for "
        f"{title_of(worst)}.",
    )


def _differences(
    found: dict[str, dict[str, Evaluation]], targets: Sequence[str], one: str, other: str
) -> dict[str, float]:
    """Return by how much average precision is higher for one kind of training than for another."""
    return {
        target: (found[target][one].pooled.average_precision or 0)
        - (found[target][other].pooled.average_precision or 0)
        for target in targets
    }


def _table(study: Study, found: dict[str, dict[str, Evaluation]]) -> Table:
    rows = [
        (
            title_of(target),
            kind,
            f"{study.particles(lesson):,}",
            f"{study.windows(lesson):,}",
            *rates_of(found[target][kind]),
        )
        for target in found
        for kind, lesson in _choices(study, target).items()
    ]
    head = ("target", "asked for", "particles", "windows", *RATES)
    return Table("Particles of the target in training, and what they reach", head, tuple(rows))
