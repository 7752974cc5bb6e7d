"""Learn the data set from the program's own picks, without labels: the paper's iteration, made safe (Section 2.1).

Two networks, one for each half of the micrographs, learn from the better picks of their half as particles; lesser picks
are taken for unknown, and places without any candidate for background. Each then judges the half that it has not seen,
and its judgement makes the labels of the next round: no network confirms what it has learnt by heart. The result is the
mean of the weights of both networks and of the start, after the last round in which the halves agree and the number
of picks is plausible.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from deeppicker.config import PeaksConfig, PickConfig, SelfTrainConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.networks.calibration import Calibration, confidence
from deeppicker.networks.dense import DenseNetwork
from deeppicker.networks.model import Model
from deeppicker.picking.pipeline import find
from deeppicker.picking.threshold import SETTLED, choose_threshold
from deeppicker.training.prefetch import ahead
from deeppicker.training.self_train_checks import (
    better,
    compact,
    disagreement,
    doubtful,
    needed,
    spread_of,
    too_little,
    unlikely,
)
from deeppicker.training.sheets import load_sheet, target
from deeppicker.training.short_training import mean_of, network_copy, train_on_sheets

_ALL = PickConfig(peaks=PeaksConfig(floor=0.003))  # candidates that are looked at
_RAW = Calibration()  # leaves the scores as the network gives them
_JUDGE = (0.88, 1.48)  # slope and offset of the log-odds that a network which has learnt is right
RESULT = (1.13, 1.34)
"""Those of the mean of the start and what has learnt; both fitted to simulated sets only, see docs/decisions/0004."""

_CONTAMINATION = (
    "most picks look like contamination (compact and clear, but unlike known particles): "
    "check them with deeppicker view"
)
_SIDE_BY_SIDE = 2  # networks that learn, or micrographs that are looked at, at once: each in a thread of its own
_SAME = 0.3  # diameters; a pick this close to an earlier one is the same


@dataclass(frozen=True)
class Candidates:
    """The candidates of a micrograph.

    Parameters
    ----------
    raw, picks : Picks
        With the scores that the network gave, and with calibrated ones.
    near : float
        Pixels within which two positions are of the same particle.
    """

    raw: Picks
    picks: Picks
    near: float


@dataclass(frozen=True)
class Labels:
    """What is to be learnt in a micrograph: positions of particles, and of what may be particles or not."""

    sure: Float[np.ndarray, "n 2"]
    unknown: Float[np.ndarray, "m 2"]


@dataclass(frozen=True)
class Round:
    """What a round was taught and what came of it.

    Parameters
    ----------
    sure, unknown : int
        Number of picks that it learnt from, and of candidates that were left out of account.
    picks : int
        Number of picks that each network then makes of the half that it has not learnt from.
    agreement : float
        Fraction of the sure picks that are picked by the network of the other half.
    """

    sure: int
    unknown: int
    picks: int
    agreement: float


@dataclass(frozen=True)
class Rounds:
    """What learning goes on from if it was interrupted.

    Parameters
    ----------
    networks : sequence of DenseNetwork
        Those of the two halves of the micrographs; they change in the next round.
    outcomes : tuple of Round
        What came of each round until now.
    """

    networks: Sequence[DenseNetwork]
    outcomes: tuple[Round, ...]


@dataclass(frozen=True)
class State:
    """How far learning has come after a round.

    Parameters
    ----------
    model : Model
        The mean of the start and both networks.
    found : sequence of Candidates
        What each network finds in the micrographs that it has not learnt from, in their order.
    rounds : Rounds
        The networks, and what came of the rounds until now.
    """

    model: Model
    found: Sequence[Candidates]
    rounds: Rounds

    @property
    def round(self) -> Round:
        """The last round."""
        return self.rounds.outcomes[-1]


@dataclass(frozen=True)
class Learnt:
    """The outcome of self-training.

    Parameters
    ----------
    model : Model
        The model that has learnt, or else the one that it started from.
    refusal : str
        Why nothing was learnt; empty if something was.
    before, after : int
        Number of picks in the micrographs that were learnt from; after, by the network that has not learnt from them.
    kept : float
        Fraction of the picks before that are picks after.
    rounds : tuple of Round
        What happened in each, the last of which may have been discarded.
    needed : int
        Number of micrographs that would hold picks enough; 0 unless it is only their number that is too small.
    doubt : str
        Why the picks should be looked at; empty if there is no reason.
    """

    model: Model
    refusal: str
    before: int
    after: int
    kept: float = 1.0
    rounds: tuple[Round, ...] = ()
    needed: int = 0
    doubt: str = ""

    @property
    def summary(self) -> str:
        """One line for the user."""
        line = (
            f"learnt from the best of {self.before:,} picks: they became {self.after:,}, {self.kept:.0%} of them stayed"
        )
        if self.refusal:
            line = f"nothing was learnt from these micrographs: {self.refusal}"
        return f"{line}; {self.doubt}" if self.doubt else line


def can_learn(model: Model) -> bool:
    """Return whether a model can learn from its own picks: only one of the dense network can."""
    return isinstance(model.network, DenseNetwork)


def learn_from_picks(
    model: Model,
    micrographs: Sequence[Micrograph],
    diameter: float,
    config: SelfTrainConfig = SelfTrainConfig(),
    progress: Callable[[float], None] = lambda _: None,
    after_round: Callable[[State], None] = lambda _: None,
    earlier: Rounds | None = None,
) -> Learnt:
    """Return a model that has learnt from its own picks in some micrographs, or why it has not.

    The same micrographs in the same order give the same model.

    Parameters
    ----------
    model : Model
        Of the dense network.
    micrographs : sequence of Micrograph
        A sample of the data set; those at even and at odd places are the halves.
    diameter : float
        Of the particle, in Å.
    config : SelfTrainConfig
        Settings.
    progress : callable
        Told now and then which part, 0-1, is done.
    after_round : callable
        Told the state after each round, whether it is taken or not, but not if learning ends with a refusal.
    earlier : Rounds
        Those of the same learning, interrupted after them.
    """
    with one_thread_each():
        return _learn(model, micrographs, diameter, config, (progress, after_round), earlier)


def _learn(
    model: Model,
    micrographs: Sequence[Micrograph],
    diameter: float,
    config: SelfTrainConfig,
    tell: tuple[Callable[[float], None], Callable[[State], None]],
    earlier: Rounds | None,
) -> Learnt:
    progress, after_round = tell
    if len(micrographs) < 2:  # no half could judge the other, so there is no need to look
        return Learnt(model, "one micrograph is too few", 0, 0)
    start = _find_all([model], micrographs, diameter)
    before = _picked(start, model.calibration.caution)
    number = sum(map(len, before))
    refusal = too_little(before, config)
    if refusal:
        return Learnt(model, refusal, number, number, needed=needed(before, config))
    taught, doubt = better(before, config), ""
    if doubtful(taught, config):
        config = replace(config, rounds=config.rounds_if_doubtful, more=config.more_if_doubtful)
        if config.more_if_compact < config.more and compact(spread_of(model, micrographs, diameter, taught)):
            config, doubt = replace(config, fewer=0.0, more=config.more_if_compact), _CONTAMINATION
    learnt, rounds, refusal = None, tuple[Round, ...](), ""
    for state in learn_rounds(model, micrographs, diameter, start, config, progress, earlier):
        rounds = state.rounds.outcomes
        refusal = disagreement(state.round.agreement, config)
        if refusal:
            break
        refusal = unlikely(state.round.picks, number, config)
        if not refusal:
            learnt = state
        elif learnt is not None:  # until then, a later round may remove what the first one has added
            break
        after_round(state)  # not where learning ends: it goes on from a round before
    if learnt is not None and doubt:  # the result may pick more than the networks of the halves do
        found = _find_all([learnt.model], micrographs, diameter)
        refusal = unlikely(sum(map(len, _picked(found))), number, config)
        learnt = None if refusal else learnt
    if learnt is None:
        return Learnt(model, refusal, number, number, rounds=rounds, doubt=doubt)
    kept = _again(before, _picked(learnt.found), [item.near for item in start])
    return Learnt(learnt.model, "", number, learnt.round.picks, kept, rounds, doubt=doubt)


def learn_rounds(
    model: Model,
    micrographs: Sequence[Micrograph],
    diameter: float,
    found: Sequence[Candidates],
    config: SelfTrainConfig = SelfTrainConfig(),
    progress: Callable[[float], None] = lambda _: None,
    earlier: Rounds | None = None,
) -> Iterator[State]:
    """Yield the state after each round, whether it helps or not; see `learn_from_picks`.

    Parameters
    ----------
    found : sequence of Candidates
        What the model finds in the micrographs, from which the labels of the first round are made.
    earlier : Rounds
        Those that are done; the first state is that after the last of them.
    """
    sheets = [load_sheet(micrograph, model, diameter) for micrograph in micrographs]
    judge = replace(model, calibration=learnt_calibration(model.calibration, _JUDGE))
    result = replace(model, calibration=learnt_calibration(model.calibration, RESULT))
    networks: Sequence[DenseNetwork] = earlier.networks if earlier else (network_copy(model), network_copy(model))
    rounds = earlier.outcomes if earlier else ()
    steps, in_turn = itertools.count(1 + 2 * len(rounds) * config.steps), threading.Lock()

    def tell(_: float) -> None:
        with in_turn:  # of two networks
            progress(next(steps) / (2 * config.rounds * config.steps))

    def judged() -> list[Candidates]:
        return _find_all([replace(judge, network=network) for network in reversed(networks)], micrographs, diameter)

    def state() -> State:
        mean = mean_of((network_copy(model), *networks), config.start_share)
        return State(replace(result, network=mean.cpu()), found, Rounds(networks, rounds))

    scores = np.concatenate([item.scores for item in _picked(found, model.calibration.caution)])
    if rounds:
        found = judged()
        yield state()
    for index in range(len(rounds), config.rounds):
        number = config.sure_later * scores.sum() if index else config.sure * len(scores)
        labels = _labels(found, math.ceil(number), config.unknown_later if index else config.unknown)
        targets = [
            target(sheet, label.sure, label.unknown, model.prepare.diameter_pixels)
            for sheet, label in zip(sheets, labels, strict=True)
        ]
        lessons = [
            (network, sheets[half::2], targets[half::2], (config.seed, index, half))
            for half, network in enumerate(networks)
        ]
        list(ahead(lambda lesson: train_on_sheets(*lesson, config, tell), lessons, _SIDE_BY_SIDE))
        found = judged()
        rounds = (*rounds, _round(labels, found))
        yield state()


def learnt_calibration(start: Calibration, line: tuple[float, float]) -> Calibration:
    """Return the calibration of networks that have learnt from picks, given that of the network they started from.

    All of them are taught 0 and 1 in the same way, in micrographs of the kind that they judge, so one line serves
    all, and the average score of a micrograph says no more about each of its candidates. Whether there are particles
    at all is judged as before.
    """
    return replace(start, slope=line[0], offset=line[1], context=0.0, interaction=0.0, caution=SETTLED)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let PyTorch use one thread for each of those that run side by side.

    The steps are so small that more threads would mostly wait for each other; and so the result does not depend on the
    number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _find_all(models: Sequence[Model], micrographs: Sequence[Micrograph], diameter: float) -> list[Candidates]:
    """Return all candidates of the micrographs, which the models judge in turn."""

    def look(place: int) -> Candidates:
        return _find(models[place % len(models)], micrographs[place], diameter)

    return list(ahead(look, range(len(micrographs)), _SIDE_BY_SIDE))


def _find(model: Model, micrograph: Micrograph, diameter: float) -> Candidates:
    """Return all candidates of a micrograph."""
    found = find(micrograph, replace(model, calibration=_RAW), diameter, _ALL).candidates
    scores = model.calibration(found.scores, confidence(found.scores))
    return Candidates(found, replace(found, scores=scores), _SAME * diameter / micrograph.pixel_size)


def _picked(found: Sequence[Candidates], caution: float = SETTLED) -> list[Picks]:
    """Return the picks: candidates above the threshold that is chosen for all of them, gaps or not."""
    threshold = choose_threshold(np.concatenate([item.picks.scores for item in found]), caution, gaps=False)
    return [item.picks.where(item.picks.scores >= threshold) for item in found]


def _round(labels: Sequence[Labels], found: Sequence[Candidates]) -> Round:
    """Return the account of a round, given what the networks find in micrographs that they have not learnt from."""
    taught, picks = [Picks.unscored("", label.sure) for label in labels], _picked(found)
    sure, unknown = (sum(len(getattr(label, kind)) for label in labels) for kind in ("sure", "unknown"))
    agreement = _again(taught, picks, [item.near for item in found])
    return Round(sure, unknown, sum(map(len, picks)), agreement)


def _labels(found: Sequence[Candidates], number: int, unknown: float) -> list[Labels]:
    """Return as labels so many of the best candidates of all micrographs as sure, and the others as unknown."""
    scores = np.sort(np.concatenate([item.picks.scores for item in found]))[::-1]
    cut = float(scores[min(number, len(scores)) - 1]) if number and len(scores) else math.inf
    return [_divided(item.picks, cut, unknown) for item in found]


def _divided(picks: Picks, cut: float, unknown: float) -> Labels:
    good: Bool[np.ndarray, " n"] = picks.scores >= cut
    return Labels(picks.positions[good], picks.positions[~good & (picks.scores >= unknown)])


def _again(earlier: Sequence[Picks], later: Sequence[Picks], radii: Sequence[float]) -> float:
    """Return the fraction of earlier picks, over all micrographs, that have a later one close by."""
    close = [
        int((cKDTree(new.positions).query(old.positions)[0] <= radius).sum()) if len(new) and len(old) else 0
        for old, new, radius in zip(earlier, later, radii, strict=True)
    ]
    return float(sum(close) / max(1, sum(map(len, earlier))))
