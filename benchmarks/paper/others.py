"""Topaz and RELION's Laplacian-of-Gaussian picker on the same micrographs, judged by the same rules."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

from deeppicker.config import SelectConfig
from deeppicker.core import Micrograph, Picks, micrograph_key
from deeppicker.errors import DeepPickerError
from deeppicker.evaluation.results import Evaluation
from deeppicker.formats import read_picks
from deeppicker.runs.selection import threshold_of
from paper import data
from paper.cache import cached, checksum
from paper.data import title_of
from paper.figures import COLOURS, Canvas, bar
from paper.iteration import as_picked
from paper.results import Picture, Section, Table, Verdict, number
from paper.study import THRESHOLD, Lesson, Study, best_f1
from timing import rivals, topaz

PAPER, DEFAULT, LEARNT, LOG, TOPAZ = (
    "the paper's network", "DeepPicker", "DeepPicker, learnt", "RELION, LoG", "Topaz"
)  # fmt: skip
_TOPAZ_PIXEL = ((200.0, 300.0), (5.0, 8.0))  # Å, by diameter in Å: its guide recommends 4, and 8 for particles of 300


@dataclass(frozen=True)
class Found:
    """What a program finds in a target, at its own threshold (None: all that it writes) and at any."""

    own: Evaluation
    threshold: float | None


def lessons(study: Study) -> list[tuple[Lesson, str]]:
    """Return the networks that this experiment needs, and what they pick."""
    return [(study.cross(target, 4), target) for target in study.targets]


def run(study: Study, canvas: Canvas) -> Section:
    found: dict[str, dict[str, Found]] = {}
    program = topaz_of(study)
    missing = [
        *(
            []
            if shutil.which("relion_autopick")
            else ["RELION is not installed (Debian, Ubuntu: apt-get install relion)"]
        ),
        *(
            []
            if program
            else [f"Topaz is not installed in {study.work.parent.name}/topaz (the full study installs it)"]
        ),
    ]
    for target in study.targets:
        row = {PAPER: _judged(study, target, study.picks(study.network(study.cross(target, 4)), target), THRESHOLD)}
        for name, model in ((DEFAULT, study.default(target)), (LEARNT, as_picked(study, target))):
            picks = study.picks(model, target)[: study.settings.compared]
            row[name] = _judged(study, target, picks, threshold_of(picks, SelectConfig(), model.calibration.caution))
        if shutil.which("relion_autopick"):
            row[LOG] = _rival(study, target, "relion", by_log)
        if program:
            row[TOPAZ] = _rival(study, target, "topaz", by_topaz(program))
        found[target] = row
    _draw(canvas, found)
    return Section(
        "Other programs",
        f"The first {study.settings.compared} micrographs of each target, with its diameter given. At its own "
        f"threshold: {THRESHOLD} for the paper's network, that chosen for the data set for DeepPicker, all that it "
        "writes for the others, which is far more than are particles for Topaz. As its guide recommends, Topaz sees "
        "micrographs at 5 Å per pixel, at 8 where particles are large. Best: at the threshold that suits each best, "
        "known from the reference. F1, precision and recall are means over micrographs. " + study.about_default,
        _verdicts(found),
        (_table(found),),
        (
            Picture(
                canvas.stem("f1"), "F1 at the best threshold (bars) and at a program's own (points), mean of targets."
            ),
        ),
        tuple(f"Left out: {reason}." for reason in missing),
    )


def topaz_of(study: Study) -> list[str | Path] | None:
    """Return the command that starts Topaz, if it is there; the full study installs it where it can."""
    return topaz.installed(study.work.parent)


def by_log(paths: list[Path], output: Path, diameter: float, pixel_size: float) -> list[list[str | Path]]:
    """Return the command of RELION's picker for particles of about a diameter."""
    return [rivals.relion(paths, output, 1, (0.8 * diameter, 1.2 * diameter), pixel_size)]


def by_topaz(program: list[str | Path]) -> Callable[..., list[list[str | Path]]]:
    """Return what makes the commands of Topaz with its pretrained model."""

    def commands(paths: list[Path], output: Path, diameter: float, pixel_size: float) -> list[list[str | Path]]:
        scale = max(1, round(float(np.interp(diameter, *_TOPAZ_PIXEL)) / pixel_size))
        return topaz.commands(program, paths, output, scale, 2, diameter / pixel_size)

    return commands


def rival_picks(
    study: Study, target: str, name: str, make: Callable[..., list[list[str | Path]]], first: int | None = None
) -> list[Picks]:
    """Return what another program picks in the ``first`` micrographs of a target, or in all."""
    dataset = study.test(target).dataset
    items = dataset.micrographs[:first]
    folder = study.work / "others" / f"{name}-{target}"
    picks, _ = picked_by([item.load() for item in items], folder, dataset.diameter, make)
    return [replace(one, micrograph=item.picks.micrograph) for one, item in zip(picks, items, strict=True)]


