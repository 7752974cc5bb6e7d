"""Model: weights together with the preparation they were trained with; saving and loading."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from deeppicker.config import DEFAULT_MODEL, PrepareConfig
from deeppicker.device import torch_device
from deeppicker.errors import FormatError, InputError
from deeppicker.formats.room import refuse_special
from deeppicker.formats.text import is_file, one_line
from deeppicker.networks.base import Network
from deeppicker.networks.calibration import Calibration
from deeppicker.networks.described import calibration_of, diameter_of, info_of, network_of, prepare_of
from deeppicker.networks.kinds import NETWORKS, network_class
from deeppicker.networks.tensor_file import load_tensors, save_tensors

_METADATA_KEY = "deeppicker"


@dataclass(frozen=True)
class Model:
    """A trained network with everything that picking needs to repeat its training conditions.

    Parameters
    ----------
    network : Network
        The network, in evaluation mode, on the processor.
    prepare : PrepareConfig
        The preparation with which it was trained.
    diameter : float or None
        Particle diameter in Å, if the model belongs to one molecule.
    info : mapping
        Where the model comes from: data sets, settings, seed, version. JSON values only.
    calibration : Calibration
        What turns the scores of the network into probabilities.
    device : str
        Where it is used, as `deeppicker.device` writes it; not part of what is saved.
    """

    network: Network
    prepare: PrepareConfig = PrepareConfig()
    diameter: float | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration = Calibration()
    device: str = "cpu"

    def on(self, device: str) -> Model:
        """Return the model, used elsewhere: ``cpu``, ``auto``, ``cuda``, ``cuda:1`` or ``mps``."""
        return replace(self, device=device)

    @property
    def place(self) -> torch.device:
        """Where it is used in this process.

        Raises
        ------
        InputError
            If that is not there.
        """
        return torch_device(self.device)

    @cached_property
    def for_picking(self) -> Network:
        """The network as picking uses it, where it is used; see `Network.fused`."""
        return self.network.fused().to(self.place)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what another process makes by itself, where it computes."""
        return {name: value for name, value in self.__dict__.items() if name != "for_picking"}


def new_network(seed: int, kind: str = "paper", arguments: Mapping[str, Any] | None = None) -> Network:
    """Return an untrained network whose weights depend on ``seed`` only, in evaluation mode.

    Raises
    ------
    InputError
        If there is no such kind.
    """
    if kind not in NETWORKS:
        raise InputError(f"no network is called {kind!r}; set --network to {' or '.join(sorted(NETWORKS))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network_class(kind)(**(arguments or {})).train(False)


def weights_digest(model: Model) -> str:
    """Return a short checksum by which the weights of a model are recognised."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.network.state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()[:16]


def new_model(seed: int, kind: str = "paper") -> Model:
    """Return a model with an untrained network of a kind, and the preparation that the kind works with."""
    network = new_network(seed, kind)
    return Model(network, network.preparation)


def save_model(model: Model, path: Path) -> None:
    """Write a model as safetensors, its description as JSON in the header; whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    description = {
        "network": model.network.kind,
        "arguments": dict(model.network.arguments),
        "prepare": asdict(model.prepare),
        "diameter": model.diameter,
        "info": dict(model.info),
        "calibration": asdict(model.calibration),
    }
    save_tensors(path, _METADATA_KEY, description, model.network.state_dict())


def load_model(name_or_file: str | Path = DEFAULT_MODEL) -> Model:
    """Read a model from a file, or one of those in the package by its name.

    Raises
    ------
    InputError
        If there is neither such a file nor such a name.
    FormatError
        If the file is not a DeepPicker model.
    """
    path, shipped = Path(name_or_file), shipped_models()
    if str(name_or_file) in shipped and not is_file(path):
        path = shipped[str(name_or_file)]
    if not os.path.exists(path) or path.is_dir():  # noqa: PTH110 - Path.exists raises for names too long
        raise InputError(
            f"no model {str(name_or_file)!r}: neither a file nor one of the models in the package "
            f"({', '.join(sorted(shipped)) or 'none'}); set --model"
        )
    refuse_special(path)
    try:
        description, weights = load_tensors(path, _METADATA_KEY)
        network = network_of(description, weights)
        return Model(
            network,
            prepare_of(description, network),
            diameter_of(description),
            info_of(description),
            calibration_of(description),
        )
    except FormatError as error:
        message = f"{path} is not a DeepPicker model ({error}); copy it again, or train one with `deeppicker train`"
        raise FormatError(one_line(message)) from error


def shipped_models() -> dict[str, Path]:
    """Return the models in the package, by name."""
    folder = Path(str(resources.files("deeppicker.networks"))) / "weights"
    return {path.stem: path for path in folder.glob("*.safetensors")}
