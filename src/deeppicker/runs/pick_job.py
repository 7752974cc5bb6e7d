"""The job that is done for every micrograph of a run, and that for those by which the diameter is estimated."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from deeppicker.config import DiameterConfig, PickConfig
from deeppicker.config.limits import positive
from deeppicker.core import Found, Micrograph, MicrographEntry
from deeppicker.errors import DeepPickerError, OutputError, OvertakenError
from deeppicker.formats import read_micrograph
from deeppicker.formats.fingerprint import Fingerprint
from deeppicker.networks.model import Model, weights_digest
from deeppicker.parallel.jobs import Mapper, with_retries
from deeppicker.picking.diameter import Evidence, gather
from deeppicker.picking.pipeline import find_in, make_ready
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.results import Record, Results, Row

_HOPELESS = 20  # micrographs in a row that cannot be written, after which the others are not tried


@dataclass(frozen=True)
class Source:
    """How the micrographs of a run are read.

    Parameters
    ----------
    pixel_size : float or None
        Å per pixel, over what the STAR file or the image header says.
    invert : bool
        Whether the particles are bright.
    """

    pixel_size: float | None = None
    invert: bool = False

    def __post_init__(self) -> None:
        positive(self, "pixel_size")

    def load(self, entry: MicrographEntry) -> Micrograph:
        """Read a micrograph."""
        size = self.pixel_size if self.pixel_size is not None else entry.pixel_size
        return read_micrograph(entry.path, name=entry.name, pixel_size=size, invert=self.invert)


@dataclass(frozen=True)
class Picker:
    """All that decides which candidates are found in a micrograph.

    Parameters
    ----------
    model : Model
        The network and its preparation.
    diameter : float
        Particle diameter in Å.
    source : Source
        How the micrographs are read.
    steps : PickConfig
        Settings of the steps.
    """

    model: Model
    diameter: float
    source: Source = Source()
    steps: PickConfig = PickConfig()

    def __post_init__(self) -> None:
        positive(self, "diameter")

    def settings(self) -> dict[str, Any]:
        """Return a description by which a run folder recognises picks made in the same way."""
        return {
            "diameter": self.diameter,
            "pixel_size": self.source.pixel_size,
            "weights": weights_digest(self.model),
            "calibration": asdict(self.model.calibration),
            "prepare": asdict(self.model.prepare),
            "invert": self.source.invert,
            "steps": asdict(self.steps),
        }

    def find(self, entry: MicrographEntry) -> tuple[Found, tuple[int, ...]]:
        """Return what is found in one micrograph, and the shape of that.

        Raises
        ------
        DeepPickerError
            If the micrograph cannot be read or used.
        """
        ready = make_ready(self.source.load(entry), self.model, self.diameter)  # whose image is let go here
        return find_in(ready, self.model, self.diameter, self.steps), ready.shape


@dataclass(frozen=True)
class PickJob:
    """Picks a micrograph into a run folder. May be sent to another process or machine that sees the same files.

    Parameters
    ----------
    picker : Picker
        How micrographs are picked.
    results : Results
        Where the results go.
    threads : int
        Of PyTorch, 0 for those that it has; the result does not depend on it.
    """

    picker: Picker
    results: Results
    threads: int = 1

    def __call__(self, entry: MicrographEntry) -> Record:
        """Return what became of a micrograph; DeepPickerError if it cannot be picked or its files not written."""
        _use(self.threads)
        start = time.perf_counter()
        source = Fingerprint.of(entry.path)
        found, shape = self.picker.find(entry)
        source.refuse_change(entry.path)
        return self.results.write(found, shape, source, time.perf_counter() - start)


@dataclass(frozen=True)
class LookJob:
    """Gathers from a micrograph what it says of the particle diameter; see `PickJob`."""

    model: Model
    config: DiameterConfig
    source: Source = Source()
    threads: int = 1

    def __call__(self, entry: MicrographEntry) -> Evidence:
        """Return the evidence; DeepPickerError if the micrograph cannot be used."""
        _use(self.threads)
        return gather(self.model, self.source.load(entry), self.config)


def pick_into(
    folder: RunFolder, mapper: Mapper[MicrographEntry], entries: Iterable[MicrographEntry], retries: int
) -> Iterator[Row]:
    """Pick micrographs into a run folder; yield what became of each, in the order in which they are finished.

    Parameters
    ----------
    folder : RunFolder
        Where the job writes.
    mapper : callable
        Does a `PickJob`.
    entries : iterable of MicrographEntry
        The micrographs.
    retries : int
        How often those are tried again that cannot be read or written, or whose worker is lost.

    Raises
    ------
    OutputError
        If one micrograph after the other cannot be written; else it costs only that one.
    OvertakenError
        If another command has started the folder again.
    """
    for entry, outcome in with_retries(_hopeful(mapper), entries, retries):
        if isinstance(outcome, OvertakenError):
            raise outcome
        if not isinstance(outcome, DeepPickerError):
            yield folder.record(outcome)
            continue
        reason = str(outcome)
        name = entry.name
        yield folder.fail(name, reason if name in reason else f"{name}: {reason}", 0.0)


def _hopeful(mapper: Mapper[MicrographEntry]) -> Mapper[MicrographEntry]:
    """Return the mapper such that it raises the last error when so many in a row cannot be written, retried or not."""

    def each(entries: Iterable[MicrographEntry]) -> Iterator[tuple[MicrographEntry, Any]]:
        in_vain = 0
        for entry, outcome in mapper(entries):
            yield entry, outcome
            in_vain = in_vain + 1 if isinstance(outcome, OutputError) else 0
            if in_vain >= _HOPELESS:
                raise outcome

    return each


def _use(threads: int) -> None:
    if threads and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
