"""A run folder checked, and its picks selected anew, by several processes: as by one, whatever becomes of these."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeppicker.config import SelectConfig
from deeppicker.core import Picks
from deeppicker.errors import OutputError, TransientError
from deeppicker.parallel.jobs import Job, Mapper, here
from deeppicker.parallel.processes import processes
from deeppicker.runs import parts
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.results import PICKS
from scenes import files_of

NAMES = [f"mics/{index}.mrc" for index in range(7)]
SELECTIONS = [
    SelectConfig(),
    SelectConfig(threshold=0.6),
    SelectConfig(num_particles=9),
    SelectConfig(min_contrast=0.4),
]


@pytest.fixture(autouse=True)
def _some_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "_TOGETHER", 2)
    monkeypatch.setattr(parts, "_FEW", 0)


def picked(folder: Path) -> RunFolder:
    opened = RunFolder(folder, {"diameter": 120.0}, SelectConfig(threshold=0.3))
    rng = np.random.default_rng(0)
    for name in NAMES:
        number = int(rng.integers(0, 9))
        places, scores = rng.uniform(0, 500, (number, 2)), rng.uniform(0, 1, number)
        opened.store(Picks(name, places, scores, rng.uniform(0, 1, number)).sorted(), 1.0)
    opened.finish(NAMES)
    return opened


def selected_by(folder: Path, selection: SelectConfig, workers: Any) -> dict[str, bytes]:
    """Return the files of a run folder after damage and another selection, but for those that always differ."""
    damaged = picked(folder).results.file(PICKS, NAMES[3])
    damaged.write_bytes(damaged.read_bytes() + b"\n")
    opened = RunFolder(folder, {"diameter": 120.0}, selection, workers=workers)
    assert [opened.is_done(name) for name in NAMES] == [name != NAMES[3] for name in NAMES]
    opened.finish(NAMES)
    different = ("run.json", "records/3.json")  # which name the folder, or what is drawn at random
    return {name: content for name, content in files_of(folder).items() if name not in different}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_several_processes_write_what_one_does(tmp_path: Path, selection: SelectConfig):
    before = files_of(picked(tmp_path / "before").folder)
    one = selected_by(tmp_path / "one", selection, here)
    with processes(2, 60.0) as workers:
        several = selected_by(tmp_path / "several", selection, workers)
    assert several == one
    assert {name: content for name, content in before.items() if name in one} != one


def test_a_part_that_a_process_does_not_do_is_done_here(tmp_path: Path):
    one = selected_by(tmp_path / "one", SELECTIONS[1], here)
    assert selected_by(tmp_path / "failing", SELECTIONS[1], _every_other_fails) == one


def test_a_process_that_ends_leaves_its_part_to_this_one():
    items = [os.getpid(), *range(6)]
    with processes(2, 60.0) as workers:
        assert sorted(parts.in_parts(workers, _ended_elsewhere, items)) == sorted(items)


def test_what_cannot_be_written_here_either_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened = picked(tmp_path)

    def full(*_: object) -> None:
        raise OutputError("no space left")

    monkeypatch.setattr(type(opened.results), "write_selected", full)
    with pytest.raises(OutputError, match="no space left"):
        RunFolder(tmp_path, {"diameter": 120.0}, SELECTIONS[1], workers=_every_other_fails).finish(NAMES)


def _every_other_fails(job: Job) -> Mapper[Any]:
    def mapped(items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for index, part in enumerate(items):
            yield part, TransientError("its worker process was ended") if index % 2 else job(part)

    return mapped


def _ended_elsewhere(part: list[int]) -> list[int]:
    """Return the part, but end a process other than the one whose number is its first item."""
    if part[0] > 6 and part[0] != os.getpid():
        os._exit(1)
    return part
