"""Table 1 and Fig. 2: networks that have seen other molecules only."""

from __future__ import annotations

import numpy as np

from deeppicker.evaluation.results import Evaluation
from paper.data import OTHERS, title_of
from paper.figures import COLOURS, MARKERS, Canvas, circles, shared_legend, show_micrograph
from paper.results import Picture, Section, Table, Verdict, number
from paper.study import RATES, THRESHOLD, Lesson, Study, rates_of

NUMBERS = (1, 2, 3, 4)
RECALL = 0.81
"""Least recall that the paper states."""
_ROBUST = 0.02  # difference in mean average precision that counts


def lessons(study: Study) -> list[tuple[Lesson, str]]:
    """Return the networks that this experiment needs, and what they pick."""
    return [(study.cross(target, n), target) for target in study.targets for n in NUMBERS]


def run(study: Study, canvas: Canvas) -> Section:
    found = {
        target: {
            n: study.evaluated(study.picks(study.network(study.cross(target, n)), target), target) for n in NUMBERS
        }
        for target in study.targets
    }
    named = {target: {f"{n} {_types(n)}": one for n, one in row.items()} for target, row in found.items()}
    draw_recall(canvas, named, COLOURS, RECALL)
    draw_curves(canvas, named, COLOURS)
    example = _draw_example(study, canvas)
    return Section(
        "Table 1 and Fig. 2: fully automatic picking across molecules",
        f"The paper's network, trained on {study.settings.particles:,} windows of particles in equal parts of one to "
        "four other molecules, as in Table 1, or on fewer where there are too few particles; no iteration. Each target "
        "is picked in micrographs of its own. Chance is the recall of as many picks at random places.",
        (_recall(found), _robust(study, found)),
        (_table(study, found),),
        (
            Picture(canvas.stem("recall"), f"Recall at score {THRESHOLD} (Fig. 2b); dashed: the paper's least."),
            Picture(
                canvas.stem("curves"),
                "Recall (solid) and precision (dashed) of the best-scored picks against their number, in relation to "
                "that of reference particles (Fig. 2c–e).",
                wide=True,
            ),
            Picture(canvas.stem("example"), example, image=True),
        ),
    )


def draw_recall(
    canvas: Canvas, found: dict[str, dict[str, Evaluation]], colours: tuple[str, ...], least: float | None = None
) -> None:
    """Draw the recall at the threshold of each kind of training, side by side for each target."""
    with canvas.panels("recall", 1, size=(5.4, 2.6)) as (axes,):
        for index, (kind, colour, marker) in enumerate(zip(next(iter(found.values())), colours, MARKERS, strict=False)):
            places = np.arange(len(found)) + 0.19 * (index - 1.5)
            values = np.array([row[kind].pooled.recall or 0.0 for row in found.values()])
            axes.bar(places, values, 0.17, color=colour, label=kind)
            axes.plot(places, values + 0.03, marker, color=colour, markersize=3.5)
        if least is not None:
            axes.axhline(least, color="0.3", linestyle="--", linewidth=1)
        axes.set(ylim=(0, 1.08), ylabel=f"recall at {THRESHOLD}")
        axes.set_xticks(range(len(found)), [title_of(t).replace(", ", ",\n") for t in found])
        shared_legend([axes], 2)


