"""The benchmark of speed: its options, and the tables that are made from what it measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import scenes


@pytest.fixture(autouse=True)
def _benchmarks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))


@pytest.fixture
def speed(_benchmarks: None) -> ModuleType:
    import speed

    return speed


def test_the_tables_of_speed_are_those_of_the_committed_numbers(speed: ModuleType, root: Path) -> None:
    results = root / "benchmarks" / "results"
    assert (results / "speed.md").read_text() == speed.page(results)


def test_each_target_says_whether_it_is_reached_or_not_measured() -> None:
    from timing.targets import table

    started = {"help": {"wall": 0.2}, "pick": {"wall": 6.0}}
    lines = table({"start": started}).splitlines()
    assert "| `deeppicker --help` | ≤ 0.3 s | 0.2 s | hit |" in lines
    assert "| cold `deeppicker pick` of one micrograph | ≤ 1.5 s | 6 s | **missed** |" in lines
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


@pytest.mark.slow
def test_the_benchmark_of_a_card_runs_to_its_end_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu
    from timing.bench import Bench

    image = scenes.scene(0, shape=(400, 512)).micrograph.image
    monkeypatch.setattr(Bench, "_simulated", lambda _: np.pad(image, ((0, 1648), (0, 1536))))
    monkeypatch.setattr(gpu, "DIAMETER", 24 * 1.77)
    monkeypatch.setattr(gpu, "TOY", (512, 400))
    gpu.main(["--device", "cpu", "--toy", "--output", str(tmp_path / "gpu.json")])
    shown = capsys.readouterr().out
    assert shown.startswith("computing on the processor (as asked for)")
    assert "| scores of the same picks, largest difference | ≤ 0.001 | 0 | hit |" in shown
    assert "| micrographs of 4096² a second, in the longest run | ≥ 20 /s |" in shown
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["agreement"]["picks"] > 5
    assert found["learning"]["refusal"] == ""
    assert [row["number"] for row in found["runs"]] == [1, 3]
