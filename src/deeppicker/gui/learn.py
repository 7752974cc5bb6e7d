"""Learn from corrections, pick again, and measure the gain: what a job does (`deeppicker.gui.job`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deeppicker.config import (
    DEFAULT_MODEL,
    DeviceConfig,
    LearnConfig,
    LearnFirstConfig,
    RunConfig,
    SelectConfig,
    Subject,
    TrainConfig,
)
from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.evaluation.evaluate import evaluate_picks
from deeppicker.evaluation.results import EvaluateConfig, MicrographInfo
from deeppicker.formats.recorded import LEARNT, RUN
from deeppicker.gui.project import Project, Wanted
from deeppicker.gui.rounds import MODEL, PICKS, TRAIN, read_json
from deeppicker.gui.teller import Teller

_HELD = 3  # of so many complete micrographs one is kept out, to measure what was gained


def learn(project: Project, teller: Teller) -> None:
    """Learn from the complete micrographs, pick all again, and measure the gain on those that were kept out."""
    if project.diameter is None:
        raise InputError("the particle diameter is not known; measure it first")
    truth = {index: _truth(project, index) for index in range(len(project.entries)) if project.marks(index).complete}
    known = [index for index, picks in truth.items() if len(picks)]
    if not known:
        raise InputError("no micrograph with picks is marked as complete; correct one first, and mark it")
    held = [index for place, index in enumerate(known) if len(known) >= _HELD and place % _HELD == _HELD - 1]
    teller.tell(held=[project.key(index) for index in held], taught=len(known) - len(held))
    model = _train(project, [truth[index] for index in known if index not in held], teller)
    pick(project, model, teller)
    teller.tell(**_gain(project, {index: truth[index] for index in held}, teller.folder / PICKS))


def _truth(project: Project, index: int) -> Picks:
    kept, manual = project.final(index, project.select)
    path = str(project.entries[index].path.resolve())
    return Picks.unscored(path, np.concatenate([kept.positions, manual.positions]))


def _train(project: Project, taught: Sequence[Picks], teller: Teller) -> Path:
    from deeppicker.device import settle
    from deeppicker.networks.model import load_model
    from deeppicker.training.adapt import adapt_model
    from deeppicker.training.data import load_dataset
    from deeppicker.training.few_labels import adapt_to_few, is_few

    star, output = teller.folder / TRAIN, teller.folder / MODEL
    project.write_picks(star, taught)
    dataset = load_dataset(star, diameter=project.diameter, invert=project.recorded.invert)
    teller.step("learning", 1)
    place = settle(DeviceConfig().device, one=True)
    model = load_model(made_by(project.folder) or DEFAULT_MODEL).on(place.device)
    if is_few(model, dataset):
        adapt_to_few(model, dataset, LearnConfig(), output, teller.training_step, complete=True)
        return output
    config = LearnConfig(train=TrainConfig(epochs=model.network.adapt_epochs))
    adapt_model(model, dataset, config, output, teller.epoch)
    return output


def made_by(folder: Path) -> str | None:
    """Return the model that made the picks of a run, by its checksum; None if it cannot be found."""
    from deeppicker.networks.model import load_model, shipped_models, weights_digest

    made = read_json(folder / RUN).get("weights")
    beside = [folder / LEARNT, folder.parent / MODEL]
    for name in (*(str(path) for path in beside if path.is_file()), *shipped_models()):
        if weights_digest(load_model(name)) == made:
            return name
    return None


def pick(project: Project, model: Path | None, teller: Teller) -> None:
    """Pick all micrographs: with a model into the folder of a round, else in the folder of the run."""
    from deeppicker.runs.run import run_picking

    names = [entry.name if Path(entry.name).is_file() else str(entry.path) for entry in project.entries]
    sizes = (project.wanted.pixel_size, project.recorded.pixel_size, project.entries[0].pixel_size)
    subject = Subject(
        diameter=project.diameter,
        pixel_size=next((size for size in sizes if size is not None), None),
        invert=project.recorded.invert,
        **({} if model is None else {"model": str(model)}),
    )
    learning = LearnFirstConfig() if model is None else LearnFirstConfig(learn="off")
    output = project.folder if model is None else teller.folder / PICKS
    before = project.select or SelectConfig()
    select = replace(before, threshold=None)  # scores of another model ask for another one; limits of contrast stay
    config = RunConfig(subject=subject, learning=learning, select=select)
    result = run_picking(names, output, config, teller.hear)
    if not result.good:
        raise InputError(f"no micrograph could be picked: {next((row.error for row in result.rows), 'there is none')}")


def _gain(project: Project, truth: Mapping[int, Picks], after: Path) -> dict[str, Any]:
    """Return precision, recall and F1 on corrected micrographs that were kept out, and the numbers of all picks."""
    new = Project(Wanted(inputs=(str(after),), micrographs=project.wanted.micrographs))
    counts = {
        name: sum(row.picks for row in source.rows if row is not None)
        for name, source in (("picksBefore", project), ("picksAfter", new))
    }
    if not truth:
        return {**counts, "before": None, "after": None}
    found = {name: _rates(source, truth, project) for name, source in (("before", project), ("after", new))}
    return {**counts, **found}


def _rates(source: Project, truth: Mapping[int, Picks], project: Project) -> dict[str, float | None]:
    picks, info = [], {}
    for index in truth:
        key, header = project.key(index), project.header(index)
        found = source.automatic(source.index(key))
        picks.append(found.where(source.is_pick(found, source.select)))
        size = (header.height, header.width)
        info[key] = MicrographInfo(pixel_size=header.pixel_size or 1.0, size=size)
    assert project.diameter is not None
    config = EvaluateConfig(particle_diameter=project.diameter, resamples=1, chance_repeats=0)
    rates = evaluate_picks(picks, list(truth.values()), config, info).pooled
    return {"precision": rates.precision, "recall": rates.recall, "f1": rates.f1}
