"""The rounds of self-training in a file, from which an interrupted one goes on as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deeppicker.errors import FormatError
from deeppicker.networks.model import Model
from deeppicker.networks.tensor_file import load_tensors, save_tensors
from deeppicker.training.self_train import Round, Rounds
from deeppicker.training.short_training import network_copy

_METADATA_KEY = "deeppicker-self-training"


def save_rounds(rounds: Rounds, subject: Mapping[str, Any], path: Path) -> None:
    """Write the rounds until now; whole or not at all.

    Parameters
    ----------
    rounds : Rounds
        What to write.
    subject : mapping
        What is learnt from, and how (JSON values); nothing else may go on from the file.
    path : Path
        The file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    weights = {
        f"{half}.{name}": value
        for half, network in enumerate(rounds.networks)
        for name, value in network.state_dict().items()
    }
    about = {"subject": subject, "outcomes": [asdict(outcome) for outcome in rounds.outcomes]}
    save_tensors(path, _METADATA_KEY, about, weights)


def load_rounds(path: Path, subject: Mapping[str, Any], model: Model) -> Rounds | None:
    """Return the rounds that are done; None if there are none, or if they are of another subject.

    Parameters
    ----------
    path, subject
        As those of `save_rounds`.
    model : Model
        The model that learning starts from.
    """
    networks = [network_copy(model), network_copy(model)]
    try:
        about, weights = load_tensors(path, _METADATA_KEY)
        if about["subject"] != json.loads(json.dumps(subject)):
            return None
        for half, network in enumerate(networks):
            network.load_state_dict({name: weights[f"{half}.{name}"] for name in network.state_dict()})
        return Rounds(networks, tuple(Round(**outcome) for outcome in about["outcomes"]))
    except (FormatError, KeyError, TypeError, RuntimeError):
        return None