def picked_by(
    micrographs: Sequence[Micrograph], folder: Path, diameter: float, make: Callable[..., list[list[str | Path]]]
) -> tuple[list[Picks], float]:
    """Return what another program picks, and the seconds that it takes; both are kept, its files are not.

    They are kept for these micrographs and options of the program, wherever the files lie.
    """
    commands = make([Path(f"{one.key}.mrc") for one in micrographs], Path("out"), diameter, micrographs[0].pixel_size)
    options = [[Path(word).name for word in command] for command in commands]
    key = checksum([(one.name, one.image.shape, one.pixel_size) for one in micrographs], options)
    path = folder.with_name(f"{folder.name}-{key}.json")
    known = cached(path, key, lambda: _run(micrographs, folder, diameter, make))
    picks = [
        Picks(one.name, np.array(places).reshape(-1, 2), np.array(scores))
        for one, (places, scores) in zip(micrographs, known["picks"], strict=True)
    ]
    return picks, known["seconds"]


def _run(
    micrographs: Sequence[Micrograph], folder: Path, diameter: float, make: Callable[..., list[list[str | Path]]]
) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "out" / "small").mkdir(parents=True)
    (folder / "in").mkdir()
    paths = []
    for one in micrographs:
        paths.append(folder / "in" / f"{one.key}.mrc")
        with mrcfile.new(paths[-1], one.image.astype(np.float32)) as file:
            file.voxel_size = one.pixel_size
    began = time.perf_counter()
    for command in make(paths, folder / "out", diameter, micrographs[0].pixel_size):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise DeepPickerError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    seconds = time.perf_counter() - began
    written = [path for path in (folder / "out").rglob("*") if path.name.endswith(("_log.star", "picks.txt"))]
    found = {
        micrograph_key(one.micrograph).removesuffix("_log"): one for path in sorted(written) for one in read_picks(path)
    }
    strange = set(found) - {one.key for one in micrographs}
    if strange:
        raise DeepPickerError(f"{written[0].name} names {min(strange)}, which is none of the micrographs")
    picks = [found.get(one.key, Picks(one.name, np.zeros((0, 2)), np.zeros(0))) for one in micrographs]
    shutil.rmtree(folder)
    return {"seconds": seconds, "picks": [(one.positions.tolist(), one.scores.tolist()) for one in picks]}


def _rival(study: Study, target: str, name: str, make: Callable[..., list[list[str | Path]]]) -> Found:
    return _judged(study, target, rival_picks(study, target, name, make, study.settings.compared), None)


def _judged(study: Study, target: str, picks: Sequence[Picks], threshold: float | None) -> Found:
    number = study.settings.compared
    return Found(study.evaluated(picks[:number], target, threshold, number), threshold)


def _own(found: Found) -> float:
    return found.own.macro.f1 or 0.0


def _best(found: Found) -> float:
    return best_f1(found.own)


def _mean(found: dict[str, dict[str, Found]], name: str) -> tuple[float, float]:
    """Return the mean F1 at the own and at the best threshold."""
    some = [row[name] for row in found.values() if name in row]
    return float(np.mean([_own(one) for one in some])), float(np.mean([_best(one) for one in some]))


def _verdicts(found: dict[str, dict[str, Found]]) -> tuple[Verdict, ...]:
    names = next(iter(found.values()))
    return tuple(_against(found, other) for other in (LOG, TOPAZ) if other in names)


def _against(found: dict[str, dict[str, Found]], other: str) -> Verdict:
    kinds = {"simulated": [t for t in found if t not in data.REAL], "real": [t for t in found if t in data.REAL]}
    means = {
        kind: tuple(_mean({target: found[target] for target in some}, name)[1] for name in (LEARNT, other))
        for kind, some in kinds.items()
        if some
    }
    ahead = sum(_own(row[LEARNT]) > _best(row[other]) for row in found.values())
    own = _mean(found, LEARNT)[0], _mean(found, other)[0]
    return Verdict(
        f"(Ours:) DeepPicker picks at least as well as {other}.",
        "mean F1 at the best threshold "
        + "; ".join(f"{ours:.3f} against {theirs:.3f} for {kind} targets" for kind, (ours, theirs) in means.items()),
        all(ours >= theirs for ours, theirs in means.values()),
        f"For {ahead} of {len(found)} targets DeepPicker at its own threshold is ahead of {other} at its best. At the "
        f"own threshold the mean is {own[0]:.3f} against {own[1]:.3f}.",
    )


def _draw(canvas: Canvas, found: dict[str, dict[str, Found]]) -> None:
    names = sorted(next(iter(found.values())), key=lambda name: -_mean(found, name)[1])
    with canvas.panels("f1", 1, size=(5.4, 2.2)) as (axes,):
        for name in names:
            own, best = _mean(found, name)
            bar(axes, name, best, [own], COLOURS[1] if name in (PAPER, DEFAULT, LEARNT) else COLOURS[5])
        axes.set(xlim=(0, 1), xlabel="F1")


def _table(found: dict[str, dict[str, Found]]) -> Table:
    rows = [
        (
            title_of(target),
            name,
            number(_best(one)),
            number(one.own.macro.f1),
            number(one.own.macro.recall),
            number(one.own.macro.precision),
            "all" if one.threshold is None else f"{one.threshold:.2f}",
        )
        for target, row in found.items()
        for name, one in sorted(row.items(), key=lambda item: -_best(item[1]))
    ]
    head = ("target", "program", "best F1", "F1", "recall", "precision", "own threshold")
    return Table("From the best to the worst", head, tuple(rows))
