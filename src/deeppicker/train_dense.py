"""Training of the dense network on random crops, by AdamW (Loshchilov & Hutter 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional

from deeppicker.config import EPOCH_STEPS
from deeppicker.crops import Batch, Plate
from deeppicker.networks import SIZE_BINS, DenseNetwork, Network
from deeppicker.train import Epoch, Training, finish, record

CENTRE_WEIGHT = 20.0
PRESENCE_WEIGHT = 0.3
JUNK_WEIGHT = 0.5
SIZE_WEIGHT = 0.15
"""Weights of the four parts of the loss, such that all are of order one after a few hundred steps."""
_SPREAD = 0.7  # standard deviation, in bins, of the target of the size
_GRADIENT_LIMIT = 3.0
_HELD = 16  # batches for validation


def losses(network: DenseNetwork, batch: Batch) -> tuple[tuple[torch.Tensor, ...], float]:
    """Return the losses on centres, presence, junk and size, and how much of the map of presence is right.

    Each loss is a mean over what is known.
    """
    centres, sizes = network(batch.images)
    centre = _known_mean(centres, batch.centres)
    presence = _known_mean(sizes[:, 0], batch.presence)
    junk = _known_mean(sizes[:, 1], batch.junk)
    bins = torch.arange(SIZE_BINS)
    target = torch.softmax(-0.5 * ((bins - batch.sizes[:, None]) / _SPREAD) ** 2, dim=1)
    entropy = -(functional.log_softmax(sizes[:, 2:], dim=1) * target[:, :, None, None]).sum(dim=1)
    covered = ((batch.presence == 1) & (batch.sizes >= 0)[:, None, None]).float()
    size = (entropy * covered).sum() / covered.sum().clamp_min(1)
    right = ((sizes[:, 0] > 0) == (batch.presence > 0.5))[~batch.presence.isnan()].float().mean()
    return (centre, presence, junk, size), float(right)


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
    settings = training.settings
    held = [draw(validation, settings.batch_size, np.random.default_rng([settings.seed, i])) for i in range(_HELD)]
    while len(training.history) < settings.epochs:
        number = len(training.history)
        rng = np.random.default_rng([settings.seed, number, 1])
        loss, accuracy = _epoch(training, groups, draw, rng)
        validation_loss, validation_accuracy = measure_dense(training.network, held)
        peak = rate(number * EPOCH_STEPS, settings.epochs * EPOCH_STEPS, settings.learning_rate)
        record(training, Epoch(number + 1, peak, loss, accuracy, validation_loss, validation_accuracy))
        after_epoch(training)
    return finish(training)


def measure_dense(network: Network, batches: Sequence[Batch]) -> tuple[float, float]:
    """Return the mean loss, and the accuracy of the map of presence."""
    assert isinstance(network, DenseNetwork)
    network.train(False)
    with torch.inference_mode():
        results = [losses(network, batch) for batch in batches]
    return _mean([float(total(parts)) for parts, _ in results]), _mean([accuracy for _, accuracy in results])


def _epoch(
    training: Training,
    groups: Sequence[tuple[float, Sequence[Plate]]],
    draw: Callable[[Sequence[Plate], int, np.random.Generator], Batch],
    rng: np.random.Generator,
) -> tuple[float, float]:
    network, settings = training.network, training.settings
    assert isinstance(network, DenseNetwork)
    network.train(True)
    shares = np.array([weight for weight, _ in groups])
    done, steps = len(training.history) * EPOCH_STEPS, settings.epochs * EPOCH_STEPS
    values, accuracies = [], []
    for step in range(EPOCH_STEPS):
        chosen = rng.choice(len(groups), size=settings.batch_size, p=shares / shares.sum())
        batch = Batch.join([draw(groups[index][1], 1, rng) for index in chosen])
        parts, accuracy = losses(network, batch)
        loss = total(parts)
        training.optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_LIMIT)
        training.optimizer.param_groups[0]["lr"] = rate(done + step, steps, settings.learning_rate)
        training.optimizer.step()
        values.append(float(loss.detach()))
        accuracies.append(accuracy)
    return _mean(values), _mean(accuracies)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
