"""From what a model file says to a model: everything is checked before it is used, and what is wrong is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import torch

from deeppicker.config import PrepareConfig
from deeppicker.errors import FormatError, InputError
from deeppicker.networks.base import Network
from deeppicker.networks.calibration import Calibration
from deeppicker.networks.kinds import NETWORKS, network_class

_LARGEST = 1024  # that an argument of a network may be: channels, levels
_DIAMETERS = 1.0, 1e5  # Å
_MOST = 1e300  # that a number may be; whole numbers of JSON have no end
Numbers = TypeVar("Numbers", PrepareConfig, Calibration)


def network_of(description: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Network:
    """Return a network with its weights, ready for inference.

    Raises
    ------
    FormatError
        If the description or the weights are not those of a network; the message names the field.
    """
    kind, arguments = _text(description, "network"), _mapping(description, "arguments", {})
    if kind not in NETWORKS:
        raise FormatError(f"network is {kind!r}, not one of {', '.join(sorted(NETWORKS))}")
    for name, value in arguments.items():
        if not (_is_number(value) and isinstance(value, int) and 1 <= value <= _LARGEST):
            raise FormatError(f"arguments: {name} is {value!r}, not a whole number from 1 to {_LARGEST}")
    try:
        with torch.device("meta"):  # takes no memory, whatever the arguments are
            expected = network_class(kind)(**arguments).state_dict()
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise FormatError(f"arguments are {arguments}, with which there is no {kind} network ({error})") from error
    _check_weights(expected, weights)
    network = network_class(kind)(**arguments)
    network.load_state_dict(dict(weights))
    return network.train(False)


def prepare_of(description: Mapping[str, Any], network: Network) -> PrepareConfig:
    """Return the preparation (FormatError if it is none, or not that of the network)."""
    prepare = _numbers(PrepareConfig, _mapping(description, "prepare"), "prepare")
    if prepare.window != network.window:
        raise FormatError(f"prepare: window is {prepare.window}, where the network has {network.window}")
    return prepare


def calibration_of(description: Mapping[str, Any]) -> Calibration:
    """Return the calibration (FormatError if it is none)."""
    return _numbers(Calibration, _mapping(description, "calibration", {}), "calibration")


def diameter_of(description: Mapping[str, Any]) -> float | None:
    """Return the diameter in Å, if there is one (FormatError if it is none)."""
    value = description.get("diameter")
    least, most = _DIAMETERS
    if value is not None and not (_is_number(value) and least <= value <= most):
        raise FormatError(f"diameter is {value!r}, not a length from {least:g} to {most:g} Å")
    return None if value is None else float(value)


def info_of(description: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is said of the origin (FormatError if it is no mapping)."""
    return _mapping(description, "info", {})


def _check_weights(expected: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    missing, unknown = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or unknown:
        which = f"lack {missing[0]}" if missing else f"hold {unknown[0]}, which the network has not"
        raise FormatError(f"weights {which}")
    for name, tensor in weights.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            raise FormatError(
                f"weights: {name} is {_kind(tensor)}, where the network has {_kind(wanted)}"
            )  # fmt: skip
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FormatError(f"weights: {name} holds NaN or infinity")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise FormatError(f"weights: {name} holds a negative variance")


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _numbers(kind: type[Numbers], values: dict[str, Any], name: str) -> Numbers:
    known = {field.name: field.type for field in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise FormatError(f"{name} holds {key}, which this version does not know")
        if not _is_number(value) or (known[key] == "int" and not isinstance(value, int)):
            raise FormatError(f"{name}: {key} is {value!r}, not a {'whole ' * (known[key] == 'int')}number")
    numbers: dict[str, Any] = {key: value if known[key] == "int" else float(value) for key, value in values.items()}
    try:
        return kind(**numbers)
    except InputError as error:
        message = str(error)
        for key in known:  # these are no options here
            message = message.replace(f"--{key.replace('_', '-')} ", f"{key} ")
        raise FormatError(f"{name}: {message}") from error


def _text(description: Mapping[str, Any], name: str) -> str:
    value = description.get(name)
    if not isinstance(value, str):
        raise FormatError(f"{name} is {value!r}, not a text")
    return value


def _mapping(description: Mapping[str, Any], name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    value = description.get(name, default)
    if not isinstance(value, dict):
        raise FormatError(f"{name} is {value!r}, not a mapping")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MOST < value < _MOST
