"""What a run tells while it goes on: one function is called with each event. No torch.

The function decides what becomes of an event: the commands print it, an application may send it on, a script may pass
``print``. It is called in the thread of the run, between two micrographs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deeppicker.runs.results import Row

LOOKING, LEARNING_STEP, PICKING = "estimating the particle diameter", "learning the data set", "picking"
"""The steps of a run that take time."""


@dataclass(frozen=True)
class Message:
    """Something that people may want to know."""

    text: str


@dataclass(frozen=True)
class Warned:
    """Something that people should know, although the run goes on."""

    text: str


@dataclass(frozen=True)
class Progressed:
    """So many items of a step are done; the first event of a step says 0."""

    step: str
    done: int
    total: int


@dataclass(frozen=True)
class DiameterFound:
    """The particle diameter was estimated.

    Parameters
    ----------
    value, low, high : float
        The estimate and its 90 % interval, in Å.
    confidence : float
        Probability that it is within 15 %.
    micrographs : int
        By which it was estimated.
    """

    value: float
    low: float
    high: float
    confidence: float
    micrographs: int


@dataclass(frozen=True)
class Learned:
    """The run learnt its micrographs before picking, or did not.

    Parameters
    ----------
    summary : str
        What was learnt, or why nothing was, in one line.
    used : bool
        Whether what was learnt is used.
    before, after : int
        Number of picks in the micrographs that were learnt from.
    kept : float
        Fraction of the picks before that are picks after.
    """

    summary: str
    used: bool
    before: int
    after: int
    kept: float


@dataclass(frozen=True)
class Picked:
    """A micrograph was picked, or failed."""

    row: Row


@dataclass(frozen=True)
class ShardEnded:
    """A shard is done, and others are not: ``left`` of ``total`` micrographs."""

    shard: str
    left: int
    total: int


@dataclass(frozen=True)
class Totals:
    """Running totals of a data collection, since the run began."""

    micrographs: int
    failed: int
    waiting: int
    picks: int
    picks_per_micrograph: float | None
    mean_score: float | None
    expected_recall: float | None
    micrographs_per_hour: float


RunEvent = Message | Warned | Progressed | DiameterFound | Learned | Picked | ShardEnded | Totals
Listener = Callable[[RunEvent], None]


def ignore(_event: RunEvent) -> None:
    """Take no notice."""
