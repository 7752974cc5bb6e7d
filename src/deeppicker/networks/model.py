"""Model: weights together with the preparation they were trained with; saving and loading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from scipy.special import expit, logit

from deeppicker.config import DEFAULT_MODEL, PREPARATIONS, PrepareConfig
from deeppicker.errors import FormatError, InputError
from deeppicker.formats.atomic import atomic_write
from deeppicker.networks.base import NETWORKS, Network, kind_of, new_network

_METADATA_KEY = "deeppicker"
_LEAST = 1e-7  # closest that a score comes to 0 and 1 before its log-odds are taken
_FLATTEST = 0.2  # least slope on the log-odds
_FEW, _DOUBTFUL = 2.0, 0.1  # number and score of the candidates that the confidence starts from


@dataclass(frozen=True)
class Calibration:
    """What turns the scores of a network into probabilities, given the micrograph that they come from.

    With ``x``, the network's log-odds, and ``z``, those of the micrograph's `confidence`, the probability is that of
    the micrograph to hold particles at all, ``presence_slope·z + presence_offset``, times that of the candidate to be
    one of them, ``(slope + interaction·z)·x + offset + context·z``; both as log-odds. Where nothing in a micrograph
    convinces, weak candidates are noise; where much does, they are particles too. The network itself sees only a few
    diameters around.
    """

    slope: float = 1.0
    offset: float = 0.0
    context: float = 0.0
    interaction: float = 0.0
    presence_slope: float = 0.0
    presence_offset: float = 30.0  # certain

    def __call__(self, scores: Float[np.ndarray, " n"], confidence: float) -> Float[np.ndarray, " n"]:
        """Return probabilities for the scores (0-1) of a network in a micrograph of some confidence."""
        z = float(logit(confidence))
        x = logit(np.clip(scores, _LEAST, 1 - _LEAST))
        steepness = max(self.slope + self.interaction * z, _FLATTEST)  # the order of the candidates stays
        one = expit(steepness * x + self.offset + self.context * z)
        return np.asarray(one * expit(self.presence_slope * z + self.presence_offset))


def confidence(scores: Float[np.ndarray, " n"]) -> float:
    """Return how convincing the candidates of a micrograph are on average, weighted by their scores; 0-1.

    It starts from that of two doubtful candidates, so that a few do not say much.
    """
    return float(((scores**2).sum() + _DOUBTFUL * _FEW) / (scores.sum() + _FEW))


@dataclass(frozen=True)
class Model:
    """A trained network with everything that picking needs to repeat its training conditions.

    Parameters
    ----------
    network : Network
        The network, in evaluation mode.
    prepare : PrepareConfig
        The preparation with which it was trained.
    diameter : float or None
        Particle diameter in Å, if the model belongs to one molecule.
    info : mapping
        Where the model comes from: data sets, settings, seed, version. JSON values only.
    calibration : Calibration
        What turns the scores of the network into probabilities.
    """

    network: Network
    prepare: PrepareConfig = PrepareConfig()
    diameter: float | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration = Calibration()


def new_model(seed: int, kind: str = "paper") -> Model:
    """Return a model with an untrained network of a kind, and the preparation that the kind works with."""
    return Model(new_network(seed, kind), PREPARATIONS[kind])


def save_model(model: Model, path: Path) -> None:
    """Write a model as safetensors, its description as JSON in the header; whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    description = {
        "network": kind_of(model.network),
        "prepare": asdict(model.prepare),
        "diameter": model.diameter,
        "info": dict(model.info),
        "calibration": asdict(model.calibration),
    }
    weights = {name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}
    atomic_write(path, save(weights, metadata={_METADATA_KEY: json.dumps(description)}))


def load_model(name_or_file: str | Path = DEFAULT_MODEL) -> Model:
    """Read a model from a file, or one of those in the package by its name.

    Raises
    ------
    InputError
        If there is neither such a file nor such a name.
    FormatError
        If the file is not a DeepPicker model.
    """
    path = Path(name_or_file)
    if not path.is_file():
        shipped = shipped_models()
        if str(name_or_file) not in shipped:
            raise InputError(
                f"no model {str(name_or_file)!r}: neither a file nor one of the models in the package "
                f"({', '.join(sorted(shipped)) or 'none'}); set --model"
            )
        path = shipped[str(name_or_file)]
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _describe(json.loads(metadata[_METADATA_KEY]), weights)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(f"{path} is not a DeepPicker model ({reason}); train one with `deeppicker train`") from error


def shipped_models() -> dict[str, Path]:
    """Return the models in the package, by name."""
    folder = Path(str(resources.files("deeppicker.networks"))) / "weights"
    return {path.stem: path for path in folder.glob("*.safetensors")}


def _describe(description: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Model:
    network = NETWORKS[description["network"]]()
    network.load_state_dict(weights)
    network.train(False)
    return Model(
        network,
        PrepareConfig(**description["prepare"]),
        description["diameter"],
        description["info"],
        Calibration(**description.get("calibration", {})),
    )
