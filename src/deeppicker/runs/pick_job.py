"""The job that is done for every micrograph of a run, and that for those by which the diameter is estimated."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from deeppicker.config import DiameterConfig, PickConfig
from deeppicker.config.limits import positive
from deeppicker.core import Found, Micrograph, MicrographEntry, micrograph_key
from deeppicker.errors import DeepPickerError, InputError, OutputError
from deeppicker.formats import read_micrograph
from deeppicker.formats.recorded import PICKS_SUFFIX
from deeppicker.networks.model import Model
from deeppicker.parallel.processes import Each, each_again
from deeppicker.picking.diameter import Evidence, gather
from deeppicker.picking.pipeline import find
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.results import Results, Row

_HOPELESS = 20  # micrographs in a row that cannot be written, after which the others are not tried
_BLOCK = 1 << 20  # bytes


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
        micrograph = read_micrograph(entry.path, name=entry.name, pixel_size=size)
        return micrograph.inverted() if self.invert else micrograph


@dataclass(frozen=True)
class Task:
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
        digest = hashlib.sha256()
        for name, weight in sorted(self.model.network.state_dict().items()):
            digest.update(name.encode() + weight.numpy().tobytes())
        return {
            "diameter": self.diameter,
            "pixel_size": self.source.pixel_size,
            "weights": digest.hexdigest()[:16],
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
        micrograph = self.source.load(entry)
        return find(micrograph, self.model, self.diameter, self.steps), micrograph.image.shape


@dataclass(frozen=True)
class Request:
    """A micrograph to be picked, and the threshold by which its candidates are written as picks for now."""

    entry: MicrographEntry
    threshold: float


@dataclass(frozen=True)
class PickJob:
    """Picks a micrograph into a run folder. May be sent to another process or machine that sees the same files.

    Parameters
    ----------
    task : Task
        How micrographs are picked.
    results : Results
        Where the results go.
    threads : int
        Of PyTorch, 0 for those that it has; the result does not depend on it.
    """

    task: Task
    results: Results
    threads: int = 1

    def __call__(self, request: Request) -> Row:
        """Return what became of a micrograph; DeepPickerError if it cannot be picked or its files not written."""
        _use(self.threads)
        start = time.perf_counter()
        found, shape = self.task.find(request.entry)
        self.results.write_rejected(found, shape)
        return self.results.write(found.candidates, request.threshold, time.perf_counter() - start)


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
    folder: RunFolder, each: Each[Request], entries: Iterable[MicrographEntry], retries: int
) -> Iterator[Row]:
    """Pick micrographs into a run folder; yield what became of each, in the order in which they are finished.

    Parameters
    ----------
    folder : RunFolder
        Where the job of ``each`` writes.
    each : callable
        Does a `PickJob`.
    entries : iterable of MicrographEntry
        The micrographs.
    retries : int
        How often those are tried again that cannot be read or written, or whose worker is lost.

    Raises
    ------
    OutputError
        If one micrograph after the other cannot be written; else it costs only that one.
    """
    in_vain = 0
    requests = (Request(entry, folder.provisional) for entry in entries)
    for request, outcome in each_again(each, requests, retries):
        if not isinstance(outcome, DeepPickerError):
            in_vain = 0
            yield folder.record(outcome)
            continue
        in_vain = in_vain + 1 if isinstance(outcome, OutputError) else 0
        reason = str(outcome)
        name = request.entry.name
        yield folder.fail(name, reason if name in reason else f"{name}: {reason}", 0.0)
        if in_vain >= _HOPELESS:
            raise outcome


def read_ahead(entries: Iterable[MicrographEntry], number: int = 4) -> Iterator[MicrographEntry]:
    """Yield the entries, while the files of the next few are read in the background.

    They come into the memory in which the operating system keeps what it has read, so that no worker on this machine
    waits for the disk.
    """
    source, ahead = iter(entries), deque[MicrographEntry]()
    wanted, news, over = deque[MicrographEntry](), threading.Semaphore(0), threading.Event()

    def read() -> None:
        block = bytearray(_BLOCK)
        while news.acquire() and not over.is_set():
            try:
                with wanted.popleft().path.open("rb", buffering=0) as file:
                    while file.readinto(block) and not over.is_set():
                        pass
            except OSError:
                continue  # whoever needs it will say so

    # It may hang with the file system, and nobody minds.
    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    try:
        while True:
            while len(ahead) < number and (entry := next(source, None)) is not None:
                ahead.append(entry)
                wanted.append(entry)
                news.release()
            if not ahead:
                return
            yield ahead.popleft()
    finally:
        over.set()
        news.release()


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
                f"{seen[key]} and {entry.name} would both write {key}{PICKS_SUFFIX}; "
                "pick them into separate --output folders"
            )
        seen[key] = entry.name


def _use(threads: int) -> None:
    if threads and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
