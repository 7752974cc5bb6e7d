"""`deeppicker doctor`, the log, and output for programs."""

import json
from pathlib import Path

import psutil
import pytest

import scenes
from deeppicker.cli import doctor
from deeppicker.cli.main import main
from deeppicker.networks.model import save_model
from scenes import DIAMETER


def test_the_doctor_tells_what_there_is_and_how_fast_it_picks(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(doctor, "_SIDE", 600)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "DeepPicker 0",
        "torch 2",
        "cores",
        "memory",
        "disk",
        "device     ",
        " per hour",
        "no problem was found",
    ):
        assert part in shown


def test_the_doctor_finds_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    memory = psutil.virtual_memory()._replace(available=5e8)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: memory)
    assert main(["doctor", "--no-speed", "--folder", str(tmp_path / "missing")]) == 1
    shown = capsys.readouterr().out
    assert "only 0.5 GB of memory are free" in shown
    assert "missing" in shown
    assert "2 problems were found" in shown


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scenes.write_mrc(tmp_path / "in" / "a.mrc", scenes.scene(0).micrograph.image)
    (tmp_path / "in" / "b.mrc").write_bytes(b"broken")
    save_model(scenes.uncertain(), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pick(*words: str) -> int:
    return main(["pick", "in", "--output", "out", "--model", "model.safetensors", "--workers", "0", *words])


@pytest.mark.usefixtures("project")
def test_json_is_an_object_a_line_with_all_that_happens(capsys: pytest.CaptureFixture[str]):
    assert pick("--json", "--threshold", "0.5") == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event.pop("event") for event in events] == ["micrograph", "micrograph", "end"]
    by_name = {Path(event["micrograph"]).name: event for event in events[:2]}
    assert by_name["a.mrc"]["picks"] == events[-1]["picks"] > 0
    assert "only 6 bytes long" in by_name["b.mrc"]["error"]
    assert events[-1]["failed"] == 1


@pytest.mark.usefixtures("project")
def test_quiet_is_silent_but_for_errors(capsys: pytest.CaptureFixture[str]):
    assert pick("--quiet") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "b.mrc" in shown.err


@pytest.mark.usefixtures("project")
def test_the_log_tells_all_with_the_time_and_is_added_to():
    for _ in range(2):
        assert pick("--log-file", "logs/pick.log", "--diameter", str(DIAMETER)) == 1
    lines = Path("logs/pick.log").read_text(encoding="utf-8").splitlines()
    assert sum("b.mrc is only 6 bytes long" in line for line in lines) == 4  # as it fails, and in the end
    assert sum("a.mrc: 1" in line and "INFO" in line for line in lines) == 1  # done before, the second time
    assert all(line.startswith("20") for line in lines)


@pytest.mark.usefixtures("project")
def test_a_log_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert pick("--log-file", "in") == 2
    assert "--log-file in cannot be written" in capsys.readouterr().err
