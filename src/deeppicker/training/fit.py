"""From micrographs with known particles to a saved model: split, fill the cache, train, calibrate, save."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeppicker.config import LearnConfig, TrainSettings
from deeppicker.errors import DeepPickerError
from deeppicker.formats.atomic import make_folder
from deeppicker.networks.batches import Batch, CropBatch, WindowBatch
from deeppicker.networks.model import Model, load_model, save_model
from deeppicker.training.cache import discard, ensure
from deeppicker.training.calibrate import calibrate
from deeppicker.training.checkpoint import resume_checkpoint, save_checkpoint
from deeppicker.training.crop_feed import fill_plates, open_crops
from deeppicker.training.data import Dataset, Labelled, split
from deeppicker.training.feed import Feed, Lesson
from deeppicker.training.loop import Training, refuse_ignorance, train
from deeppicker.training.ranks import Ranks, current
from deeppicker.training.window_feed import fill_windows, open_windows

_CALIBRATED_ON = 150  # micrographs at most


class _Material(NamedTuple):
    """How a kind of batches is drawn from data sets into a cache, and read from there."""

    fill: Callable[[Lesson, Path], None]
    open: Callable[[Lesson, Path, TrainSettings, Ranks], Feed]


_MATERIALS: Mapping[type[Batch], _Material] = {
    WindowBatch: _Material(fill_windows, open_windows),
    CropBatch: _Material(fill_plates, open_crops),
}


def train_model(
    start: Model,
    datasets: Sequence[Dataset],
    config: LearnConfig,
    output: Path,
    after_epoch: Callable[[Training], None] = lambda _: None,
) -> Model:
    """Train a model on data sets that contribute equally, and save it.

    The best model so far is in ``output`` after every epoch, whatever ends the run. A checkpoint and a cache of the
    windows or micrographs beside it let the same call continue without reading the micrographs again; both are
    removed at the end. Where several processes train together (see `ranks`), the first writes all files, in a
    folder that all of them see.

    Parameters
    ----------
    start : Model
        The model to start from: its network (trained or new) and its preparation; and where it is trained.
    datasets : sequence of Dataset
        Micrographs and particles of one molecule each.
    config : LearnConfig
        Settings.
    output : Path
        The model file.
    after_epoch : callable
        Called with the state of training after each epoch (not again for those of an earlier, interrupted run).

    Raises
    ------
    InputError
        If a data set leaves no background, or a micrograph cannot be used.
    OutputError
        If the model cannot be written.
    DeepPickerError
        If nothing was learnt; then there is no model.
    """
    make_folder(output.parent)  # now, not after the first epoch
    ranks, material = current(start.place), _MATERIALS[start.network.learns_from]
    checkpoint, cache = (output.with_name(f"{output.name}.{kind}") for kind in ("checkpoint", "cache"))
    lesson = Lesson(start, halves(datasets, config), config)
    training = Training(copy.deepcopy(start.network), config.train, _fingerprint(start, datasets, config), ranks)
    resume_checkpoint(training, checkpoint)

    def keep(state: Training) -> None:
        if state.best_epoch is state.history[-1]:
            save_model(_described(start, state, datasets, config), output)
        save_checkpoint(state, checkpoint)
        after_epoch(state)

    def complete() -> None:
        save_model(_calibrated(_described(start, training, datasets, config), lesson), output)
        checkpoint.unlink(missing_ok=True)
        discard(cache)

    ranks.once(lambda: ensure(cache, training.fingerprint, partial(material.fill, lesson)))
    feed = material.open(lesson, cache, training.settings, ranks)
    train(training, feed, keep if ranks.rank == 0 else lambda _: None)
    try:
        refuse_ignorance(training, feed)
    except DeepPickerError:
        if ranks.rank == 0:
            output.unlink(missing_ok=True)
            checkpoint.unlink(missing_ok=True)
            discard(cache)
        raise
    ranks.once(complete)
    return load_model(output).on(start.device)


def halves(datasets: Sequence[Dataset], config: LearnConfig) -> list[tuple[Dataset, Dataset]]:
    """Return the training and the validation part of each data set; background is all for training."""
    rng = np.random.default_rng(config.train.seed)
    return [
        split(dataset, config.examples.validation, rng) if len(dataset) else (dataset, replace(dataset, micrographs=[]))
        for dataset in datasets
    ]


def hold_out(dataset: Dataset, config: LearnConfig) -> Dataset:
    """Return a data set that says which micrographs are kept out of training, to judge what was learnt; see `judge`.

    They stay out, whichever of its picks are then learnt from, or new ones. A data set is returned as it is if it says
    so already, or can judge nothing: with picks of a program, or in one micrograph only.
    """
    labelled = [item for item in dataset.micrographs if len(item.picks)]
    by_hand = all(np.isnan(item.picks.scores).all() for item in labelled)
    if len(labelled) < 2 or not by_hand or any(item.held for item in dataset.micrographs):
        return dataset
    _, chosen = halves([replace(dataset, micrographs=labelled)], config)[0]
    names = {item.picks.micrograph for item in chosen.micrographs}
    micrographs = [replace(item, held=item.picks.micrograph in names) for item in dataset.micrographs]
    return replace(dataset, micrographs=micrographs)


def _calibrated(model: Model, lesson: Lesson) -> Model:
    """Return the model with its scores calibrated, if that is possible.

    Without suitable micrographs the calibration of the model that training started from is the best there is.
    """
    held = _complete(lesson) if model.network.calibrated else []
    return replace(model, calibration=calibrate(model, held)) if held else model


def _complete(lesson: Lesson) -> list[tuple[float, Labelled]]:
    """Return validation micrographs, with their diameters, of which all particles are known."""
    parts = [part for _, part in lesson.halves if part.simulated]
    if not parts and not lesson.start.info:  # a new model, and nothing better
        parts = [part for _, part in lesson.halves if len(part)]
    items = [(part.diameter, item) for part in parts for item in part.micrographs]
    return items[:: max(1, -(-len(items) // _CALIBRATED_ON))]


def _described(start: Model, training: Training, datasets: Sequence[Dataset], config: LearnConfig) -> Model:
    """Return the best model so far with what is to be known of its origin."""
    network = copy.deepcopy(start.network)  # not that of the training, which may be on another device
    network.load_state_dict(training.best)
    network.train(False)
    info: dict[str, Any] = {
        "deeppicker": version("deeppicker"),
        "datasets": [
            {
                "name": dataset.name,
                "diameter": dataset.diameter,
                "micrographs": len(dataset.micrographs),
                "particles": len(dataset),
            }
            for dataset in datasets
        ],
        "settings": asdict(config),
        "best_epoch": asdict(training.best_epoch),
    }
    diameter = datasets[0].diameter if len(datasets) == 1 else None
    return replace(start, network=network, diameter=diameter, info=info)


def _fingerprint(start: Model, datasets: Sequence[Dataset], config: LearnConfig) -> str:
    """Return what identifies a training run, so that only its own checkpoint continues it."""
    digest = hashlib.sha256(json.dumps([asdict(config), asdict(start.prepare)]).encode())
    for name, weight in sorted(start.network.state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    for dataset in datasets:
        digest.update(repr(dataset.diameter).encode())
        for item in dataset.micrographs:
            digest.update(item.picks.micrograph.encode() + item.picks.positions.tobytes() + item.avoid.tobytes())
            digest.update(item.source.encode(errors="surrogateescape") + b"held" * item.held)
    return digest.hexdigest()
