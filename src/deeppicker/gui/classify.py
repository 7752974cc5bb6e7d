"""Align and average the corrected picks in classes, as `deeppicker classify` does: what a job does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeppicker.config import ClassifyConfig
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
    from deeppicker.particles.classify.report import report_of
    from deeppicker.particles.classify.steps import align, choose, cut_all
    from deeppicker.particles.classify.unfinished import forget

    files.check(project.classes, overwrite=True)
    dataset = _dataset(project, teller.folder / TRAIN)
    config = ClassifyConfig()
    if len(dataset) < 2 * number_of_classes(config, len(dataset)):
        raise InputError(f"{len(dataset)} picks are too few for classes; pick more, or lower the threshold")
    items = choose(dataset.micrographs, project.folder, 0, config.seed)
    windows = cut_all(
        items, dataset.diameter, config, _defocus(project), lambda chosen: teller.track(chosen, "cutting")
    )
    teller.step("classifying", config.iterations)
    start, found = align(windows, config, project.classes, lambda done: teller.progress(done, config.iterations))
    picks = [sampled.picks for _, sampled in items]
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
    picks = [together(*project.final(index, project.select)) for index in range(len(project.entries))]
    both = [(item, entry.path.resolve()) for item, entry in zip(picks, project.entries, strict=True) if len(item)]
    project.write_picks(star, [replace(item, micrograph=str(path)) for item, path in both])
    return load_dataset(star, diameter=project.diameter, invert=project.recorded.invert)


def _defocus(project: Project) -> dict[str, Ctf]:
    """Return the reliable contrast transfers that the tables of a project hold."""
    named = [Path(project.wanted.micrographs)] if project.wanted.micrographs else []
    known = defocus.known_in([*tables_of_run(project.folder), *named])
    return {key: ctf for key, ctf in known.items() if ctf.reliable}
