"""Iterations of an interrupted classification, beside its output, so that the same command continues it."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from deeppicker.config import ClassifyConfig
from deeppicker.errors import OutputError
from deeppicker.formats.atomic import atomic_write
from deeppicker.particles.classify.em import Alignment, State
from deeppicker.particles.classify.windows import Windows

_ALIGNMENT = tuple(Alignment.__dataclass_fields__)


class Unfinished:
    """Keeps the last state of a classification; one of other particles or settings does not count.

    Parameters
    ----------
    output : Path
        Folder of the result.
    windows : Windows
        The particles.
    config : ClassifyConfig
        The settings.
    """

    def __init__(self, output: Path, windows: Windows, config: ClassifyConfig) -> None:
        digest = hashlib.sha256(json.dumps(asdict(config)).encode())
        for array in (windows.images, windows.group, windows.transfer):
            digest.update(np.ascontiguousarray(array).data)
        self._path, self._digest = _path(output), digest.hexdigest()

    def keep(self, state: State) -> None:
        """Store a state; a full disk costs no more than the chance to continue."""
        values = {name: getattr(state, name) for name in ("done", "averages", "noise", "handicap", "random")}
        alignment = {name: getattr(state.alignment, name) for name in _ALIGNMENT} if state.alignment else {}
        content = io.BytesIO()
        torch.save({"digest": self._digest, **values, "alignment": alignment}, content)
        with suppress(OutputError):
            atomic_write(self._path, content.getvalue())

    def state(self) -> State | None:
        """Return the state that was stored last, if there is one that counts."""
        try:
            values = torch.load(self._path, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            return None
        if not isinstance(values, dict) or values.pop("digest", None) != self._digest:
            return None
        return State(**values | {"alignment": Alignment(**values["alignment"])})


def forget(output: Path) -> None:
    """Remove what was stored for a folder."""
    with suppress(OSError):
        _path(output).unlink(missing_ok=True)


def _path(output: Path) -> Path:
    absolute = output.absolute()
    return absolute.with_name(f".{absolute.name}.unfinished")
