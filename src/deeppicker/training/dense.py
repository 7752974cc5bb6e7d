"""Training of the dense network on random crops, by AdamW (Loshchilov & Hutter 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from deeppicker.config import EPOCH_STEPS
from deeppicker.networks.base import SIZE_BINS, DenseNetwork, Network
from deeppicker.training.crops import Batch
from deeppicker.training.loop import Epoch, Training, begin, finish, record
from deeppicker.training.plates import Plate
from deeppicker.training.prefetch import ahead
from deeppicker.training.ranks import Ranks

CENTRE_WEIGHT = 20.0
PRESENCE_WEIGHT = 0.3
JUNK_WEIGHT = 0.5
SIZE_WEIGHT = 0.15
"""Weights of the four parts of the loss, such that all are of order one after a few hundred steps."""
_SPREAD = 0.7  # standard deviation, in bins, of the target of the size
_GRADIENT_LIMIT = 3.0
_HELD = 16  # batches for validation


def losses(network: nn.Module, batch: Batch) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """Return the losses on centres, presence, junk and size, and how much of the map of presence is right.

    Each loss is a mean over what is known.
    """
    centres, sizes = network(batch.images)
    centre = _known_mean(centres, batch.centres)
    presence = _known_mean(sizes[:, 0], batch.presence)
    junk = _known_mean(sizes[:, 1], batch.junk)
    bins = torch.arange(SIZE_BINS, device=batch.sizes.device)
    target = torch.softmax(-0.5 * ((bins - batch.sizes[:, None]) / _SPREAD) ** 2, dim=1)
    entropy = -(functional.log_softmax(sizes[:, 2:], dim=1) * target[:, :, None, None]).sum(dim=1)
    covered = ((batch.presence == 1) & (batch.sizes >= 0)[:, None, None]).float()
    size = (entropy * covered).sum() / covered.sum().clamp_min(1)
    right = ((sizes[:, 0] > 0) == (batch.presence > 0.5))[~batch.presence.isnan()].float().mean()
    return (centre, presence, junk, size), right


def _known_mean(
    logits: Float[torch.Tensor, "n rows columns"], target: Float[torch.Tensor, "n rows columns"]
) -> torch.Tensor:
    known = ~target.isnan()
    each = functional.binary_cross_entropy_with_logits(logits, target.nan_to_num(0), reduction="none")
    return (each * known).sum() / known.sum().clamp_min(1)


def total(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the weighted sum of the four losses."""
    centre, presence, junk, size = parts
    return CENTRE_WEIGHT * centre + PRESENCE_WEIGHT * presence + JUNK_WEIGHT * junk + SIZE_WEIGHT * size


def rate(step: int, steps: int, peak: float, warm: int = 100) -> float:
    """Return the learning rate: a short rise, then down to zero along a half cosine."""
    rise = min(1.0, (step + 1) / warm)
    return peak * rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def train_dense(
    training: Training,
    groups: Sequence[tuple[float, Sequence[Plate]]],
    validation: Sequence[Plate],
    draw: Callable[[Sequence[Plate], int, np.random.Generator], Batch],
    after_epoch: Callable[[Training], None] = lambda _: None,
) -> Training:
    """Run the epochs that ``training`` still lacks; its network ends with the weights of the best epoch.

    Parameters
    ----------
    training : Training
        A new or an interrupted run; changed in place.
    groups : sequence of (weight, plates)
        How often a crop comes from each group; the plates of a group are equally likely.
    validation : sequence of Plate
        The best epoch is that of least loss on crops of these, always the same ones.
    draw : callable
        Returns a batch of so many crops of some plates.
    after_epoch : callable
        Called after each epoch, for progress and checkpoints.
    """
    settings, ranks = training.settings, training.ranks
    shared = begin(training)
    held = [draw(validation, settings.batch_size, np.random.default_rng([settings.seed, i])) for i in range(_HELD)]
    while len(training.history) < settings.epochs:
        number = len(training.history)
        loss, accuracy = _epoch(training, shared, groups, draw)
        ranks.agree(shared)
        validation_loss, validation_accuracy = measure_dense(training.network, held, ranks)
        peak = rate(number * EPOCH_STEPS, settings.epochs * EPOCH_STEPS, settings.learning_rate)
        record(training, Epoch(number + 1, peak, loss, accuracy, validation_loss, validation_accuracy))
        after_epoch(training)
    return finish(training)


def measure_dense(network: Network, batches: Sequence[Batch], ranks: Ranks) -> tuple[float, float]:
    """Return the mean loss, and the accuracy of the map of presence; each process looks at its share of the batches."""
    assert isinstance(network, DenseNetwork)
    network.train(False)
    totals = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    with torch.inference_mode():
        for batch in batches[ranks.share(len(batches))]:
            parts, accuracy = losses(network, batch.to(ranks.device))
            totals += torch.stack([total(parts), accuracy])
    loss, right = (ranks.sum(totals) / len(batches)).tolist()
    return loss, right


def _epoch(
    training: Training,
    network: nn.Module,
    groups: Sequence[tuple[float, Sequence[Plate]]],
    draw: Callable[[Sequence[Plate], int, np.random.Generator], Batch],
) -> tuple[float, float]:
    settings, ranks, number = training.settings, training.ranks, len(training.history)
    training.network.train(True)
    shares = np.array([weight for weight, _ in groups])
    size, done, steps = settings.batch_size, number * EPOCH_STEPS, settings.epochs * EPOCH_STEPS
    rng = np.random.default_rng([settings.seed, number, 1])
    chosen = rng.choice(len(groups), size=(EPOCH_STEPS, size), p=shares / shares.sum())
    mine = np.arange(size)[ranks.share(size)]

    def load(step: int) -> Batch:  # a generator for each crop, so that no process needs to draw those of the others
        seeds = [(settings.seed, number, 2, step, int(crop)) for crop in mine]
        crops = [draw(groups[chosen[step, s[-1]]][1], 1, np.random.default_rng(s)) for s in seeds]
        return Batch.join(crops)

    totals = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    for step, batch in enumerate(ahead(load, range(EPOCH_STEPS))):
        parts, accuracy = losses(network, batch.to(ranks.device))
        share = len(mine) / size  # of this process; the same as of the gradient, whose mean is taken
        loss = total(parts)
        training.step(loss * (share * ranks.size), _GRADIENT_LIMIT, rate(done + step, steps, settings.learning_rate))
        totals += torch.stack([loss.detach(), accuracy]) * share
    loss_mean, right = (ranks.sum(totals) / EPOCH_STEPS).tolist()
    return loss_mean, right
