"""The picks of a run folder selected anew, by processes that each take some micrographs at a time. No torch.

At the end of a run of many thousand micrographs, those that picked them have nothing else to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from deeppicker.config import SelectConfig
from deeppicker.errors import DeepPickerError
from deeppicker.parallel.jobs import Job, Mapper, here
from deeppicker.runs.results import Record, Results, selected
from deeppicker.runs.selection import Scores

_TOGETHER = 50  # micrographs, for which a process needs some tenths of a second
_FEW = 1000  # micrographs, which are done before other processes have started


@dataclass(frozen=True)
class ReadScores:
    """Reads the scores of some micrographs."""

    results: Results

    def __call__(self, names: Sequence[str]) -> list[Scores]:
        """Do so."""
        return list(map(self.results.read_scores, names))


@dataclass(frozen=True)
class WriteSelected:
    """Writes the picks of some micrographs where they are not those that their records tell of; returns the records."""

    results: Results
    select: SelectConfig

    def __call__(self, part: Sequence[tuple[Record, Bool[np.ndarray, " _"]]]) -> list[Record]:
        """Do so, given which candidates of each become picks."""
        return [self._written(*item) for item in part]

    def _written(self, before: Record, keep: Bool[np.ndarray, " n"]) -> Record:
        record, picks = selected(before, self.results.read(before.row.micrograph), keep, self.select)
        if record != before:
            self.results.write_selected(record, picks)
        return record


def in_parts(mapper: Callable[[Job], Mapper[Any]], job: Job, items: Sequence[Any]) -> Iterator[Any]:
    """Yield what a job returns for all items, given some at a time, in any order.

    Raises
    ------
    DeepPickerError
        If it fails in this process too, where a part that failed is tried again.
    """
    parts = [items[start : start + _TOGETHER] for start in range(0, len(items), _TOGETHER)]
    for part, outcome in (here if len(items) <= _FEW else mapper)(job)(parts):
        yield from job(part) if isinstance(outcome, DeepPickerError) else outcome
