"""The networks, and Model: weights together with the preparation they were trained with; saving and loading."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from deeppicker.config import DEFAULT_MODEL, PrepareConfig
from deeppicker.errors import FormatError, InputError
from deeppicker.formats.atomic import atomic_write

_METADATA_KEY = "deeppicker"


@runtime_checkable
class Network(Protocol):
    """What the pipeline needs of a network: its window, how to train it and how to sweep it. An ``nn.Module``."""

    window: int

    def windows(self, windows: Float[torch.Tensor, "n window window"]) -> Float[torch.Tensor, " n"]:
        """Return the log-odds that each window is centred on a particle."""
        ...

    def sweep(self, image: Float[torch.Tensor, "height width"], step: int) -> Float[torch.Tensor, "rows columns"]:
        """Return the log-odds of every window of the image, ``step`` pixels apart, the first at its corner."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the trainable weights."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Return the trainable weights with their names."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return all weights by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> object:
        """Take over all weights by name."""
        ...

    def train(self, mode: bool = True) -> object:
        """Switch dropout on (or off)."""
        ...


class PaperNetwork(nn.Module):
    """The network of Section 4.2: four convolutions with ReLU and max-pooling, two fully-connected layers.

    Kernel sizes and channels (9×9×8, 5×5×16, 3×3×32, 2×2×64, then 256-128-2; 49,922 parameters) are those of the
    authors' later public code; the paper does not give them. Input: 64×64; output: log-probabilities of
    (background, particle) before the softmax.
    """

    window = 64

    def __init__(self) -> None:
        super().__init__()
        shapes = [(1, 8, 9), (8, 16, 5), (16, 32, 3), (32, 64, 2)]  # input channels, output channels, kernel
        self.convolutions = nn.ModuleList(nn.Conv2d(*shape) for shape in shapes)
        self.hidden = nn.Linear(256, 128)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(128, 2)

    def forward(self, windows: Float[torch.Tensor, "n 64 64"]) -> Float[torch.Tensor, "n 2"]:
        """Return the unnormalised log-probabilities of background and particle."""
        features = windows[:, None]
        for convolution in self.convolutions:
            features = functional.max_pool2d(convolution(features), 2).relu()  # the same as ReLU first, faster
        hidden = self.hidden(features.flatten(1)).relu()
        result: torch.Tensor = self.output(self.dropout(hidden))
        return result

    def windows(self, windows: Float[torch.Tensor, "n 64 64"]) -> Float[torch.Tensor, " n"]:
        """Return the log-odds of particle against background for each window."""
        logits = self.forward(windows)
        return logits[:, 1] - logits[:, 0]

    def sweep(self, image: Float[torch.Tensor, "height width"], step: int) -> Float[torch.Tensor, "rows columns"]:
        """Return the log-odds of all windows in one pass; equal to `windows` on each window by itself.

        A max-pooling keeps its stride of 2 as long as the result still holds every ``step``-th position; from there
        on it moves by single positions and what follows is dilated instead, so that no position is lost.
        """
        features = image[None, None]
        stride = dilation = 1
        for layer in self.convolutions:
            assert isinstance(layer, nn.Conv2d)
            features = functional.conv2d(features, layer.weight, layer.bias, dilation=dilation)
            if stride < step:
                features = functional.max_pool2d(features, 2).relu_()
                stride *= 2
            else:
                features = functional.max_pool2d(features, 2, stride=1, dilation=dilation).relu_()
                dilation *= 2
        kernel = self.hidden.weight.view(128, 64, 2, 2)
        hidden = functional.conv2d(features, kernel, self.hidden.bias, dilation=dilation).relu_()
        kernel = self.output.weight.view(2, 128, 1, 1)
        logits = functional.conv2d(hidden, kernel, self.output.bias)[0]
        return logits[1] - logits[0]


_NETWORKS: Mapping[str, type[Network]] = {"paper": PaperNetwork}


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
    """

    network: Network
    prepare: PrepareConfig = PrepareConfig()
    diameter: float | None = None
    info: Mapping[str, Any] = field(default_factory=dict)


def new_network(seed: int, kind: str = "paper") -> Network:
    """Return an untrained network whose weights depend on ``seed`` only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _NETWORKS[kind]()


def copy_network(network: Network) -> Network:
    """Return an independent network with the same weights."""
    return copy.deepcopy(network)


def save_model(model: Model, path: Path) -> None:
    """Write a model as safetensors, its description as JSON in the header; whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    description = {
        "network": next(kind for kind, cls in _NETWORKS.items() if isinstance(model.network, cls)),
        "prepare": asdict(model.prepare),
        "diameter": model.diameter,
        "info": dict(model.info),
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
    folder = Path(str(resources.files("deeppicker"))) / "models"
    return {path.stem: path for path in folder.glob("*.safetensors")}


def _describe(description: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Model:
    network = _NETWORKS[description["network"]]()
    network.load_state_dict(weights)
    network.train(False)
    return Model(
        network,
        PrepareConfig(**description["prepare"]),
        description["diameter"],
        description["info"],
    )
