"""Fig. 6: recall against defocus, and scores where there are no particles (Einstein from noise)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from deeppicker.config import PeaksConfig, PickConfig
from deeppicker.core import Micrograph
from deeppicker.evaluation.results import Evaluation
from deeppicker.imaging.noise import without_structure
from deeppicker.networks.model import Model
from deeppicker.picking.pipeline import pick_micrograph
from paper import data
from paper.data import title_of
from paper.figures import COLOURS, MARKERS, Canvas, show_micrograph
from paper.results import Picture, Section, Table, Verdict, number
from paper.settings import DEFOCUS
from paper.study import THRESHOLD, Lesson, Study

LOW = 0.05
"""Score below which almost all picks on background lie in the paper."""
_FLAT = 0.1  # difference of recall between the ranges of defocus
_ALMOST_ALL = 0.9
_APART = 0.1  # by which a specimen must have fewer low scores
_EVERYTHING = PickConfig(peaks=PeaksConfig(floor=0.0))


def lessons(study: Study) -> list[tuple[Lesson, str]]:
    """Return the networks that this experiment needs, and what they pick."""
    control = _control(study)
    return [*((study.cross(target, 4), target) for target in _simulated(study)), (study.cross(control, 2), control)]


def run(study: Study, canvas: Canvas) -> Section:
    found = {target: _found(study, target) for target in _simulated(study)}
    recall = {target: {one.low: one.recall for one in each.defocus} for target, each in found.items()}
    target = _control(study)
    scores = _scores(study, target)
    if recall:
        _draw_recall(study, canvas, recall)
    _draw_scores(canvas, scores)
    head = ("target", *(f"{low:g}–{high:g} µm" for low, high in pairwise(DEFOCUS)))
    rows = tuple((title_of(t), *(number(row.get(low)) for low in DEFOCUS[:-1])) for t, row in recall.items())
    return Section(
        "Fig. 6: defocus, and micrographs without particles",
        "The paper's network after training on four other molecules; recall in each range of defocus. Then on two "
        f"others, as in the paper, {study.settings.backgrounds} micrographs of noise without any specimen and as many "
        f"of ice without particles, against {title_of(target)}; all candidates count, at any score. Noise of the same "
        "kind is among the negatives from which the networks learn, so empty ice is the harder test. Of real sets the "
        "defocus is not known.",
        (*((_flat(found),) if found else ()), _low(scores)),
        (
            *((Table(f"Recall at score {THRESHOLD} against defocus", head, rows),) if found else ()),
            Table(
                "Candidates and their scores",
                ("micrographs", "candidates in each", f"below {LOW}", f"above {THRESHOLD}"),
                tuple(
                    (kind, f"{np.mean([len(s) for s in parts]):.0f}", f"{_below(parts):.1%}", f"{_above(parts):.1%}")
                    for kind, parts in scores.items()
                ),
            ),
        ),
        (
            *(_pictures_of_defocus(canvas) if found else ()),
            Picture(canvas.stem("scores"), "Distribution of scores (Fig. 6d–e).", wide=True),
        ),
        () if found else ("Recall against defocus is left out: no target was simulated.",),
    )  # fmt: skip


def _pictures_of_defocus(canvas: Canvas) -> tuple[Picture, ...]:
    return (
        Picture(canvas.stem("defocus"), "Recall against defocus (Fig. 6a–c)."),
        Picture(canvas.stem("examples"), "The least and the largest defocus (insets of Fig. 6a–c).", image=True),
    )


def _simulated(study: Study) -> list[str]:
    """Return the targets whose defocus is known."""
    return [target for target in study.targets if target not in data.REAL]


def _control(study: Study) -> str:
    """Return the target to compare background with: the paper's TRPV1, real if that is there."""
    return next((name for name in ("trpv1-10059", "trpv1") if name in study.targets), study.targets[0])


def _found(study: Study, target: str) -> Evaluation:
    return study.evaluated(study.picks(study.network(study.cross(target, 4)), target), target)


def _scores(study: Study, target: str) -> dict[str, list[np.ndarray]]:
    """Return the scores of all candidates in each micrograph of noise, of empty ice, and of the target."""
    model = study.network(study.cross(target, 2))
    diameter = study.molecule(target).diameter
    real = study.test(target).micrographs()
    rng = np.random.default_rng(0)
    noise = [without_structure(real[i % len(real)], rng) for i in range(study.settings.backgrounds)]
    return {
        "noise": _all(model, noise, diameter),
        "empty ice": _all(model, data.backgrounds(study.settings, study.work), diameter),
        title_of(target): [one.scores for one in study.picks(model, target, _EVERYTHING)],
    }


def _all(model: Model, micrographs: Sequence[Micrograph], diameter: float) -> list[np.ndarray]:
    return [pick_micrograph(one, model, diameter, _EVERYTHING).scores for one in micrographs]


