"""The state of a training run in a file, from which it goes on as if it had not been interrupted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from deeppicker.errors import FormatError
from deeppicker.networks.tensor_file import load_tensors, save_tensors
from deeppicker.training.loop import Epoch, Training

_METADATA_KEY = "deeppicker-training"


def save_checkpoint(training: Training, path: Path) -> None:
    """Write the state of a training run; whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    tensors = {
        f"{group}.{name}": value
        for group, values in (
            ("network", training.network.state_dict()),
            ("optimizer", _optimizer_state(training)),
            ("best", training.best),
        )
        for name, value in values.items()
    }
    state = {"fingerprint": training.fingerprint, "history": [asdict(epoch) for epoch in training.history]}
    save_tensors(path, _METADATA_KEY, state, tensors)


def resume_checkpoint(training: Training, path: Path) -> bool:
    """Continue from a checkpoint if it belongs to the same data and settings; return whether it did."""
    try:
        state, tensors = load_tensors(path, _METADATA_KEY)
    except FormatError:
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
