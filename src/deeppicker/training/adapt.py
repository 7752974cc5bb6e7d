"""Refine a model on its target: its own best picks (the paper's iteration, Section 2.1), or a few manual ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deeppicker.config import LearnConfig, PickConfig
from deeppicker.errors import InputError
from deeppicker.evaluation.evaluate import evaluate_picks
from deeppicker.evaluation.ranking import Rates
from deeppicker.evaluation.results import EvaluateConfig, MicrographInfo
from deeppicker.networks.model import Model
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.picking.threshold import choose_threshold
from deeppicker.training.data import Dataset, Labelled
from deeppicker.training.fit import hold_out, train_model
from deeppicker.training.loop import Training


def adapt_model(
    model: Model,
    dataset: Dataset,
    config: LearnConfig,
    output: Path,
    after_epoch: Callable[[Training], None] = lambda _: None,
) -> Model:
    """Train ``model`` further on the best picks of one molecule, and save the result.

    The ``config.examples.num_particles`` best picks are learnt from, of manual ones the first; the others only keep
    negatives away. Each particle is drawn at most once from each version of its micrograph. Of manual picks some
    micrographs are kept out; see `hold_out`, and `train_model` for the parameters and errors.
    """
    chosen = best_picks(hold_out(dataset, config), config.examples.num_particles)
    if len(chosen.part(held=False)) == 0:
        raise InputError(f"{dataset.name} holds no pick to learn from")
    number = min(config.examples.num_particles, len(chosen) * config.examples.versions)
    examples = replace(config.examples, num_particles=number)
    return train_model(model, [chosen], replace(config, examples=examples), output, after_epoch)


@dataclass(frozen=True)
class Verdict:
    """How two models agree with manual picks in micrographs that neither has learnt from.

    Parameters
    ----------
    micrographs, particles : int
        Number of micrographs, and of the picks in them.
    before, after : Rates
        Of the model that adaptation started from, and of the new one, each at the threshold that it chooses itself.
    """

    micrographs: int
    particles: int
    before: Rates
    after: Rates

    @property
    def better(self) -> bool:
        """Whether the new model agrees better."""
        return (self.after.f1 or 0) > (self.before.f1 or 0)


def judge(start: Model, adapted: Model, dataset: Dataset, config: LearnConfig) -> Verdict | None:
    """Return whether a model adapted to manual picks picks better than before; see `adapt_model`.

    The micrographs that are kept out of training tell; None if there are none (see `hold_out`). Particles that were
    left out by hand count as false picks of both models.
    """
    held = hold_out(dataset, config).part(held=True)
    if len(held) == 0:
        return None
    micrographs = [item.load() for item in held.micrographs]
    reference = [replace(item.picks, micrograph=m.name) for item, m in zip(held.micrographs, micrographs, strict=True)]
    info = {m.key: MicrographInfo(pixel_size=m.pixel_size, size=m.image.shape) for m in micrographs}
    rates = []
    for model in (start, adapted):
        found = [pick_micrograph(micrograph, model, held.diameter) for micrograph in micrographs]
        threshold = choose_threshold(np.concatenate([item.scores for item in found]), model.calibration.caution)
        settings = EvaluateConfig(
            particle_diameter=held.diameter, threshold=threshold, resamples=1, chance_repeats=1, border=0.0
        )
        rates.append(evaluate_picks(found, reference, settings, info).pooled)
    return Verdict(len(micrographs), len(held), *rates)


def best_picks(dataset: Dataset, number: int) -> Dataset:
    """Return the data set with only its ``number`` best picks as positives, over all micrographs.

    Picks without score count as certain. Micrographs that are left without a positive are dropped. Those that are kept
    out of training stay as they are, and do not count.
    """
    taught = dataset.part(held=False).micrographs
    scores = [np.nan_to_num(item.picks.scores, nan=np.inf) for item in taught]
    everything = np.concatenate(scores)
    best = np.zeros(len(everything), dtype=bool)
    best[np.argsort(-everything, kind="stable")[:number]] = True
    parts = np.split(best, np.cumsum([len(part) for part in scores])[:-1])
    chosen = iter([replace(item, picks=item.picks.where(keep)) for item, keep in zip(taught, parts, strict=True)])
    kept = [item if item.held else next(chosen) for item in dataset.micrographs]
    return replace(dataset, micrographs=[item for item in kept if len(item.picks)])


def pick_again(model: Model, item: Labelled, diameter: float, steps: PickConfig, threshold: float) -> Labelled:
    """Return a micrograph with the picks of ``model`` in place of its own: the start of another round."""
    found = pick_micrograph(item.load(), model, diameter, steps)
    found = found.where(found.scores >= threshold)
    return replace(item, picks=found, avoid=found.positions)
