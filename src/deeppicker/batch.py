"""The task that is repeated for every micrograph of a run, and the loop over them."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deeppicker.config import PickConfig
from deeppicker.core import Found, Micrograph, micrograph_key
from deeppicker.errors import DeepPickerError, InputError, OutputError
from deeppicker.formats import MicrographEntry, read_micrograph
from deeppicker.model import Model
from deeppicker.pick import find
from deeppicker.runs import Row, RunFolder


@dataclass(frozen=True)
class Task:
    """All that decides which candidates are found in a micrograph.

    Parameters
    ----------
    model : Model
        The network and its preparation.
    diameter : float
        Particle diameter in Å.
    pixel_size : float or None
        Å per pixel, over what the STAR file or the image header says.
    invert : bool
        Whether the particles are bright.
    steps : PickConfig
        Settings of the steps.
    """

    model: Model
    diameter: float
    pixel_size: float | None = None
    invert: bool = False
    steps: PickConfig = PickConfig()

    def __post_init__(self) -> None:
        for option, value in (("--diameter", self.diameter), ("--pixel-size", self.pixel_size)):
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{option} {value:g} is no length; set {option} to a positive number, in Å")

    def settings(self) -> dict[str, Any]:
        """Return a description by which a run folder recognises picks made in the same way."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.model.network.state_dict().items()):
            digest.update(name.encode() + weight.numpy().tobytes())
        return {
            "diameter": self.diameter,
            "pixel_size": self.pixel_size,
            "weights": digest.hexdigest()[:16],
            "calibration": asdict(self.model.calibration),
            "prepare": asdict(self.model.prepare),
            "invert": self.invert,
            "steps": asdict(self.steps),
        }

    def find(self, entry: MicrographEntry) -> tuple[Found, tuple[int, ...]]:
        """Return what is found in one micrograph, and the shape of that.

        Raises
        ------
        DeepPickerError
            If the micrograph cannot be read or used.
        """
        micrograph = load(entry, self.pixel_size, self.invert)
        return find(micrograph, self.model, self.diameter, self.steps), micrograph.image.shape


def load(entry: MicrographEntry, pixel_size: float | None, invert: bool) -> Micrograph:
    """Read a micrograph; a pixel size in Å that is given counts more than that of a STAR file or a header."""
    size = pixel_size if pixel_size is not None else entry.pixel_size
    micrograph = read_micrograph(entry.path, name=entry.name, pixel_size=size)
    return micrograph.inverted() if invert else micrograph


def pick_into(folder: RunFolder, task: Task, entries: Iterable[MicrographEntry]) -> list[Row]:
    """Pick the micrographs one after the other into a run folder; return the rows of those that failed.

    Raises
    ------
    OutputError
        If the folder cannot be written; a micrograph that cannot be used only fails itself.
    """
    failed = []
    for entry in entries:
        start = time.perf_counter()
        try:
            found, shape = task.find(entry)
        except OutputError:
            raise
        except DeepPickerError as error:
            failed.append(folder.fail(entry.name, str(error), time.perf_counter() - start))
        except MemoryError:
            reason = f"{entry.name}: not enough memory; check --diameter and --pixel-size, or set a smaller --tile"
            failed.append(folder.fail(entry.name, reason, time.perf_counter() - start))
        else:
            folder.store_rejected(found, shape)
            folder.store(found.candidates, time.perf_counter() - start)
    return failed


def refuse_twins(entries: Sequence[MicrographEntry]) -> None:
    """Check that no two micrographs have the same name, and so the same output file.

    Raises
    ------
    InputError
        If two have.
    """
    seen: dict[str, str] = {}
    for entry in entries:
        key = micrograph_key(entry.name)
        if key in seen:
            raise InputError(
                f"{seen[key]} and {entry.name} would both write {key}_autopick.star; "
                "pick them into separate --output folders"
            )
        seen[key] = entry.name
