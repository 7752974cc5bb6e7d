"""What the steps of a run share, and how they pick: into an open folder, by workers, telling a listener."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deeppicker.config import RunConfig, SelectConfig
from deeppicker.core import MicrographEntry
from deeppicker.formats.recorded import Recorded
from deeppicker.networks.model import Model
from deeppicker.parallel.jobs import Mapper
from deeppicker.parallel.pool import Pool, open_pool
from deeppicker.runs.events import Listener, Message, Picked
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.pick_job import Picker, PickItem, PickJob, Source, pick_into
from deeppicker.runs.results import Row


@dataclass(frozen=True)
class Session:
    """Where a run writes, its settings, its workers, and who is told what happens."""

    output: Path
    config: RunConfig
    pool: Pool
    listener: Listener

    @property
    def source(self) -> Source:
        """How the micrographs are read."""
        return Source(self.config.subject.pixel_size, self.config.subject.invert)

    def earlier_diameter(self) -> float | None:
        """Return the diameter in Å of the picks that the folder holds, if they are to be kept."""
        return Recorded(self.output).diameter if self.output.is_dir() and not self.config.overwrite else None

    def begin(self, model: Model, diameter: float, select: SelectConfig) -> Picking:
        """Open the run folder for what a model finds of particles of a diameter in Å.

        Raises
        ------
        InputError
            If the folder holds picks made in another way.
        """
        picker = Picker(model, diameter, self.source, self.config.steps)
        folder = RunFolder(self.output, picker.settings(), select, overwrite=self.config.overwrite)
        job = PickJob(picker, folder.results.resolved(), self.pool.threads)
        return Picking(self, folder, self.pool.mapper(job))


@dataclass(frozen=True)
class Picking:
    """An open run folder, and what picks a micrograph into it."""

    session: Session
    folder: RunFolder
    mapper: Mapper[PickItem]

    def missing(self, entries: Iterable[MicrographEntry]) -> list[MicrographEntry]:
        """Return the micrographs that are not done."""
        return [entry for entry in entries if not self.folder.is_done(entry.name)]

    def pick(self, entries: Iterable[MicrographEntry]) -> Iterator[Row]:
        """Pick micrographs; tell and yield what became of each."""
        reachable = self.session.pool.reachable(entries)
        for row in pick_into(self.folder, self.mapper, reachable, self.session.config.work.retries):
            self.session.listener(Picked(row))
            yield row


@contextmanager
def open_session(output: Path, config: RunConfig, items: int, listener: Listener) -> Iterator[Session]:
    """Provide workers for a number of items, as long as the context lasts.

    Raises
    ------
    InputError
        If a cluster cannot be reached or used.
    """
    with open_pool(config.work, config.cluster, items, output, lambda text: listener(Message(text))) as pool:
        yield Session(output, config, pool, listener)
