"""Tensors and a description in one safetensors file, with a checksum of both, so that damage is noticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from deeppicker.errors import FormatError
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.sealed import checksum, parse_json

_CHECKSUM = "checksum"


def save_tensors(path: Path, key: str, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a file; whole or not at all, and on the disk when this returns.

    Parameters
    ----------
    path : Path
        The file.
    key : str
        By which the description is found, and what kind of file it is.
    about : mapping
        The description (JSON values).
    tensors : mapping of str to Tensor
        By name.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({**about, _CHECKSUM: _checksum(about, stored)})
    atomic_write(path, save(stored, metadata={key: text}), durable=True)


def load_tensors(path: Path, key: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the description and the tensors of a file that `save_tensors` wrote, or another program without checksum.

    Raises
    ------
    FormatError
        If it is none, or damaged; the message does not name the file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = parse_json(metadata[key])
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise FormatError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if not isinstance(about, dict):
        raise FormatError("its description is not a mapping")
    if about.pop(_CHECKSUM, None) not in (None, _checksum(about, tensors)):
        raise FormatError("it is damaged: its checksum does not fit")
    return about, tensors


def _checksum(about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    parts = [json.dumps(about, sort_keys=True).encode()]
    for name, tensor in sorted(tensors.items()):
        content = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), content]
    return checksum(*parts)