def draw_curves(canvas: Canvas, found: dict[str, dict[str, Evaluation]], colours: tuple[str, ...]) -> None:
    """Draw recall and precision against the ratio of picks to reference particles, a panel for each target."""
    columns = min(3, len(found))
    with canvas.panels("curves", columns, -(-len(found) // columns), sharey=True) as axes:
        for panel, (target, row) in zip(axes, found.items(), strict=False):
            for (label, one), colour in zip(row.items(), colours, strict=False):
                if one.curve is not None:
                    panel.plot(one.curve.ratio, one.curve.recall, color=colour, label=label)
                    panel.plot(one.curve.ratio, one.curve.precision, color=colour, linestyle=(0, (4, 2)))
            panel.set(title=title_of(target), xlim=(0, 2), ylim=(0, 1.02), xlabel="picks / reference")
        axes[0].set_ylabel("recall, precision")
        shared_legend(axes)


def why_recall(one: Evaluation) -> str:
    """Return where the particles went that are not picked at the threshold, from the candidates below it."""
    if one.curve is None:
        return "there are no candidates"
    all_found, at = one.curve.recall[-1], one.pooled.recall or 0.0
    if all_found - at > 1 - all_found:
        return (
            f"{all_found - at:.0%} of the particles are candidates with a lower score, and {1 - all_found:.0%} are none"
        )
    return f"{1 - all_found:.0%} of the particles have no candidate nearby, {all_found - at:.0%} one that scores lower"


def _types(n: int) -> str:
    return "other molecule" if n == 1 else "other molecules"


def _draw_example(study: Study, canvas: Canvas) -> str:
    """Draw the picks of one micrograph (Fig. 2a) and return the caption."""
    target, item, found = study.example()
    image, diameter = item.load(), study.molecule(target).diameter
    with canvas.panels("example", 1, size=(5, 4.7)) as (axes,):
        show_micrograph(axes, image, diameter)
        circles(axes, found.positions, diameter / image.pixel_size, "#56B4E9")
    teachers = " and ".join(title_of(name) for name in OTHERS[target][:2])
    return f"Picks in a micrograph of {title_of(target)} after training on {teachers} (Fig. 2a)."


def _recall(found: dict[str, dict[int, Evaluation]]) -> Verdict:
    every = {(target, n): one.pooled.recall or 0.0 for target, row in found.items() for n, one in row.items()}
    target, n = min(every, key=lambda key: every[key])
    four = [every[name, NUMBERS[-1]] for name in found]
    above = sum(value > RECALL for value in every.values())
    return Verdict(
        f"Recall is above {RECALL} in all tests, at score {THRESHOLD}.",
        f"{min(every.values()):.2f} to {max(every.values()):.2f}; {min(four):.2f} to {max(four):.2f} with four other "
        f"molecules. {above} of {len(every)} networks are above {RECALL}",
        above == len(every),
        f"Least is {title_of(target)} after training on {n} {_types(n)}: {why_recall(found[target][n])}.",
    )


def _robust(study: Study, found: dict[str, dict[int, Evaluation]]) -> Verdict:
    fair = [name for name in found if len({study.windows(study.cross(name, n)) for n in (1, 4)}) == 1]
    values = {n: np.array([found[name][n].pooled.average_precision or 0.0 for name in fair]) for n in (1, 4)}
    claim = "Several molecules in training are more robust than one."
    if not fair:
        return Verdict(claim, "too few particles to tell", None, "No target has as many windows with one as with four.")
    gain = float(values[4].mean() - values[1].mean())
    return Verdict(
        claim,
        f"mean average precision {values[1].mean():.3f} with one, {values[4].mean():.3f} with four; least "
        f"{values[1].min():.3f} and {values[4].min():.3f}",
        None if abs(gain) < _ROBUST else gain > 0,
        f"With four, {int((values[4] > values[1]).sum())} of {len(fair)} targets are picked better than with one, of "
        f"those that have as many windows with either. Differences of less than {_ROBUST} are chance.",
    )


def _table(study: Study, found: dict[str, dict[int, Evaluation]]) -> Table:
    rows = [
        (
            title_of(target),
            " + ".join(title_of(name) for name in OTHERS[target][:n]),
            f"{study.particles(study.cross(target, n)):,}",
            f"{study.windows(study.cross(target, n)):,}",
            *rates_of(one),
            number(one.chance.recall if one.chance else None),
        )
        for target, row in found.items()
        for n, one in row.items()
    ]
    head = ("target", "trained on", "particles", "windows", *RATES, "chance")
    return Table("Training sets (Table 1) and what they reach", head, tuple(rows))
