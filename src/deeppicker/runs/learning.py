"""The step of a run that learns its micrographs before they are picked; what it learnt stays in the run folder.

``learning.json`` in the folder says what came of it, even if nothing was learnt. So a continued run, its shards and the
micrographs that arrive later all use the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from deeppicker.config import SelfTrainConfig
from deeppicker.core import Micrograph, MicrographEntry
from deeppicker.errors import DeepPickerError, FormatError, InputError, OvertakenError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.fingerprint import Fingerprint
from deeppicker.formats.lock import LOCK, locked
from deeppicker.formats.recorded import LEARNING, LEARNT, PICKS, ROUNDS
from deeppicker.formats.sealed import read_json, seal
from deeppicker.formats.text import one_line
from deeppicker.networks.model import Model, load_model, save_model, weights_digest
from deeppicker.runs.diameter import Size
from deeppicker.runs.events import LEARNING_STEP, Learned, Message, Progressed
from deeppicker.runs.pick_job import Source
from deeppicker.runs.session import Session
from deeppicker.runs.state import generation_of
from deeppicker.training.self_train import Learnt, State, can_learn, learn_from_picks
from deeppicker.training.self_train_file import load_rounds, save_rounds

_STEPS = 100  # into which the progress is divided


def learn_first(session: Session, model: Model, size: Size, entries: Sequence[MicrographEntry]) -> Model:
    """Return the model with which a run picks: that which has learnt from its micrographs, or the one it starts with.

    Parameters
    ----------
    session : Session
        The run. Nothing is learnt if its settings say so, if its folder holds picks made without learning, or if the
        model has learnt a data set already and no number of rounds is asked for.
    model : Model
        The model to start from.
    size : Size
        Particle diameter; where no particles are in sight, nothing is learnt.
    entries : sequence of MicrographEntry
        All micrographs that are there.
    """
    config = session.config.learning
    if config.off or not size.seen or not can_learn(model):
        return model
    if config.learn == "auto" and (model.diameter is not None or "learnt" in model.info):
        return model
    make_folder(session.output)
    lock = session.output / ".learning.lock"
    with locked(lock, waiting=lambda: session.warn("waiting for another command that learns this data set")):
        start = {"start": weights_digest(model), "diameter": size.value, "method": asdict(config.method)}
        if not session.config.overwrite:
            known = _known(session.output, start, model)
            if known is not None:
                return known
            if _holds_picks(session.output):
                return model
        sample = tuple(_readable(session.source, entries, config.method.micrographs))
        if not sample:  # the run says why, of each
            return model
        before = generation_of(session.output), _holds_picks(session.output)
        learnt = _learn(session, model, size.value, sample, config.method)
        with locked(session.output / LOCK):
            if (generation_of(session.output), _holds_picks(session.output)) != before:
                raise OvertakenError(
                    one_line(
                        f"another command began to pick into {session.output} while this one learnt the data set; "
                        "repeat this command, or choose another --output"
                    )
                )
            _keep(session.output, learnt, start)
    session.listener(Learned(learnt.summary, learnt.refusal == "", learnt.before, learnt.after, learnt.kept))
    return learnt.model


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


def _learn(
    session: Session, model: Model, diameter: float, sample: tuple[MicrographEntry, ...], method: SelfTrainConfig
) -> Learnt:
    """Learn from a sample of the micrographs, in this process or, where a cluster works, there."""
    rounds = (session.output / ROUNDS).absolute()
    job = LearnJob(model, diameter, session.source, method, rounds)
    if session.pool.local:
        session.listener(Progressed(LEARNING_STEP, 0, _STEPS))
        learnt = job(sample, lambda part: session.listener(Progressed(LEARNING_STEP, round(part * _STEPS), _STEPS)))
        session.listener(Progressed(LEARNING_STEP, _STEPS, _STEPS))
        return learnt
    session.listener(Message("learning the data set"))
    reachable = tuple(session.pool.reachable(sample))
    for _, outcome in session.pool.mapper(job)([reachable]):
        if isinstance(outcome, Learnt):
            return outcome
        raise outcome
    raise AssertionError("a job that is given one item has one outcome")


def _readable(source: Source, entries: Sequence[MicrographEntry], number: int) -> Iterator[MicrographEntry]:
    """Yield micrographs that can be read, as many as asked for if there are so many, evenly spread over all."""
    places = np.unique(np.linspace(0, len(entries) - 1, number).round().astype(int))
    for place in places:
        try:
            source.load(entries[place])
        except DeepPickerError:
            continue
        yield entries[place]


def _known(folder: Path, start: dict[str, Any], model: Model) -> Model | None:
    """Return the model that this run has used before, if it began in the same way.

    Raises
    ------
    FormatError
        If what was learnt cannot be read.
    """
    file = folder / LEARNING
    if not file.is_file():
        return None
    try:
        report = read_json(file, sealed=True)
        if any(report[key] != value for key, value in start.items()):
            return None
        if report["refusal"]:
            return model
        learnt = load_model(folder / LEARNT)
        if weights_digest(learnt) != report["learnt"]:
            raise FormatError(one_line(f"{folder / LEARNT} is damaged"))
    except (OSError, KeyError, FormatError, InputError) as error:
        if not _holds_picks(folder):
            return None  # it is learnt again
        message = f"what {folder} had learnt is lost ({error}); set --overwrite to learn and pick again"
        raise FormatError(one_line(message)) from error
    return learnt


def _holds_picks(folder: Path) -> bool:
    return any(folder.glob(PICKS.format("*")))


def _keep(folder: Path, learnt: Learnt, start: dict[str, Any]) -> None:
    """Write what was learnt, the report last."""
    if learnt.refusal:
        (folder / LEARNT).unlink(missing_ok=True)
    else:
        save_model(replace(learnt.model, info={**learnt.model.info, "learnt": start}), folder / LEARNT)
    report = {
        **start,
        "learnt": "" if learnt.refusal else weights_digest(learnt.model),
        "refusal": learnt.refusal,
        "picks_before": learnt.before,
        "picks_after": learnt.after,
        "kept": round(learnt.kept, 4),
        "rounds": [asdict(item) for item in learnt.rounds],
    }
    atomic_write(folder / LEARNING, seal(report), durable=True)
    (folder / ROUNDS).unlink(missing_ok=True)
