"""What stands beside coordinates: the files of a run folder by name, and what a run or a data set recorded.

`deeppicker pick` leaves a run folder and its ``run.json``; a published or simulated data set has a ``dataset.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deeppicker.core import micrograph_key
from deeppicker.errors import FormatError
from deeppicker.formats.sealed import read_json
from deeppicker.formats.text import one_line

RUN, DATASET = "run.json", "dataset.json"
AUTOPICK, SUMMARY, STATUS = "autopick.star", "summary.csv", "status.json"
TABLES = (AUTOPICK, "particles.star")
"""Tables that speak for a folder of coordinates, the first that is there."""
INPUTS = "inputs.json"  # what the run was given to pick
LEARNING, LEARNT = "learning.json", "learnt.safetensors"  # what came of learning before picking; the model learnt
COMING = ".learnt.safetensors"  # the model learnt, until what came of learning is written
ROUNDS = ".learning.rounds"  # what a learning goes on from that was interrupted
PICKS_SUFFIX = "_autopick.star"
PICKS, CANDIDATES, JUNK, RECORD = (
    f"{{}}{PICKS_SUFFIX}",
    "candidates/{}_candidates.star",
    "junk/{}_junk.png",
    "records/{}.json",
)
"""Where the files of a micrograph lie in a run folder, by its key; the picks first, since they mark it as done."""
SELECT, THRESHOLD, CHOSEN_OF = "select", "threshold", "threshold_of"  # keys of run.json that new picks may change
GENERATION = ".generation"  # file that tells which commands may write, see `runs.state`
SELECTING = ".selecting"  # what the picks were before a selection that is under way
FILES = (RUN, AUTOPICK, SUMMARY, STATUS, INPUTS, LEARNING, LEARNT, COMING, ROUNDS, GENERATION, SELECTING)
"""Files of a whole run folder."""
DATASET_DIAMETER = "particle_diameter_angstrom"  # key of dataset.json


def file_of(folder: Path, kind: str, name: str) -> Path:
    """Return a file of a micrograph in a run folder; ``kind`` is one of the patterns of this module."""
    return folder / kind.format(micrograph_key(name))


def list_of(coordinates: Path) -> Path:
    """Return the file that names the micrographs: the list of a folder of coordinates, or the coordinate file."""
    if not coordinates.is_dir():
        return coordinates
    tables = [coordinates / name for name in TABLES]
    return next((table for table in tables if table.is_file()), tables[0])


@dataclass(frozen=True)
class Recorded:
    """What is recorded beside coordinates.

    The files are read when a value is first asked for, so that an option can stand in for a broken one. Each property
    is None (or False) if nothing is recorded, and raises FormatError if the file or its value cannot be used.

    Parameters
    ----------
    coordinates : Path
        A file of coordinates, or a folder of them.
    """

    coordinates: Path

    @property
    def folder(self) -> Path:
        """The folder of the coordinates."""
        return self.coordinates if self.coordinates.is_dir() else self.coordinates.parent

    @property
    def diameter(self) -> float | None:
        """Particle diameter in Å, of the run or else of the data set."""
        of_run = self._length(RUN, self._run, "diameter", "--diameter")
        return of_run if of_run is not None else self._length(DATASET, self._dataset, DATASET_DIAMETER, "--diameter")

    @property
    def pixel_size(self) -> float | None:
        """Å per pixel, if it was set for the run."""
        return self._length(RUN, self._run, "pixel_size", "--pixel-size")

    @property
    def invert(self) -> bool:
        """Whether the run took the particles to be bright."""
        return bool(self._run.get("invert"))

    @property
    def threshold(self) -> float | None:
        """Score that tells the picks of a finished run from its other candidates, given or chosen for the run.

        None if that is not all that tells them apart: a number of picks was asked for, a filter keeps candidates out,
        or the selection is not done.
        """
        select = self._run.get(SELECT)
        others = {"num_particles": 0, **select} if isinstance(select, dict) else {"all": 0}
        if any(value is not None for key, value in others.items() if key != THRESHOLD):
            return None
        value = self._run.get(THRESHOLD)  # that in ``select`` is None when it was chosen for the run
        if value is not None and not _is_number(value):
            raise FormatError(f"{self.folder / RUN} has {THRESHOLD} {value!r}, which is not a score; remove the file")
        return value

    @cached_property
    def _run(self) -> Mapping[str, Any]:
        return _content(self.folder / RUN)

    @cached_property
    def _dataset(self) -> Mapping[str, Any]:
        return _content(self.folder / DATASET)

    def _length(self, name: str, content: Mapping[str, Any], key: str, option: str) -> float | None:
        value = content.get(key)
        if value is None:
            return None
        if not _is_number(value) or not value > 0:
            raise FormatError(
                f"{name} beside {self.coordinates} has {key} {value!r}, which is not a length; set {option}"
            )
        return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _content(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_json(path)
    except (OSError, FormatError) as error:
        message = f"{path} cannot be read ({error}); remove it, or set --diameter and --pixel-size"
        raise FormatError(one_line(message)) from error
