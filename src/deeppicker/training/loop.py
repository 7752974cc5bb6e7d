"""A training run: epochs of steps along the gradient (Section 4.3), for any network and any batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from deeppicker.config import TrainConfig, TrainSettings
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.networks.base import Loss, Network
from deeppicker.networks.batches import Batch
from deeppicker.training.feed import Feed
from deeppicker.training.ranks import Ranks

_ALONE = Ranks()
_NOTHING = 1e-4  # part by which the loss must be lower than that of a network that does not look


@dataclass(frozen=True)
class Epoch:
    """What one epoch reached; accuracies are fractions, and the learning rate is that of its first step."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass
class Training:
    """The state of a training run between two epochs; all that is needed to continue it."""

    network: Network
    config: TrainConfig
    fingerprint: str = ""
    ranks: Ranks = _ALONE
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)
    settings: TrainSettings = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.settings = self.config.resolved(self.network.defaults)
        self.optimizer = self.network.optimizer(self.settings)

    def step(self, loss: torch.Tensor) -> None:
        """Change the weights along the gradient of a loss."""
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.network.gradient_limit)
        self.optimizer.step()

    def record(self, epoch: Epoch) -> None:
        """Add an epoch to the history, and keep its weights if it is the best so far."""
        self.history.append(epoch)
        if self.best_epoch is epoch:
            self.best = {name: value.cpu().clone() for name, value in self.network.state_dict().items()}

    def move(self, device: torch.device) -> None:
        """Move weights and optimizer to a device."""
        self.network.to(device)
        self.optimizer.load_state_dict(self.optimizer.state_dict())  # which moves it to where the weights are

    @property
    def best_epoch(self) -> Epoch:
        """The best epoch, as the network judges."""
        return self.history[self.network.best([epoch.validation_loss for epoch in self.history])]


def train(training: Training, feed: Feed, after_epoch: Callable[[Training], None] = lambda _: None) -> Training:
    """Run the epochs that ``training`` still lacks; its network ends with the weights of the best epoch.

    Parameters
    ----------
    training : Training
        A new or an interrupted run; changed in place.
    feed : Feed
        Batches for training and validation.
    after_epoch : callable
        Called after each epoch, for progress and checkpoints.

    Raises
    ------
    InputError
        If there are more processes than images in a batch.
    """
    size, ranks = training.settings.batch_size, training.ranks
    if size < ranks.size:
        raise InputError(f"--batch-size {size} is too few for {ranks.size} processes; set it to {ranks.size} or more")
    training.move(ranks.device)
    shared = ranks.wrap(training.network)
    schedule = learning_rate(training, feed.steps)
    while len(training.history) < training.settings.epochs:
        rate = float(schedule.get_last_lr()[0])
        fitted = _epoch(training, shared, feed, schedule)
        ranks.agree(shared)
        checked = measure(training.network, feed.held(), ranks)
        training.record(Epoch(len(training.history) + 1, rate, *fitted, *checked))
        after_epoch(training)
    training.move(torch.device("cpu"))  # where a network is once it is trained
    training.network.load_state_dict(training.best)
    training.network.train(False)
    return training


def learning_rate(training: Training, steps: int) -> LambdaLR:
    """Return the schedule of a run of ``steps`` an epoch: a short rise, if any, and down to zero along a half cosine.

    It begins where the run is.
    """
    settings, warm = training.settings, training.network.warm_up
    done, total = len(training.history) * steps, settings.epochs * steps

    for group in training.optimizer.param_groups:
        group["initial_lr"] = settings.learning_rate
    return LambdaLR(training.optimizer, partial(warm_cosine, total=total, warm=warm), last_epoch=done - 1)


def warm_cosine(step: int, total: int, warm: int) -> float:
    """Return the learning rate over its peak at a step: a short rise, then down to zero along a half cosine."""
    rise = min(1.0, (step + 1) / warm) if warm else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * step / total))


def _epoch(training: Training, shared: nn.Module, feed: Feed, schedule: LambdaLR) -> tuple[float, float]:
    """Take the steps of an epoch; return the mean loss and accuracy on the way."""
    network, ranks, number = training.network, training.ranks, len(training.history)
    network.train(True)
    totals = _Totals(ranks)
    with torch.random.fork_rng(devices=[] if ranks.device.type == "cpu" else [ranks.device]):
        torch.manual_seed(training.settings.seed_of(number) + ranks.rank * 2**40)  # dropout
        for part, whole in feed.epoch(number):
            batch = part.to(ranks.device)
            loss = network.loss(shared(batch.images), batch)
            training.step(loss.value * (ranks.size * len(batch) / whole))  # the mean of all processes is taken
            schedule.step()
            totals.add(loss, len(batch))
    return totals.means()


def measure(network: Network, batches: Iterable[Batch], ranks: Ranks = _ALONE) -> tuple[float, float]:
    """Return the mean loss and accuracy on batches, of which each process has others."""
    fused, totals = network.fused().to(ranks.device), _Totals(ranks)
    with torch.inference_mode():
        for part in batches:
            batch = part.to(ranks.device)
            totals.add(fused.loss(fused(batch.images), batch), len(batch))
    return totals.means()


def refuse_ignorance(training: Training, feed: Feed) -> None:
    """Check that the answers of a trained network have to do with the images.

    Raises
    ------
    DeepPickerError
        If it is as right about images of other places: it has learnt nothing.
    """
    right = training.best_epoch
    elsewhere, _ = measure(training.network, (_misplaced(batch) for batch in feed.held()), training.ranks)
    if not elsewhere - right.validation_loss > _NOTHING * abs(right.validation_loss):
        raise DeepPickerError(
            f"training learnt nothing: the network gives the same answers whatever it is shown (validation accuracy "
            f"{right.validation_accuracy:.4f}); look at the particles with `deeppicker view`, and check --diameter and "
            "--invert"
        )


def _misplaced(batch: Batch) -> Batch:
    """Return a batch whose images are those of others, and of other places."""
    _, height, width = batch.images.shape
    return replace(batch, images=torch.roll(batch.images, (1, height // 2, width // 2), (0, 1, 2)))


class _Totals:
    """Sums of losses, over batches and processes."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        exact = torch.float32 if ranks.device.type == "mps" else torch.float64  # which Apple's graphics lacks
        self._sums = torch.zeros(3, dtype=exact, device=ranks.device)

    def add(self, loss: Loss, number: int) -> None:
        one = torch.ones((), device=self._sums.device)
        parts = [part.detach().to(self._sums.dtype) for part in (loss.value, loss.accuracy, one)]
        self._sums += torch.stack(parts) * number

    def means(self) -> tuple[float, float]:
        loss, right, number = self._ranks.sum(self._sums).tolist()
        return loss / number, right / number
