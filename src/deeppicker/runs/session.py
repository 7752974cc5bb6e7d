"""What the steps of a run share, and how they pick: into an open folder, by workers, telling a listener."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeppicker.config import RunConfig, SelectConfig
from deeppicker.core import MicrographEntry
from deeppicker.device import Place, settle
from deeppicker.errors import FormatError
from deeppicker.formats.names import unusable
from deeppicker.formats.provenance import record_inputs
from deeppicker.formats.recorded import Recorded
from deeppicker.networks.model import Model, load_model
from deeppicker.parallel.jobs import Mapper, here
from deeppicker.parallel.pool import Pool, open_pool
from deeppicker.runs.events import Listener, Message, Picked, Warned
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.pick_job import Picker, PickJob, Source, pick_into
from deeppicker.runs.results import Row
from deeppicker.runs.state import writing


@dataclass(frozen=True)
class Session:
    """Where a run writes, its settings, its workers, who is told what happens, and where networks compute."""

    output: Path
    config: RunConfig
    pool: Pool
    listener: Listener
    device: str = "cpu"

    @property
    def source(self) -> Source:
        """How the micrographs are read."""
        return Source(self.config.subject.pixel_size, self.config.subject.invert)

    def load_model(self) -> Model:
        """Return the model that is asked for, used where this run computes."""
        return load_model(self.config.subject.model).on(self.device)

    def earlier_diameter(self) -> float | None:
        """Return the diameter in Å of the picks that the folder holds, if they are to be kept."""
        try:
            return Recorded(self.output).diameter if self.output.is_dir() and not self.config.overwrite else None
        except FormatError:
            return None  # the records tell whether they were made with the diameter that is found then

    def warn(self, text: str) -> None:
        """Tell the listener something that people should know."""
        self.listener(Warned(text))

    def begin(self, model: Model, diameter: float, select: SelectConfig, *, again: bool = False) -> Picking:
        """Open the run folder for what a model finds of particles of a diameter in Å.

        Parameters
        ----------
        model, diameter, select
            All that the folder is about besides the settings.
        again : bool
            Start the folder again, although it may hold picks that were made in another way.

        Raises
        ------
        InputError
            If the folder holds picks made in another way.
        """
        picker = Picker(model, diameter, self.source, self.config.steps)
        overwrite = self.config.overwrite or again
        workers = self.pool.mapper if self.pool.local else here  # those of a cluster may be long in coming
        folder = RunFolder(self.output, picker.settings(), select, overwrite=overwrite, tell=self.warn, workers=workers)
        job = PickJob(picker, folder.results.resolved(), self.pool.threads)
        return Picking(self, folder, self.pool.mapper(job))


@dataclass(frozen=True)
class Picking:
    """An open run folder, and what picks a micrograph into it."""

    session: Session
    folder: RunFolder
    mapper: Mapper[MicrographEntry]

    def record_inputs(self, inputs: Sequence[str]) -> None:
        """Record what is picked, after what other commands picked into the folder."""
        with writing(self.folder.folder, self.folder.results.generation, shared=False):
            record_inputs(self.folder.folder, inputs, self.session.warn)

    def finish(self, names: Sequence[str]) -> None:
        """Select the picks of the folder, and warn of micrographs that have changed since they were picked."""
        self.folder.finish(names)
        changed = self.folder.changed_since(names)
        if changed is not None:
            self.session.warn(changed)

    def pick(self, entries: Iterable[MicrographEntry]) -> Iterator[Row]:
        """Pick micrographs; tell and yield what became of each."""
        bad: list[tuple[str, str]] = []
        reachable = self.session.pool.reachable(_usable(entries, bad))
        for row in pick_into(self.folder, self.mapper, reachable, self.session.config.work.retries):
            self.session.listener(Picked(row))
            yield row
        for name, reason in bad:
            row = self.folder.fail(name, reason, 0.0)
            self.session.listener(Picked(row))
            yield row


def spread(entries: Sequence[MicrographEntry], number: int) -> list[MicrographEntry]:
    """Return at most so many micrographs, evenly spread over all."""
    return [entries[place] for place in np.unique(np.linspace(0, len(entries) - 1, number).round().astype(int))]


def _usable(entries: Iterable[MicrographEntry], bad: list[tuple[str, str]]) -> Iterator[MicrographEntry]:
    """Yield the micrographs after which files can be named; note why not after the others."""
    for entry in entries:
        reason = unusable(entry.name)
        if reason is None:
            yield entry
        else:
            bad.append((entry.name, reason))


@contextmanager
def open_session(output: Path, config: RunConfig, items: int, listener: Listener) -> Iterator[Session]:
    """Provide workers for a number of items, as long as the context lasts.

    Raises
    ------
    InputError
        If a cluster or the device that is asked for cannot be reached or used.
    """

    def say(text: str) -> None:
        listener(Message(text))

    place = _place(config)
    with open_pool(config.work, config.cluster, items, output, say, most=place.workers) as pool:
        workers = f", {pool.number} workers" if pool.number > 1 else ""
        say(f"computing {place}{workers}")
        yield Session(output, config, pool, listener, place.device)


def _place(config: RunConfig) -> Place:
    """Return where this run computes; on other machines, each worker finds out for itself."""
    wanted = config.device.device
    if config.cluster.cluster in (None, "local"):
        return settle(wanted)
    return Place(wanted, "the workers of the cluster")
