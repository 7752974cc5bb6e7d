"""What each step of the paper's method is worth, and what the default network adds."""

from __future__ import annotations

import math

import numpy as np

from deeppicker.config import CleanConfig, PeaksConfig, PickConfig
from deeppicker.evaluation.results import Evaluation
from paper.data import title_of
from paper.figures import COLOURS, Canvas, bar
from paper.iteration import as_picked
from paper.results import Picture, Section, Table, Verdict, number, signed
from paper.study import THRESHOLD, Lesson, Study, best_f1

STEPS = {
    "all steps": PickConfig(),
    "without cleaning": PickConfig(clean=CleanConfig(max_region=math.inf)),
    "without filtering": PickConfig(peaks=PeaksConfig(peak_window=0.2)),
    "without smoothing": PickConfig(smooth=0.0),
    "without rejection": PickConfig(peaks=PeaksConfig(max_extreme=1.0)),
}
"""The steps of Section 4.5, each left out: regions that are too large; the peak window, which is reduced to a quarter;
particles with many extreme pixels. Smoothing of the map of scores is ours."""
_DEFAULT, _LEARNT = "default network", "default network, learnt"


def lessons(study: Study) -> list[tuple[Lesson, str]]:
    """Return the networks that this experiment needs, and what they pick."""
    return [(study.cross(target, 4), target) for target in study.targets]


def run(study: Study, canvas: Canvas) -> Section:
    found: dict[str, dict[str, Evaluation]] = {}
    for target in study.targets:
        model = study.network(study.cross(target, 4))
        row = {name: study.evaluated(study.picks(model, target, config), target) for name, config in STEPS.items()}
        row[_DEFAULT] = study.evaluated(study.picks(study.default(target), target), target)
        row[_LEARNT] = study.evaluated(study.picks(as_picked(study, target), target), target)
        found[target] = row
    _draw(canvas, found)
    return Section(
        "Ablations",
        "The paper's network after training on four other molecules, with each step of picking left out; and the "
        "default network of this program out of the box and after learning. Simulated micrographs hold some ice and "
        f"carbon. {study.about_default}",
        (*(_step(found, name) for name in list(STEPS)[1:]), _default(found)),
        (_table(found),),
        (Picture(canvas.stem("f1"), "Best F1 of each way of picking; points are targets, bars their mean."),),
    )


def _step(found: dict[str, dict[str, Evaluation]], name: str) -> Verdict:
    full = [row["all steps"] for row in found.values()]
    without = [row[name] for row in found.values()]
    lost = np.array([best_f1(a) - best_f1(b) for a, b in zip(full, without, strict=True)])
    false = [
        sum(r.picks - r.true_positives for r in one.micrographs) / max(1, len(one.micrographs))
        for one in full + without
    ]
    before, after = np.mean(false[: len(full)]), np.mean(false[len(full) :])
    return Verdict(
        f"(Ours:) picking {name} is worse; the paper {'does not smooth' if 'smooth' in name else 'has no figure'}.",
        f"best F1 changes by {signed(-float(lost.mean()))} on average",
        bool(lost.mean() > 0) if abs(lost.mean()) > 0.0005 else None,
        f"At score {THRESHOLD}, a micrograph has {before:.1f} false picks with the step and {after:.1f} without it; "
        f"{int((lost > 0.0005).sum())} of {len(lost)} targets lose, {int((lost < -0.0005).sum())} gain.",
    )


def _default(found: dict[str, dict[str, Evaluation]]) -> Verdict:
    paper, box, after = (
        np.array([best_f1(row[name]) for row in found.values()]) for name in ("all steps", _DEFAULT, _LEARNT)
    )
    return Verdict(
        "(Ours:) the default network picks better than the paper's, and no worse after learning.",
        f"mean best F1 {paper.mean():.3f}, {box.mean():.3f} out of the box, {after.mean():.3f} after learning",
        bool(box.mean() > paper.mean() and after.mean() >= box.mean()),
        f"Out of the box it is better for {int((box > paper).sum())} of {len(paper)} targets; learning helps "
        f"{int((after > box).sum())} and costs {int((after < box).sum())}.",
    )


def _draw(canvas: Canvas, found: dict[str, dict[str, Evaluation]]) -> None:
    names = list(next(iter(found.values())))
    with canvas.panels("f1", 1, size=(5.4, 2.6)) as (axes,):
        for name in names:
            values = [best_f1(row[name]) for row in found.values()]
            bar(axes, name, float(np.mean(values)), values, COLOURS[0] if name in STEPS else COLOURS[1])
        axes.set(xlim=(0, 1), xlabel="best F1")


def _table(found: dict[str, dict[str, Evaluation]]) -> Table:
    rows = [
        (
            title_of(target),
            name,
            number(best_f1(one)),
            number(one.pooled.average_precision),
            number(one.pooled.recall),
            number(one.pooled.precision),
        )
        for target, row in found.items()
        for name, one in sorted(row.items(), key=lambda item: -best_f1(item[1]))
    ]
    head = ("target", "way", "best F1", "AP", f"recall at {THRESHOLD}", f"precision at {THRESHOLD}")
    return Table("From the best to the worst", head, tuple(rows))
