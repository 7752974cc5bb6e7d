"""Fig. 4: how far the picks lie from the centres of the reference particles."""

from __future__ import annotations

import numpy as np

from paper import cross_molecule
from paper.data import title_of
from paper.figures import COLOURS, OWN, Canvas, circles, show_micrograph
from paper.results import Picture, Section, Table, Verdict, number
from paper.study import Lesson, Study

LIMIT = 0.1
"""Boxes; the paper's deviation is less."""
_SAME = "same molecule"


def lessons(study: Study) -> list[tuple[Lesson, str]]:
    """Return the networks that this experiment needs, and what they pick."""
    own = [(study.own(target, study.settings.few[-1]), target) for target in study.targets]
    return own + cross_molecule.lessons(study)


def run(study: Study, canvas: Canvas) -> Section:
    errors: dict[str, dict[str, float | None]] = {}
    for target in study.targets:
        choices = {_SAME: study.own(target, study.settings.few[-1])}
        choices |= {f"{n} other{'s'[: n - 1]}": study.cross(target, n) for n in cross_molecule.NUMBERS}
        errors[target] = {
            name: study.evaluated(study.picks(study.network(lesson), target), target).pooled.centre_error
            for name, lesson in choices.items()
        }
    _draw(canvas, errors)
    caption = _draw_overlay(study, canvas)
    rows = tuple((title_of(target), *map(number, row.values())) for target, row in errors.items())
    return Section(
        "Fig. 4: centres",
        "The mean distance of picks from the reference particles that they agree with, as a fraction of the box. "
        "Agreement ends at 0.2 box, so random picks that agree by chance would deviate by 0.133.",
        (_verdict(errors),),
        (Table("Mean centre deviation in boxes", ("target", *next(iter(errors.values()))), rows),),
        (
            Picture(canvas.stem("deviation"), "Centre deviation (Fig. 4a–c); dashed: the paper's limit."),
            Picture(canvas.stem("overlay"), caption, image=True),
        ),
    )


def _verdict(errors: dict[str, dict[str, float | None]]) -> Verdict:
    every = {(target, kind): e for target, row in errors.items() for kind, e in row.items() if e is not None}
    claim = f"Picks deviate by less than {LIMIT:.0%} of the box from the reference."
    if not every:
        return Verdict(claim, "no pick agrees with the reference", False, "")
    worst = max(every, key=lambda key: every[key])
    over = sum(value >= LIMIT for value in every.values())
    own = float(np.mean([value for (_, kind), value in every.items() if kind == _SAME]))
    other = float(np.mean([value for (_, kind), value in every.items() if kind != _SAME]))
    return Verdict(
        claim,
        f"{min(every.values()):.3f} to {max(every.values()):.3f} box",
        over == 0,
        f"{over} of {len(every)} are at or above {LIMIT}; the largest is {title_of(worst[0])}, {worst[1]}. The "
        f"mean is {own:.3f} after training on the same molecule, {other:.3f} on others.",
    )


def _draw(canvas: Canvas, errors: dict[str, dict[str, float | None]]) -> None:
    with canvas.panels("deviation", 1, size=(5.4, 2.6)) as (axes,):
        for index, kind in enumerate(next(iter(errors.values()))):
            places = np.arange(len(errors)) + 0.16 * (index - 2)
            colour = OWN if kind == _SAME else COLOURS[index - 1]
            axes.bar(places, [row[kind] or 0.0 for row in errors.values()], 0.145, color=colour, label=kind)
        axes.axhline(LIMIT, color="0.3", linestyle="--", linewidth=1)
        axes.set(ylabel="deviation / box", ylim=(0, 1.35 * LIMIT))
        axes.set_xticks(range(len(errors)), [title_of(t).replace(", ", ",\n") for t in errors])
        axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.16), columnspacing=1)


def _draw_overlay(study: Study, canvas: Canvas) -> str:
    target, item, found = study.example()
    image, diameter = item.load(), study.molecule(target).diameter
    with canvas.panels("overlay", 1, size=(5, 4.7)) as (axes,):
        show_micrograph(axes, image, diameter)
        circles(axes, item.picks.positions, diameter / image.pixel_size, "#FF4040", "dashed")
        circles(axes, found.positions, diameter / image.pixel_size, "#40A0FF")
    return (
        f"{title_of(target)}: reference (red, dashed) and picks after training on two other molecules "
        "(blue), as in Fig. 4d."
    )
