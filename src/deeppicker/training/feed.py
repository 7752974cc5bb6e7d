"""What the training loop asks of those who supply its batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from deeppicker.config import LearnConfig
from deeppicker.networks.batches import Batch
from deeppicker.networks.model import Model
from deeppicker.training.data import Dataset


@dataclass(frozen=True)
class Lesson:
    """What a model is to learn.

    Parameters
    ----------
    start : Model
        The model to start from.
    halves : sequence of (Dataset, Dataset)
        The part of each data set for training, and that for validation.
    config : LearnConfig
        Settings.
    """

    start: Model
    halves: Sequence[tuple[Dataset, Dataset]]
    config: LearnConfig


class Portion(NamedTuple):
    """The part of a batch that falls to this process, and the size of the whole batch."""

    batch: Batch
    whole: int


@runtime_checkable
class Feed(Protocol):
    """Batches for training and for validation."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, number: int) -> Iterator[Portion]:
        """Yield the batches of an epoch, counted from 0; the same whenever they are asked for."""
        ...

    def held(self) -> Iterator[Batch]:
        """Yield batches for validation, of which each process has others; the same after every epoch."""
        ...
