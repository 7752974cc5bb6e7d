"""Refine a model on its target: its own best picks (the paper's iteration, Section 2.1), or a few manual ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from deeppicker.config import LearnConfig, PickConfig
from deeppicker.errors import InputError
from deeppicker.networks.model import Model
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.training.data import Dataset, Labelled
from deeppicker.training.fit import train_model
from deeppicker.training.loop import Training


def adapt_model(
    model: Model,
    dataset: Dataset,
    config: LearnConfig,
    output: Path,
    after_epoch: Callable[[Training], None] = lambda _: None,
) -> Model:
    """Train ``model`` further on the best picks of one molecule, and save the result.

    Manual picks have no score and are all used; of scored picks the ``config.examples.num_particles`` best are, and
    the others only keep negatives away. Each particle is drawn at most once from each version of its micrograph.
    See `train_model` for the parameters and errors.
    """
    chosen = best_picks(dataset, config.examples.num_particles)
    if len(chosen) == 0:
        raise InputError(f"{dataset.name} holds no pick to learn from")
    number = min(config.examples.num_particles, len(chosen) * config.examples.versions)
    examples = replace(config.examples, num_particles=number)
    return train_model(model, [chosen], replace(config, examples=examples), output, after_epoch)


def best_picks(dataset: Dataset, number: int) -> Dataset:
    """Return the data set with only its ``number`` best picks as positives, over all micrographs.

    Picks without score count as certain. Micrographs that are left without a positive are dropped.
    """
    scores = [np.nan_to_num(item.picks.scores, nan=np.inf) for item in dataset.micrographs]
    everything = np.concatenate(scores)
    best = np.zeros(len(everything), dtype=bool)
    best[np.argsort(-everything, kind="stable")[:number]] = True
    parts = np.split(best, np.cumsum([len(part) for part in scores])[:-1])
    kept = [
        replace(item, picks=item.picks.where(keep))
        for item, keep in zip(dataset.micrographs, parts, strict=True)
        if keep.any()
    ]
    return replace(dataset, micrographs=kept)


def pick_again(model: Model, item: Labelled, diameter: float, steps: PickConfig, threshold: float) -> Labelled:
    """Return a micrograph with the picks of ``model`` in place of its own: the start of another round."""
    found = pick_micrograph(item.load(), model, diameter, steps)
    found = found.where(found.scores >= threshold)
    return replace(item, picks=found, avoid=found.positions)
