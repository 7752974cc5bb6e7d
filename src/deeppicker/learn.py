"""From micrographs with known particles to a saved model: split, draw windows, train."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from deeppicker.config import ExampleConfig, TrainConfig
from deeppicker.dataset import Dataset, split
from deeppicker.examples import Examples, draw, join
from deeppicker.formats.atomic import make_folder
from deeppicker.model import Model, copy_network, save_model
from deeppicker.train import Training, resume_checkpoint, save_checkpoint, train


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """What decides the result of training, besides the data."""

    examples: ExampleConfig = ExampleConfig()
    train: TrainConfig = TrainConfig()


def learn(
    start: Model,
    datasets: Sequence[Dataset],
    config: LearnConfig,
    output: Path,
    after_epoch: Callable[[Training], None] = lambda _: None,
) -> Model:
    """Train a model on data sets that contribute equally, and save it.

    The best model so far is in ``output`` after every epoch, whatever ends the run; a checkpoint beside it lets the
    same call continue, and is removed at the end.

    Parameters
    ----------
    start : Model
        The model to start from: its network (trained or new) and its preparation.
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
    """
    make_folder(output.parent)  # now, not after the first epoch
    rng = np.random.default_rng(config.train.seed)
    halves = [split(dataset, config.examples.validation, rng) for dataset in datasets]
    training = Training(copy_network(start.network), config.train, _fingerprint(start, datasets, config))
    checkpoint = output.with_name(output.name + ".checkpoint")
    resume_checkpoint(training, checkpoint)
    examples, validation = draw_all(halves, start, config)

    def keep(state: Training) -> None:
        if state.best_epoch is state.history[-1]:
            save_model(_described(start, state, datasets, config), output)
        save_checkpoint(state, checkpoint)
        after_epoch(state)

    train(training, examples, validation, keep)
    model = _described(start, training, datasets, config)
    save_model(model, output)
    checkpoint.unlink(missing_ok=True)
    return model


def draw_all(halves: Sequence[tuple[Dataset, Dataset]], start: Model, config: LearnConfig) -> tuple[Examples, Examples]:
    """Return the training and validation windows, shared equally among the data sets."""
    share = max(1, round(config.examples.num_particles / len(halves)))
    counts = (share, max(1, round(share * config.examples.validation)))
    training, validation = (
        join(
            [
                draw(pair[part], counts[part], config.examples, start.prepare, [config.train.seed, part, index])
                for index, pair in enumerate(halves)
            ]
        )
        for part in (0, 1)
    )
    return training, validation


def _described(start: Model, training: Training, datasets: Sequence[Dataset], config: LearnConfig) -> Model:
    """Return the best model so far with what is to be known of its origin."""
    network = copy_network(training.network)
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
            digest.update(item.source.encode(errors="surrogateescape"))
    return digest.hexdigest()
