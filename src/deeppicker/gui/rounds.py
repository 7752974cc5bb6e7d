"""Rounds of learning, and other jobs, in a run folder: where their files lie, and which of them is looked at.

Layout::

    DIR/rounds/current.json       the round whose picks were accepted, if any
    DIR/rounds/N/task.json        what the job was told
    DIR/rounds/N/job.json         how far it is, and what came of it
    DIR/rounds/N/model.safetensors
    DIR/rounds/N/picks/           a run folder of its own
    DIR/rounds/classify/          the files of the last classification; its result is in the run folder
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deeppicker.errors import FormatError
from deeppicker.formats import sealed
from deeppicker.formats.atomic import atomic_write, make_folder

TASK, JOB, MODEL, TRAIN, LOG, PICKS = "task.json", "job.json", "model.safetensors", "train.star", "log.txt", "picks"
_ROUNDS, _CURRENT = "rounds", "current.json"


def round_folder(base: Path, number: int) -> Path:
    """Return the folder of a round."""
    return base / _ROUNDS / str(number)


def classify_folder(base: Path) -> Path:
    """Return the folder of the job that classifies."""
    return base / _ROUNDS / "classify"


def rounds(base: Path) -> list[int]:
    """Return the numbers of all rounds, in order."""
    return sorted(int(path.name) for path in (base / _ROUNDS).glob("*") if path.name.isdecimal())


def current(base: Path) -> int | None:
    """Return the round that was accepted; None for the first picks."""
    number = read_json(base / _ROUNDS / _CURRENT).get("round")
    return number if isinstance(number, int) and (round_folder(base, number) / PICKS).is_dir() else None


def make_current(base: Path, number: int | None) -> None:
    """Make the picks of a round, or the first ones, those that are looked at."""
    make_folder(base / _ROUNDS)
    atomic_write(base / _ROUNDS / _CURRENT, json.dumps({"round": number}) + "\n")


def looked_at(base: Path) -> Path:
    """Return the run folder that is looked at."""
    number = current(base)
    return base if number is None else round_folder(base, number) / PICKS


def read_json(path: Path) -> dict[str, Any]:
    """Return an object from a file; an empty one if there is none."""
    try:
        return sealed.read_json(path)
    except (OSError, FormatError):
        return {}
