"""The job that learns some micrographs of a run, and the one that tries whether they can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

from deeppicker.config import PrepareConfig, SelfTrainConfig
from deeppicker.core import Micrograph, MicrographEntry
from deeppicker.formats.fingerprint import Fingerprint
from deeppicker.networks.model import Model, weights_digest
from deeppicker.picking.prepare import working_scale
from deeppicker.runs.pick_job import Source
from deeppicker.training.self_train import Learnt, State, learn_from_picks
from deeppicker.training.self_train_file import load_rounds, save_rounds


@dataclass(frozen=True)
class TryJob:
    """Reads a micrograph, whose particles have a diameter in Å; ends in a DeepPickerError if it cannot be used."""

    source: Source
    diameter: float
    prepare: PrepareConfig

    def __call__(self, entry: MicrographEntry) -> None:
        """Do so."""
        working_scale(self.source.load(entry), self.diameter, self.prepare)


@dataclass(frozen=True)
class LearnJob:
    """Learns some micrographs. May be sent to another process or machine that sees the same files.

    Parameters
    ----------
    model : Model
        The model to start from.
    diameter : float
        Å.
    source : Source
        How the micrographs are read.
    method : SelfTrainConfig
        Settings.
    rounds : Path
        File that keeps the rounds until now, so that learning goes on after an interruption.
    """

    model: Model
    diameter: float
    source: Source
    method: SelfTrainConfig
    rounds: Path

    def __call__(
        self, entries: tuple[MicrographEntry, ...], progress: Callable[[float], None] = lambda _: None
    ) -> Learnt:
        """Return what was learnt."""
        micrographs = _Loaded(entries, self.source)
        subject = {
            "weights": weights_digest(self.model),
            "diameter": self.diameter,
            "method": asdict(self.method),
            "source": asdict(self.source),
            "micrographs": [[asdict(Fingerprint.of(entry.path)), entry.pixel_size] for entry in entries],
        }

        def keep(state: State) -> None:
            save_rounds(state.rounds, subject, self.rounds)

        earlier = load_rounds(self.rounds, subject, self.model)
        return learn_from_picks(self.model, micrographs, self.diameter, self.method, progress, keep, earlier)


class _Loaded(Sequence[Micrograph]):
    """Micrographs that are read whenever they are asked for, so that one at a time is in memory."""

    def __init__(self, entries: Sequence[MicrographEntry], source: Source) -> None:
        self._entries, self._source = entries, source

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Micrograph: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Micrograph]: ...

    def __getitem__(self, index: int | slice) -> Micrograph | Sequence[Micrograph]:
        if isinstance(index, slice):
            return _Loaded(self._entries[index], self._source)
        return self._source.load(self._entries[index])
