"""A training run and its checkpoints; the loop over windows, by stochastic gradient descent (Section 4.3)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.nn import functional

from deeppicker.config import TrainConfig, TrainSettings
from deeppicker.examples import Examples
from deeppicker.formats.atomic import atomic_write
from deeppicker.networks import DenseNetwork, Network, PaperNetwork, kind_of

_GRADIENT_LIMIT = 5.0  # norm; keeps a first step from an unlucky start harmless
_METADATA_KEY = "deeppicker-training"


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training windows reached; accuracies are fractions."""

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
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)
    settings: TrainSettings = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.settings = self.config.resolved(kind_of(self.network))
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        weights = self.network.parameters()
        if isinstance(self.network, DenseNetwork):
            self.optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
        else:
            self.optimizer = torch.optim.SGD(weights, lr=rate, momentum=self.settings.momentum, weight_decay=decay)

    @property
    def best_epoch(self) -> Epoch:
        """The epoch of least validation loss; for the dense network the last, when the rate has come to rest.

        Its loss on random crops differs less between epochs than between draws.
        """
        if isinstance(self.network, DenseNetwork):
            return self.history[-1]
        return min(self.history, key=lambda epoch: epoch.validation_loss)


def train(
    training: Training,
    examples: Examples,
    validation: Examples,
    after_epoch: Callable[[Training], None] = lambda _: None,
) -> Training:
    """Run the epochs that ``training`` still lacks; its network ends with the weights of the best epoch.

    Parameters
    ----------
    training : Training
        A new or an interrupted run; changed in place.
    examples, validation : Examples
        Training and validation windows. The best epoch is that of least validation loss.
    after_epoch : callable
        Called after each epoch, for progress and checkpoints.
    """
    config = training.settings
    steps = math.ceil(len(examples) / config.batch_size)
    while len(training.history) < config.epochs:
        number = len(training.history)
        rng = torch.Generator().manual_seed(config.seed * 1_000_003 + number)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed * 1_000_003 + number)  # dropout
            loss, accuracy = _epoch(training, examples, rng, number * steps, config.epochs * steps)
        assert isinstance(training.network, PaperNetwork)
        validation_loss, validation_accuracy = measure(training.network, validation)
        rate = _learning_rate(config, number * steps, config.epochs * steps)
        epoch = Epoch(number + 1, rate, loss, accuracy, validation_loss, validation_accuracy)
        record(training, epoch)
        after_epoch(training)
    return finish(training)


def record(training: Training, epoch: Epoch) -> None:
    """Add an epoch to the history, and keep its weights if it is the best so far."""
    training.history.append(epoch)
    if training.best_epoch is epoch:
        training.best = {name: value.clone() for name, value in training.network.state_dict().items()}


def finish(training: Training) -> Training:
    """Put the weights of the best epoch into the network."""
    training.network.load_state_dict(training.best)
    training.network.train(False)
    return training


def measure(network: PaperNetwork, examples: Examples, batch_size: int = 1024) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy on examples."""
    network.train(False)
    losses, right = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(examples), batch_size):
            windows, labels = _batch(examples, np.arange(start, min(start + batch_size, len(examples))))
            odds = network.windows(windows)
            losses += float(functional.binary_cross_entropy_with_logits(odds, labels, reduction="sum"))
            right += int(((odds > 0) == (labels > 0.5)).sum())
    return losses / len(examples), right / len(examples)


def _epoch(training: Training, examples: Examples, rng: torch.Generator, done: int, total: int) -> tuple[float, float]:
    config, network = training.settings, training.network
    assert isinstance(network, PaperNetwork)
    network.train(True)
    order = torch.randperm(len(examples), generator=rng).numpy()
    losses, right = 0.0, 0
    for step, start in enumerate(range(0, len(order), config.batch_size)):
        windows, labels = _batch(examples, np.sort(order[start : start + config.batch_size]))
        odds = network.windows(_turn(windows, rng))
        loss = functional.binary_cross_entropy_with_logits(odds, labels)
        training.optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_LIMIT)
        training.optimizer.param_groups[0]["lr"] = _learning_rate(config, done + step, total)
        training.optimizer.step()
        losses += float(loss.detach()) * len(labels)
        right += int(((odds > 0) == (labels > 0.5)).sum())
    return losses / len(order), right / len(order)


def _batch(examples: Examples, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    windows = torch.from_numpy(examples.windows[chosen].astype(np.float32))
    return windows, torch.from_numpy(examples.labels[chosen])


def _turn(windows: Float[torch.Tensor, "n side side"], rng: torch.Generator) -> Float[torch.Tensor, "n side side"]:
    """Return the windows, each eighth of the batch turned and mirrored in another of the eight ways."""
    ways = torch.randperm(8, generator=rng).tolist()
    parts = [
        torch.rot90(part.flip(1) if way >= 4 else part, way % 4, (1, 2))
        for way, part in zip(ways, windows.chunk(8), strict=False)
    ]
    return torch.cat(parts)


def _learning_rate(config: TrainSettings, step: int, steps: int) -> float:
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def save_checkpoint(training: Training, path: Path) -> None:
    """Write the state of a training run; whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    tensors = {
        f"{group}.{name}": value.contiguous()
        for group, values in (
            ("network", training.network.state_dict()),
            ("optimizer", _optimizer_state(training)),
            ("best", training.best),
        )
        for name, value in values.items()
    }
    state = {"fingerprint": training.fingerprint, "history": [asdict(epoch) for epoch in training.history]}
    atomic_write(path, save(tensors, metadata={_METADATA_KEY: json.dumps(state)}))


def resume_checkpoint(training: Training, path: Path) -> bool:
    """Continue from a checkpoint if it belongs to the same data and settings; return whether it did."""
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[_METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError):
        return False
    if state["fingerprint"] != training.fingerprint:
        return False
    groups: dict[str, dict[str, torch.Tensor]] = {"network": {}, "optimizer": {}, "best": {}}
    for key, value in tensors.items():
        group, _, name = key.partition(".")
        groups[group][name] = value
    training.network.load_state_dict(groups["network"])
    parameters = dict(training.network.named_parameters())
    for key, value in groups["optimizer"].items():
        name, _, part = key.rpartition("/")
        training.optimizer.state[parameters[name]][part] = value
    training.best = groups["best"]
    training.history = [Epoch(**epoch) for epoch in state["history"]]
    return True


def _optimizer_state(training: Training) -> dict[str, torch.Tensor]:
    """Return the tensors that the optimizer keeps for each weight, such as its momentum."""
    state = training.optimizer.state
    return {
        f"{name}/{part}": value
        for name, weight in training.network.named_parameters()
        for part, value in state.get(weight, {}).items()
        if isinstance(value, torch.Tensor)
    }
