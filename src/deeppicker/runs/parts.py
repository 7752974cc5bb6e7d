"""What is done with many micrographs of a run folder, by processes that each take some at a time. No torch.

When a run begins and when it ends, those that pick have nothing else to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool

from deeppicker.config import SelectConfig
from deeppicker.errors import DeepPickerError
from deeppicker.parallel.jobs import Job, Workers, here
from deeppicker.runs.results import Record, Results, Stamp, selected
from deeppicker.runs.selection import Scores

_TOGETHER = 50  # micrographs
_FEW = 1000  # micrographs, which are done before other processes have started


@dataclass(frozen=True)
class Check:
    """Reads the records of some micrographs and compares them with the files; see `Results.checked`."""

    results: Results
    before: Mapping[str, str]

    def __call__(self, keys: Sequence[str]) -> list[tuple[str, Stamp | None, Record | None, Record | None]]:
        """Return of each key the stamp of its files, the record, and what of it is right."""
        return [self._checked(key) for key in keys]

    def _checked(self, key: str) -> tuple[str, Stamp | None, Record | None, Record | None]:
        stamp = self.results.stamp(key)  # first, so that what changes meanwhile is noticed later
        record = self.results.read_record(key)
        ours = record is not None and record.settings == self.results.settings
        return key, stamp, record, self.results.checked(record, self.before.get(key)) if record and ours else None


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


def in_parts(workers: Workers, job: Job, items: Sequence[Any]) -> list[Any]:
    """Return what a job returns for all items, given some at a time.

    Raises
    ------
    DeepPickerError
        If it fails in this process too, where a part that failed is tried again.
    """
    parts = [(start, items[start : start + _TOGETHER]) for start in range(0, len(items), _TOGETHER)]
    done = {}
    for (start, part), outcome in (here if len(items) <= _FEW else workers)(partial(_of_part, job))(parts):
        done[start] = job(part) if isinstance(outcome, DeepPickerError) else outcome
    return [one for start in sorted(done) for one in done[start]]


def _of_part(job: Job, part: tuple[int, Sequence[Any]]) -> Any:
    return job(part[1])
