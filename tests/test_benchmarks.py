"""The benchmarks: options, and the pages that are made from what they measured."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

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


@pytest.mark.parametrize("name", ["accuracy", "compact", "diameter", "few_labels", "growth", "learning"])
def test_a_page_of_results_is_that_of_the_committed_numbers(name: str, root: Path) -> None:
    results, stem = root / "benchmarks" / "results", name.replace("_", "-")
    measured = json.loads((results / f"{stem}.json").read_text())
    assert (results / f"{stem}.md").read_text() == import_module(name).report(measured)


def test_simulated_sets_do_not_share_a_folder() -> None:
    from selftraining.suite import DOUBTFUL, RECIPES

    names = [recipe.name for recipe in (*RECIPES, *DOUBTFUL)]
    assert len(set(names)) == len(names)


def test_the_page_of_diameters_says_which_networks_were_measured() -> None:
    import diameter

    assert "those of before `general`" in diameter.networks(16)
    assert "before" not in diameter.networks(24)


def test_each_target_says_whether_it_is_reached_or_not_measured() -> None:
    from timing.targets import table

    started = {"help": {"wall": 0.2}, "pick": {"wall": 6.0}}
    lines = table({"start": started}).splitlines()
    assert "| `deeppicker --help` | ≤ 0.3 s | 0.2 s | hit |" in lines
    assert "| cold `deeppicker pick` of one micrograph | ≤ 1.5 s | 6 s | **missed** |" in lines
    assert "| 4096×4096, all steps, warm, two threads | ≤ 0.6 s | not measured | – |" in lines


def _timed(each_more: float | None) -> dict[str, Any]:
    """Return measurements with a cold start of 6 s and 0.6 s for one thread, and so much with two workers."""
    setting = {"commit": "abc"}
    sizes = {"4096×4096": {"threads": {"1": {"all": 0.6}}}}
    result = {"start": {"pick": {"wall": 6.0}}, "stages": {"setting": setting, "sizes": sizes}}
    rows = [{"size": "4096×4096", "workers": 2, "number": 100, "each more": each_more}]
    return result if each_more is None else {**result, "numbers": {"setting": setting, "rows": rows}}


def test_the_time_of_more_micrographs_is_added_to_the_cold_command_for_one_as_workers_share_the_cores() -> None:
    from timing.report import answers

    shared, alone = (answers(_timed(each_more), {}) for each_more in (0.5, None))
    assert "| 1 | 6.0 s | 6.0 s | 6.0 s |" in shared
    assert "| 100 | 30.8 s | 12.2 s | 7.0 s |" in shared
    assert "1.00 s of a core for each additional one:\ntwo workers on two cores take 0.50 s" in shared
    assert "| 100 | 20.9 s | 9.7 s | 6.6 s |" in alone
    assert "one thread in a warm process" in alone


def test_ratios_that_do_not_come_from_the_table_are_said_to() -> None:
    from timing.report import rivals
    from timing.rivals import ratios

    def cost(seconds: float) -> dict[str, Any]:
        return {
            "runs": {"1": {"wall": seconds}}, "each more": seconds, "cpu each more": 1.0, "megabytes": 9.0, "picks": 9
        }  # fmt: skip

    programs = {"deeppicker": cost(2.0), "relion": cost(3.0), "topaz, scale 3": cost(40.0)}
    part = {"programs": programs, "ratios": ratios(programs)}
    assert "another run" not in rivals(part)
    part["ratios"]["topaz, scale 3"] = {"one": 10.0, "each more": 10.0}
    (told,) = (line for line in rivals(part).splitlines() if "another run" in line)
    assert "Topaz 0.3.20, scale 3" in told
    assert "RELION's LoG, two" not in told


def test_times_of_a_run_folder_are_scaled_to_the_target_and_memory_is_said_not_to_be() -> None:
    import entries
    from timing.targets import rows_of

    cost = {"wall": 10.0, "cpu": 10.0, "megabytes": 900.0}
    lines = rows_of(entries.TARGETS, {"number": 20_000, **dict.fromkeys(entries.STEPS, cost)}).splitlines()
    assert "| 100,000 micrographs: resume | ≤ 60 s | 50 s | hit |" in lines
    assert "| resume, peak memory at the number measured | ≤ 2,000 MB | 900 MB | hit |" in lines


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