def _below(parts: Sequence[np.ndarray]) -> float:
    """Return the fraction of the candidates that score low: all of them, if there are none."""
    scores = np.concatenate([np.zeros(0), *parts])
    return float(np.mean(scores < LOW)) if len(scores) else 1.0


def _above(parts: Sequence[np.ndarray]) -> float:
    """Return the fraction of the candidates that would be picked."""
    scores = np.concatenate([np.zeros(0), *parts])
    return float(np.mean(scores > THRESHOLD)) if len(scores) else 0.0


def _flat(found: dict[str, Evaluation]) -> Verdict:
    spans = {target: _span(one) for target, one in found.items()}
    worst = max(spans, key=lambda target: spans[target][0])
    largest, chance = spans[worst]
    row = {one.low: one.recall for one in found[worst].defocus}
    lowest = min(row, key=lambda low: row[low])
    slope = float(np.polyfit(list(row), list(row.values()), 1)[0]) if len(row) > 1 else 0.0
    return Verdict(
        f"Recall hardly depends on defocus from {DEFOCUS[0]:g} to {DEFOCUS[-1]:g} µm.",
        f"it varies by {min(span for span, _ in spans.values()):.2f} to {largest:.2f} between the ranges",
        True if largest <= _FLAT else None if largest <= _FLAT + 2 * chance else False,
        f"Flat means within {_FLAT}. Micrographs of a range differ too: the difference of two ranges has a standard "
        f"error of {chance:.2f}. It varies most for {title_of(worst)}, with {row[lowest]:.2f} from "
        f"{lowest:g} µm on, and whose trend is {slope:+.3f} for each µm.",
    )


def _span(one: Evaluation) -> tuple[float, float]:
    """Return the largest difference of recall between two ranges of defocus, and the standard error of one."""
    recalls = [each.recall for each in one.defocus]
    within = [
        [
            m.rates.recall
            for m in one.micrographs
            if m.rates.recall is not None and each.low <= (m.defocus or 0) < each.high
        ]
        for each in one.defocus
    ]
    errors = [np.std(part, ddof=1) ** 2 / len(part) for part in within if len(part) > 1]
    return max(recalls) - min(recalls), float(np.sqrt(2 * np.mean(errors))) if errors else 0.0


def _low(scores: dict[str, list[np.ndarray]]) -> Verdict:
    noise, ice, target = scores.values()
    name = list(scores)[-1]
    least = min(_below(noise), _below(ice))
    return Verdict(
        f"Almost all candidates on pure background score below {LOW}, unlike those on a specimen.",
        f"{_below(noise):.0%} in noise and {_below(ice):.0%} in empty ice, {_below(target):.0%} for {name}",
        least >= _ALMOST_ALL and _below(target) < least - _APART,
        f"Almost all means {_ALMOST_ALL:.0%}. Above {THRESHOLD} are {_above(noise):.1%} in noise, {_above(ice):.1%} in "
        f"empty ice and {_above(target):.1%} for {name}.",
    )


def _draw_recall(study: Study, canvas: Canvas, recall: dict[str, dict[float, float]]) -> None:
    with canvas.panels("defocus", 1, size=(5.4, 2.6)) as (axes,):
        for (target, row), colour, marker in zip(recall.items(), COLOURS, MARKERS, strict=False):
            places = [low + 0.5 * (DEFOCUS[1] - DEFOCUS[0]) for low in row]
            axes.plot(places, list(row.values()), color=colour, marker=marker, label=title_of(target))
        axes.set(xlabel="defocus (µm)", ylabel=f"recall at {THRESHOLD}", ylim=(0, 1.05), xlim=(DEFOCUS[0], DEFOCUS[-1]))
        axes.legend(loc="lower right")
    with canvas.panels("examples", 2, len(recall), size=(2.4, 2.4)) as panels:
        for row_of, target in zip(panels.reshape(-1, 2), recall, strict=True):
            part = study.test(target)
            order = sorted(part.dataset.micrographs, key=lambda item: part.info[item.picks.key].defocus or 0.0)
            for panel, item in zip(row_of, (order[0], order[-1]), strict=True):
                show_micrograph(panel, item.load(), part.dataset.diameter)
                defocus = part.info[item.picks.key].defocus or 0.0
                panel.set_title(f"{title_of(target)}, {defocus:.1f} µm")


def _draw_scores(canvas: Canvas, scores: dict[str, list[np.ndarray]]) -> None:
    with canvas.panels("scores", len(scores), size=(2.2, 2.2), sharey=True) as axes:
        for panel, (kind, parts), colour in zip(axes, scores.items(), COLOURS, strict=False):
            values = np.concatenate(parts)
            share = np.full(len(values), 1 / max(1, len(values)))
            panel.hist(values, bins=np.linspace(0, 1, 21), weights=share, color=colour)
            panel.axvline(LOW, color="0.3", linestyle="--", linewidth=1)
            panel.set(title=kind, xlabel="score", ylim=(0, 1))
        axes[0].set_ylabel("fraction of candidates")
