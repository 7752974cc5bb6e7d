"""The benchmark of speed: its options, and the tables that are made from what it measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(autouse=True)
def _benchmarks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))


@pytest.fixture
def speed(_benchmarks: None) -> ModuleType:
    import speed

    return speed


def test_the_tables_of_speed_are_those_of_the_committed_numbers(speed: ModuleType, root: Path) -> None:
    results = root / "benchmarks" / "results"
    numbers = json.loads((results / "speed.json").read_text())
    assert (results / "speed.md").read_text() == speed.report(numbers)


def test_each_target_says_whether_it_is_reached_or_not_measured() -> None:
    from timing.targets import table

    started = {"help": {"wall": 0.2}, "pick": {"wall": 6.0}}
    lines = table({"start": started}).splitlines()
    assert "| `deeppicker --help` | ≤ 0.3 s | 0.2 s | hit |" in lines
    assert "| cold `deeppicker pick` of one micrograph | ≤ 5 s | 6 s | **missed** |" in lines
    assert "| 4096×4096, all steps, warm, two threads | ≤ 0.6 s | not measured | – |" in lines


def test_parts_are_chosen_by_name(speed: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.parse(["--only", "numbers,start"]).only == ["numbers", "start"]
    assert speed.parse([]).only == list(speed.PARTS)
    with pytest.raises(SystemExit):
        speed.parse(["--only", "letters"])
    assert "'letters' is none of start, stages" in capsys.readouterr().err


def test_what_a_command_takes_counts_all_its_processes() -> None:
    from timing.measure import run

    child = "x = b'x' * 100_000_000"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    cost = run([sys.executable, "-c", parent])
    assert 95 < cost.megabytes < 200
    assert cost.cpu > 0


def test_a_command_that_fails_ends_the_benchmark() -> None:
    from timing.measure import run

    with pytest.raises(SystemExit, match="no such thing"):
        run([sys.executable, "-c", "raise OSError('no such thing')"])
