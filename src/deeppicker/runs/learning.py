"""The step of a run that learns its micrographs before they are picked; what it learnt stays in the run folder.

``learning.json`` in the folder says what came of it, even if nothing was learnt. So a continued run, its shards and the
micrographs that arrive later all use the same model. During data collection, what was learnt from a few micrographs is
learnt again from many, and the folder starts again with the new model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from deeppicker.config import SelectConfig
from deeppicker.core import MicrographEntry
from deeppicker.errors import DeepPickerError, FormatError, InputError, OvertakenError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.lock import LOCK, locked
from deeppicker.formats.recorded import COMING, LEARNING, LEARNT, PICKS, ROUNDS, RUN
from deeppicker.formats.sealed import read_json, seal
from deeppicker.formats.text import one_line
from deeppicker.networks.model import Model, load_model, save_model, weights_digest
from deeppicker.runs.diameter import Size
from deeppicker.runs.events import LEARNING_STEP, Learned, Message, Progressed
from deeppicker.runs.learn_job import LearnJob, TryJob
from deeppicker.runs.session import Picking, Session, spread
from deeppicker.runs.state import generation_of, writing
from deeppicker.training.self_train import Learnt, can_learn

_STEPS = 100  # into which the progress is divided
_ENOUGH = 100  # micrographs: once it had so many to choose from, nothing is learnt again
_LARGER = 4  # times as many micrographs as usual may be looked at where picks are few
_GROWTH = 5  # times as many micrographs as before must be there to learn again


def begin_learnt(
    session: Session, model: Model, size: Size, entries: Sequence[MicrographEntry], select: SelectConfig
) -> Picking:
    """Open the folder of a run for the model that has learnt from its micrographs, or for the one it starts with.

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
    select : SelectConfig
        Which candidates become picks.
    """
    learnt = _learn_first(session, model, size, entries) if _may_learn(session, model, size) else model
    return session.begin(learnt, size.value, select, again=_replaced(session.output))


def begin_again(picking: Picking, model: Model, size: Size, entries: Sequence[MicrographEntry]) -> Picking | None:
    """Learn once more, and start the folder again with the new model; None if that is not due, or teaches nothing.

    It is due if several times as many micrographs are there as when it learnt the last time.

    Parameters
    ----------
    picking : Picking
        The folder, open.
    model, size, entries
        As those of `begin_learnt`.

    Raises
    ------
    OvertakenError
        If another command has started the folder again.
    """
    session = picking.session
    folder = session.output
    if not (_may_learn(session, model, size) and _due(folder, len(entries))):
        return None
    with _learning(session):
        known = read_json(folder / LEARNING, sealed=True)
        start = _start(session, model, size)
        if not _due(folder, len(entries)) or any(known[key] != value for key, value in start.items()):
            return None
        learnt = _learn(session, model, size.value, entries)
        with writing(folder, picking.folder.results.generation):
            if learnt is None or learnt.refusal:
                doubt = learnt.doubt if learnt else known.get("doubt", "")
                if doubt and doubt != known.get("doubt"):
                    session.warn(doubt)
                atomic_write(folder / LEARNING, seal({**known, "of": len(entries), "doubt": doubt}), durable=True)
                (folder / ROUNDS).unlink(missing_ok=True)
                return None
            _keep(folder, learnt, start, len(entries), replaces=known["learnt"] or known["start"])
    _tell(session, learnt)
    return session.begin(learnt.model, size.value, session.config.select, again=True)


def _may_learn(session: Session, model: Model, size: Size) -> bool:
    config = session.config.learning
    known = model.diameter is not None or "learnt" in model.info
    return size.seen and can_learn(model) and not (config.off or (config.learn == "auto" and known))


def _due(folder: Path, number: int) -> bool:
    """Return whether a folder has learnt from a few micrographs only, and so many are there now."""
    try:
        before = int(read_json(folder / LEARNING, sealed=True)["of"])
    except (OSError, KeyError, FormatError):
        return False
    return before < _ENOUGH and number >= _GROWTH * before


def _replaced(folder: Path) -> bool:
    """Return whether the picks in a folder are those of a model that was learnt anew."""
    try:
        replaced = read_json(folder / LEARNING, sealed=True)["replaces"]
        return bool(replaced) and read_json(folder / RUN)["weights"] == replaced
    except (OSError, KeyError, FormatError):
        return False


def _start(session: Session, model: Model, size: Size) -> dict[str, Any]:
    """Return what learning begins with; what was learnt serves for the same only."""
    method = asdict(session.config.learning.method)
    return {"start": weights_digest(model), "diameter": size.value, "method": method}


@contextmanager
def _learning(session: Session) -> Iterator[None]:
    """Let one command learn at a time."""
    lock = session.output / ".learning.lock"
    with locked(lock, waiting=lambda: session.warn("waiting for another command that learns this data set")):
        yield


def _learn_first(session: Session, model: Model, size: Size, entries: Sequence[MicrographEntry]) -> Model:
    folder = make_folder(session.output)
    with _learning(session):
        start = _start(session, model, size)
        if not session.config.overwrite:
            known = _known(folder, start, model)
            if known is not None:
                return known
            if _holds_picks(folder):
                return model
        before = generation_of(folder), _holds_picks(folder)
        learnt = _learn(session, model, size.value, entries)
        if learnt is None:  # the run says why, of each
            return model
        with locked(folder / LOCK):
            if (generation_of(folder), _holds_picks(folder)) != before:
                raise OvertakenError(
                    one_line(
                        f"another command began to pick into {folder} while this one learnt the data set; "
                        "repeat this command, or choose another --output"
                    )
                )
            _keep(folder, learnt, start, len(entries))
    _tell(session, learnt)
    return learnt.model


def _tell(session: Session, learnt: Learnt) -> None:
    session.listener(Learned(learnt.summary, learnt.refusal == "", learnt.before, learnt.after, learnt.kept))


def _learn(session: Session, model: Model, diameter: float, entries: Sequence[MicrographEntry]) -> Learnt | None:
    """Learn from a sample of the micrographs, a larger one if it holds too few picks; None if none can be read."""
    number = session.config.learning.method.micrographs
    learnt = _learn_sample(session, model, diameter, entries, number)
    if learnt is not None and number < learnt.needed <= min(_LARGER * number, len(entries)):
        learnt = _learn_sample(session, model, diameter, entries, learnt.needed)
    return learnt


def _learn_sample(
    session: Session, model: Model, diameter: float, entries: Sequence[MicrographEntry], number: int
) -> Learnt | None:
    """Learn from so many micrographs, evenly spread over all, as far as they can be used; None if none can."""
    for last in (False, True):
        sample = _usable(session, model, diameter, entries, number)
        try:
            return _learn_from(session, model, diameter, sample) if sample else None
        except DeepPickerError:  # a micrograph changed or vanished
            if last:
                raise
    raise AssertionError("either try returns or raises")


def _learn_from(session: Session, model: Model, diameter: float, sample: tuple[MicrographEntry, ...]) -> Learnt:
    """Learn from some micrographs, in this process or, where a cluster works, there."""
    rounds = (session.output / ROUNDS).absolute()
    method = session.config.learning.method
    if session.config.subject.diameter is not None:  # what is compact was measured at estimates
        method = replace(method, more_if_compact=method.more_if_doubtful)
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


def _usable(
    session: Session, model: Model, diameter: float, entries: Sequence[MicrographEntry], number: int
) -> tuple[MicrographEntry, ...]:
    """Return so many micrographs, evenly spread over all, without those that cannot be used, or read in time."""
    chosen = spread(entries, number)
    mapper = session.pool.mapper(TryJob(session.source, diameter, model.prepare))
    bad = {entry.name for entry, failure in mapper(session.pool.reachable(chosen)) if failure is not None}
    return tuple(entry for entry in chosen if entry.name not in bad)


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
        _tidy(folder, report["learnt"])
        learnt = load_model(folder / LEARNT).on(model.device)
        if weights_digest(learnt) != report["learnt"]:
            raise FormatError(one_line(f"{folder / LEARNT} is damaged"))
    except (OSError, KeyError, FormatError, InputError) as error:
        if not _holds_picks(folder):
            return None  # it is learnt again
        message = f"what {folder} had learnt is lost ({error}); set --overwrite to learn and pick again"
        raise FormatError(one_line(message)) from error
    return learnt


def _tidy(folder: Path, digest: str) -> None:
    """Give the model that the report names its place, and remove what led to it; a killed command may not have."""
    if _digest_of(folder / COMING) == digest:
        atomic_write(folder / LEARNT, (folder / COMING).read_bytes(), durable=True)
    for name in (COMING, ROUNDS):
        (folder / name).unlink(missing_ok=True)


def _digest_of(path: Path) -> str | None:
    """Return the checksum of the weights of a model, if it is there and whole."""
    try:
        return weights_digest(load_model(path))
    except (FormatError, InputError):
        return None


def _holds_picks(folder: Path) -> bool:
    return any(folder.glob(PICKS.format("*")))


def _keep(folder: Path, learnt: Learnt, start: dict[str, Any], of: int, replaces: str = "") -> None:
    """Write what was learnt: the report when the model is safe, which then takes the place of an earlier one.

    So the folder always holds a report with its model, whenever the command is killed; see `_tidy`.

    Parameters
    ----------
    folder : Path
        The run folder.
    learnt : Learnt
        What was learnt.
    start : dict
        With what it began.
    of : int
        Number of micrographs that were there.
    replaces : str
        The weights with which the folder was picked before, see `weights_digest`.
    """
    if not learnt.refusal:
        save_model(replace(learnt.model, info={**learnt.model.info, "learnt": start}), folder / COMING)
    report = {
        **start,
        "of": of,
        "replaces": replaces,
        "learnt": "" if learnt.refusal else weights_digest(learnt.model),
        "refusal": learnt.refusal,
        "doubt": learnt.doubt,
        "picks_before": learnt.before,
        "picks_after": learnt.after,
        "kept": round(learnt.kept, 4),
        "rounds": [asdict(item) for item in learnt.rounds],
    }
    atomic_write(folder / LEARNING, seal(report), durable=True)
    if learnt.refusal:
        (folder / LEARNT).unlink(missing_ok=True)
    _tidy(folder, report["learnt"])
