"""Learn from some hundred manual picks in a minute, as a run learns from its own: whole micrographs, few steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from deeppicker.config import LearnConfig, SelfTrainConfig
from deeppicker.errors import InputError
from deeppicker.networks.dense import DenseNetwork
from deeppicker.networks.model import Model, save_model
from deeppicker.training.adapt import best_picks
from deeppicker.training.data import Dataset
from deeppicker.training.doubt import doubted
from deeppicker.training.fit import hold_out
from deeppicker.training.plates import in_doubt
from deeppicker.training.self_train import RESULT, can_learn, learnt_calibration, one_thread_each
from deeppicker.training.sheets import Sheet, load_sheet, target
from deeppicker.training.short_training import mean_of, network_copy, train_on_sheets

FEW = 1000
"""Picks up to which a short training is as good as a long one (benchmarks/few_labels.py)."""

STEPS = 60
"""Steps of such a training."""

_METHOD = SelfTrainConfig(steps=STEPS, start_share=0.25)  # people err less than the start does


def is_few(model: Model, dataset: Dataset) -> bool:
    """Return whether a model can learn from a data set in a minute: few picks, by hand, for the dense network."""
    by_hand = all(np.isnan(item.picks.scores).all() for item in dataset.micrographs)
    return can_learn(model) and by_hand and 0 < len(dataset) <= FEW


def taught_of(dataset: Dataset, config: LearnConfig) -> Dataset:
    """Return what of a data set is learnt from: not what is kept out (see `hold_out`), nor more than is asked for."""
    taught, number = hold_out(dataset, config).part(held=False), config.examples.num_particles
    return best_picks(taught, number) if number < len(taught) else taught


def adapt_to_few(
    model: Model,
    dataset: Dataset,
    config: LearnConfig,
    output: Path,
    progress: Callable[[int, int, float], None] = lambda *_: None,
    *,
    complete: bool = False,
) -> Model:
    """Train a model on few manual picks, and save the result; the same picks give the same model.

    Parameters
    ----------
    model : Model
        Of the dense network.
    dataset : Dataset
        Manual picks, some of which are left to `judge`; see `taught_of`.
    config : LearnConfig
        Of it, the number of picks, the part for validation, the seed, and the score from which places without a label
        are doubtful.
    output : Path
        The model file.
    progress : callable
        Told after each step how many are done, of how many, and the loss.
    complete : bool
        All particles of these micrographs are labelled. Otherwise nothing is learnt about what the model is sure of
        and nobody has labelled.

    Raises
    ------
    InputError
        If there is no pick to learn from, or a micrograph cannot be used.
    OutputError
        If the model cannot be written.
    """
    taught = taught_of(dataset, config)
    if len(taught) == 0:
        raise InputError(f"{dataset.name} holds no pick to learn from")
    sheets, targets = [], []
    for item in taught.micrographs if complete else doubted(model, taught, config.crops.doubt).micrographs:
        sheets.append(load_sheet(item.load(), model, dataset.diameter))
        targets.append(target(sheets[-1], item.picks.positions, in_doubt(item), model.prepare.diameter_pixels))
    learnt = _trained(model, sheets, targets, config.train.seed, progress)
    adapted = replace(
        model,
        network=learnt,
        diameter=dataset.diameter,
        info={
            "deeppicker": version("deeppicker"),
            "datasets": [{"name": dataset.name, "micrographs": len(taught.micrographs), "particles": len(taught)}],
            "method": "few labels",
        },
        calibration=learnt_calibration(model.calibration, RESULT),
    )
    save_model(adapted, output)
    return adapted


def _trained(
    model: Model,
    sheets: Sequence[Sheet],
    targets: Sequence[torch.Tensor],
    seed: int,
    progress: Callable[[int, int, float], None],
) -> DenseNetwork:
    """Return the mean of the network and of one that has learnt, on the processor."""
    network, done = network_copy(model), itertools.count(1)

    def tell(loss: float) -> None:
        progress(next(done), _METHOD.steps, loss)

    with one_thread_each():
        train_on_sheets(network, sheets, targets, (seed, len(sheets)), _METHOD, tell)
    return mean_of((network_copy(model), network), _METHOD.start_share).cpu()
