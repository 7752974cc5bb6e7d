"""What an experiment found, kept on the disk, so that a study that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deeppicker.formats.atomic import atomic_path, atomic_write, make_folder


def checksum(*parts: object) -> str:
    """Return a short checksum of values that the json module can write."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def cached(path: Path, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what an earlier call with the same key computed, or compute it and write it, whole or not at all."""
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["key"] == key:
            return dict(known["value"])
    value = compute()
    make_folder(path.parent)
    atomic_write(path, json.dumps({"key": key, "value": value}, indent=1) + "\n")
    return dict(json.loads(json.dumps(value)))


def cached_array(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array in a file whose name tells of all that it depends on, or compute it and write it."""
    if not path.is_file():
        values = compute()
        make_folder(path.parent)
        with atomic_path(path) as new, new.open("wb") as file:
            np.save(file, values)
    return np.asarray(np.load(path))
