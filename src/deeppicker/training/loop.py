"""A training run and its checkpoints; the loop over windows, by stochastic gradient descent (Section 4.3)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from deeppicker.config import TrainConfig, TrainSettings
from deeppicker.errors import InputError
from deeppicker.formats.atomic import atomic_write
from deeppicker.networks.base import DenseNetwork, Network, PaperNetwork, kind_of
from deeppicker.training.prefetch import ahead
from deeppicker.training.ranks import Ranks
from deeppicker.training.windows import Examples

_GRADIENT_LIMIT = 5.0  # norm; keeps a first step from an unlucky start harmless
_METADATA_KEY = "deeppicker-training"
_ALONE = Ranks()


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
    ranks: Ranks = _ALONE
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

    def step(self, loss: torch.Tensor, limit: float, rate: float) -> None:
        """Change the weights along the gradient of a loss, which is cut to a norm of ``limit``."""
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()

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
    config, ranks = training.settings, training.ranks
    steps = math.ceil(len(examples) / config.batch_size)
    shared = begin(training)
    while len(training.history) < config.epochs:
        number = len(training.history)
        seed = config.seed * 1_000_003 + number
        rng = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[] if ranks.device.type == "cpu" else [ranks.device]):
            torch.manual_seed(seed + ranks.rank * 2**40)  # dropout
            loss, accuracy = _epoch(training, shared, examples, rng)
        assert isinstance(training.network, PaperNetwork)
        validation_loss, validation_accuracy = measure(training.network, validation, ranks=ranks)
        rate = _learning_rate(config, number * steps, config.epochs * steps)
        epoch = Epoch(number + 1, rate, loss, accuracy, validation_loss, validation_accuracy)
        record(training, epoch)
        after_epoch(training)
    return finish(training)


def begin(training: Training) -> nn.Module:
    """Move a training run to its device and return its network, whose gradients are those of all processes.

    Raises
    ------
    InputError
        If there are more processes than windows or crops in a step.
    """
    size, ranks = training.settings.batch_size, training.ranks
    if size < ranks.size:
        raise InputError(f"--batch-size {size} is too few for {ranks.size} processes; set it to {ranks.size} or more")
    return ranks.wrap(_move(training, ranks.device))


def record(training: Training, epoch: Epoch) -> None:
    """Add an epoch to the history, and keep its weights if it is the best so far."""
    training.history.append(epoch)
    if training.best_epoch is epoch:
        training.best = {name: value.cpu().clone() for name, value in training.network.state_dict().items()}


def finish(training: Training) -> Training:
    """Put the weights of the best epoch into the network."""
    _move(training, torch.device("cpu"))
    training.network.load_state_dict(training.best)
    training.network.train(False)
    return training


def _move(training: Training, device: torch.device) -> nn.Module:
    assert isinstance(training.network, nn.Module)
    training.network.to(device)
    training.optimizer.load_state_dict(training.optimizer.state_dict())  # which moves it to where the weights are
    return training.network


def measure(
    network: PaperNetwork, examples: Examples, batch_size: int = 1024, ranks: Ranks = _ALONE
) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy on examples, of which each process looks at its share."""
    network.train(False)
    share = ranks.share(len(examples))
    totals = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    with torch.inference_mode():
        for start in range(share.start, share.stop, batch_size):
            part = examples.part(start, min(start + batch_size, share.stop))
            windows = torch.from_numpy(part.windows.astype(np.float32)).to(ranks.device)
            labels = torch.from_numpy(np.array(part.labels)).to(ranks.device)
            totals += _result(network.windows(windows), labels)[1]
    loss, right = ranks.sum(totals).tolist()
    return loss / len(examples), right / len(examples)


def _result(odds: Float[torch.Tensor, " n"], labels: Float[torch.Tensor, " n"]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy summed over windows; and the same without gradient, with the number that is right."""
    loss = functional.binary_cross_entropy_with_logits(odds, labels, reduction="sum")
    return loss, torch.stack([loss.detach(), ((odds > 0) == (labels > 0.5)).sum()]).double()


def _epoch(training: Training, network: nn.Module, examples: Examples, rng: torch.Generator) -> tuple[float, float]:
    config, ranks = training.settings, training.ranks
    training.network.train(True)
    order = torch.randperm(len(examples), generator=rng).numpy()
    batches = [np.sort(order[start : start + config.batch_size]) for start in range(0, len(order), config.batch_size)]
    done, total = len(training.history) * len(batches), config.epochs * len(batches)

    def load(task: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        chosen, ways = task
        mine = chosen[ranks.share(len(chosen))]
        windows = _turn(np.asarray(examples.windows[mine]), ways[ranks.share(len(chosen))])
        return torch.from_numpy(windows), torch.from_numpy(np.asarray(examples.labels[mine]))

    totals = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    tasks = ((chosen, _ways(len(chosen), rng)) for chosen in batches)
    for step, (chosen, (windows, labels)) in enumerate(zip(batches, ahead(load, tasks), strict=True)):
        logits = network(windows.to(ranks.device))
        loss, result = _result(logits[:, 1] - logits[:, 0], labels.to(ranks.device))
        training.step(loss * (ranks.size / len(chosen)), _GRADIENT_LIMIT, _learning_rate(config, done + step, total))
        totals += result
    loss_sum, right = ranks.sum(totals).tolist()
    return loss_sum / len(order), right / len(order)


def _ways(number: int, rng: torch.Generator) -> Int[np.ndarray, " n"]:
    """Return for each window of a batch in which of eight ways to turn it: an eighth of them in each."""
    return torch.randperm(8, generator=rng).numpy().repeat(-(-number // 8))[:number]


def _turn(windows: Float[np.ndarray, "n side side"], ways: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n side side"]:
    """Return the windows, each turned and mirrored in one of eight ways."""
    turned = np.empty(windows.shape, dtype=np.float32)
    for way in set(ways.tolist()):
        mine = ways == way
        part = windows[mine]
        turned[mine] = np.rot90(part[:, ::-1] if way >= 4 else part, way % 4, (1, 2))
    return turned


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
