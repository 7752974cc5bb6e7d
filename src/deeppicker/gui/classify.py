"""Align and average the corrected picks in classes, as `deeppicker classify` does: what a job does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeppicker.config import ClassifyConfig
from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.formats.provenance import tables_of_run
from deeppicker.formats.relion import defocus
from deeppicker.gui.export import together
from deeppicker.gui.project import Project
from deeppicker.gui.rounds import TRAIN
from deeppicker.gui.teller import Teller
from deeppicker.particles.classify import files
from deeppicker.particles.classify.search import number_of_classes

if TYPE_CHECKING:
    from deeppicker.core import Ctf
    from deeppicker.training.data import Dataset


def classify(project: Project, teller: Teller) -> None:
    """Classify the picks of all micrographs, as corrected, and write the folder of classes.

    Raises
    ------
    InputError
        If there are too few picks, or the folder holds something else.
    """
    from deeppicker.particles.classify.em import State
    from deeppicker.particles.classify.em import classify as align
    from deeppicker.particles.classify.others import Sampled, candidates_of, cut_with_others
    from deeppicker.particles.classify.others import together as windows_of
    from deeppicker.particles.classify.report import report_of
    from deeppicker.particles.classify.unfinished import Unfinished, forget

    files.check(project.classes, overwrite=True)
    dataset = _dataset(project, teller.folder / TRAIN)
    config = ClassifyConfig()
    if len(dataset) < 2 * number_of_classes(config, len(dataset)):
        raise InputError(f"{len(dataset)} picks are too few for classes; pick more, or lower the threshold")
    known = _defocus(project)
    cuts, picks = [], list[Picks]()
    rng = np.random.default_rng([config.seed, 2])
    teller.step("cutting", len(dataset.micrographs))
    for done, item in enumerate(dataset.micrographs, 1):
        ctf = known.get(item.picks.key)
        sampled = Sampled(item.picks, item.picks, candidates_of(project.folder, item.picks.micrograph))
        cuts.append(cut_with_others(item.load(), sampled, dataset.diameter, config.side, rng, ctf))
        picks.append(item.picks)
        teller.progress(done, len(dataset.micrographs))
    windows = windows_of(cuts)
    unfinished = Unfinished(project.classes, windows, config)
    teller.step("classifying", config.iterations)

    def after(state: State) -> None:
        unfinished.keep(state)
        teller.progress(state.done, config.iterations)

    start, found = align(windows, config, after, unfinished.state())
    report = report_of(windows, picks, start, found, dataset.diameter, config)
    recorded = project.recorded
    settings = {
        "made_by": "deeppicker classify",
        "diameter": dataset.diameter,
        "invert": recorded.invert,
        "pixel_size": project.wanted.pixel_size or recorded.pixel_size,
    }
    files.write(project.classes, report, settings, tables_of_run(project.folder), kept=False)
    forget(project.classes)


def _dataset(project: Project, star: Path) -> Dataset:
    from deeppicker.training.data import load_dataset

    if project.diameter is None:
        raise InputError("the particle diameter is not known; measure it first")
    picks = [together(*project.final(index, project.threshold)) for index in range(len(project.entries))]
    both = [(item, entry.path.resolve()) for item, entry in zip(picks, project.entries, strict=True) if len(item)]
    project.write_picks(star, [replace(item, micrograph=str(path)) for item, path in both])
    return load_dataset(star, diameter=project.diameter, invert=project.recorded.invert)


def _defocus(project: Project) -> dict[str, Ctf]:
    """Return the reliable contrast transfers that the tables of a project hold."""
    named = [Path(project.wanted.micrographs)] if project.wanted.micrographs else []
    known: dict[str, Ctf] = {}
    for path in [*tables_of_run(project.folder), *named]:
        if path.suffix.lower() == ".star" and path.is_file():
            known |= defocus.read_known(path)
    return {key: ctf for key, ctf in known.items() if ctf.reliable}
