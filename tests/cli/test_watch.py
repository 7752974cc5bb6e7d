"""Picking on the fly: which files are complete, the live summary, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest

import scenes
from deeppicker.cli.main import main
from deeppicker.formats import read_picks
from deeppicker.networks.model import save_model
from deeppicker.runs.arrivals import Arrivals
from scenes import files_of_run, scene

QUICK = ["--settle", "0.05", "--interval", "0.05"]


def names(entries: list) -> list[str]:
    return [Path(entry.name).name for entry in entries]


def test_a_file_is_complete_when_it_has_not_changed_for_a_while(tmp_path: Path):
    arrivals = Arrivals([str(tmp_path)], settle=5.0)
    assert arrivals.ready(0.0) == []
    file = scenes.write_mrc(tmp_path / "a.mrc", np.eye(8))
    assert [arrivals.ready(1.0), arrivals.waiting] == [[], 1]
    os.utime(file, (1, 1))  # written to once more
    assert arrivals.ready(5.9) == []
    assert arrivals.ready(10.8) == []
    assert names(arrivals.ready(11.0)) == ["a.mrc"]
    assert [arrivals.ready(20.0), arrivals.waiting] == [[], 0]


def test_a_file_shorter_than_its_header_says_is_waited_for_and_taken_in_the_end(tmp_path: Path):
    whole = scenes.write_mrc(tmp_path / "whole" / "a.mrc", np.eye(8)).read_bytes()
    file = tmp_path / "a.mrc"
    file.write_bytes(whole[:1100])
    arrivals = Arrivals([str(tmp_path)], settle=1.0)
    assert [arrivals.ready(float(now)) for now in range(10)] == [[]] * 10
    assert names(arrivals.ready(10.0)) == ["a.mrc"]  # to fail, and say why
    file.write_bytes(whole)  # the rest came late
    assert arrivals.ready(11.0) == []
    assert names(arrivals.ready(12.0)) == ["a.mrc"]


def test_a_file_that_got_its_room_but_not_yet_its_pixels_is_waited_for(tmp_path: Path):
    whole = scenes.write_mrc(tmp_path / "whole" / "a.mrc", np.ones((64, 40)) + np.eye(64, 40)).read_bytes()
    file, said = tmp_path / "a.mrc", list[str]()
    file.write_bytes(whole[:5000] + bytes(len(whole) - 5000))
    arrivals = Arrivals([str(tmp_path)], 1.0, said.append)
    assert [arrivals.ready(float(now)) for now in range(5)] == [[]] * 5
    file.write_bytes(whole)
    assert arrivals.ready(5.0) == []
    assert names(arrivals.ready(6.0)) == ["a.mrc"]
    assert said == []


def test_a_micrograph_that_really_ends_in_zeros_is_taken_a_little_later(tmp_path: Path):
    image = np.random.default_rng(0).normal(size=(64, 40))
    image[-30:] = 0
    scenes.write_mrc(tmp_path / "a.mrc", image)
    said = list[str]()
    arrivals = Arrivals([str(tmp_path)], 1.0, said.append)
    assert [arrivals.ready(float(now)) for now in range(10)] == [[]] * 10
    assert names(arrivals.ready(10.0)) == ["a.mrc"]
    (text,) = said
    assert "a.mrc ends in zeros but has not changed for 10 s" in text


def test_files_that_are_renamed_removed_or_temporary_do_no_harm(tmp_path: Path):
    arrivals = Arrivals([str(tmp_path)], settle=1.0)
    file = scenes.write_mrc(tmp_path / "part.mrc", np.eye(8))
    (tmp_path / ".hidden.mrc").write_bytes(b"")
    (tmp_path / "a.mrc.tmp").write_bytes(b"")
    assert arrivals.ready(0.0) == []
    file.rename(tmp_path / "b.mrc")
    assert arrivals.ready(2.0) == []
    assert names(arrivals.ready(3.0)) == ["b.mrc"]
    (tmp_path / "b.mrc").unlink()
    assert [arrivals.ready(4.0), arrivals.waiting] == [[], 0]


def test_what_is_listed_counts_not_what_is_notified(tmp_path: Path):
    """As on a network file system; the folder does not even exist at first."""
    folder = tmp_path / "later" / "micrographs"
    arrivals = Arrivals([str(folder), str(tmp_path / "*.tif")], settle=1.0)
    assert arrivals.ready(0.0) == []
    scenes.write_mrc(folder / "a.mrc", np.eye(8))
    assert arrivals.ready(1.0) == []
    assert names(arrivals.ready(2.0)) == ["a.mrc"]


def test_changes_are_looked_for_again_and_again_until_the_end(tmp_path: Path):
    stop = Event()
    for inputs in ([str(tmp_path)], [str(tmp_path / "missing")]):
        stop.clear()
        looked = 0
        for _ in Arrivals(inputs, settle=1.0).changes(0.01, stop):
            looked += 1
            if looked == 3:
                stop.set()
        assert looked == 3


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and two micrographs, the current one."""
    for seed in range(4):
        image = scene(seed, faintest=0.05).micrograph.image
        scenes.write_mrc(tmp_path / ("in" if seed < 2 else "late") / f"{seed}.mrc", image)
    save_model(scenes.uncertain(), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(verb: str, *more: str, output: str = "out") -> list[str]:
    return [verb, "in", "--output", output, "--model", "model.safetensors", "--workers", "0", *more]


def check_as_picked(project: Path) -> None:
    """Check that watching left what picking does, but for the status."""
    (project / "out" / "status.json").unlink()
    assert main(words("pick", output="picked")) == 0
    assert files_of_run(project / "out") == files_of_run(project / "picked")


def test_watching_gives_what_picking_gives(project: Path, capsys: pytest.CaptureFixture[str]):
    assert main(words("watch", *QUICK, "--idle", "0.01", "--log-file", "log.txt")) == 0
    shown = capsys.readouterr().out
    assert "0: 12 picks, score 0.9" in shown
    assert "no new micrograph for 0.01 minutes" in shown
    status = json.loads(Path("out/status.json").read_text(encoding="utf-8"))
    assert (status["state"], status["micrographs"], status["failed"], status["waiting"]) == ("stopped", 2, 0, 0)
    assert status["picks"] == sum(len(picks) for picks in read_picks("out/autopick.star")) > 20
    assert status["picks_per_micrograph"] == status["picks"] / 2
    assert 0.8 < status["mean_score"] < 1
    check_as_picked(project)


def test_a_stop_file_ends_it_and_is_removed(project: Path, capsys: pytest.CaptureFixture[str]):
    Path("halt").write_text("")
    assert main(words("watch", *QUICK, "--stop-file", "halt")) == 2
    shown = capsys.readouterr()
    assert "halt; stopping" in shown.out
    assert "nothing was picked" in shown.err
    assert not (project / "halt").exists()


@pytest.mark.usefixtures("project")
def test_a_folder_in_which_nothing_arrives_ends_after_a_while(capsys: pytest.CaptureFixture[str]):
    shutil.rmtree("in")
    assert main(words("watch", *QUICK, "--idle", "0.005")) == 2
    assert "nothing was picked" in capsys.readouterr().err


def test_a_broken_micrograph_is_reported_and_does_not_end_it(project: Path, capsys: pytest.CaptureFixture[str]):
    (project / "in" / "bad.mrc").write_bytes(b"nothing")
    assert main(words("watch", *QUICK, "--idle", "0.02")) == 1
    assert "bad.mrc is only 7 bytes long" in capsys.readouterr().err
    assert json.loads(Path("out/status.json").read_text(encoding="utf-8"))["failed"] == 1


@pytest.mark.parametrize("option", ["--settle", "--interval", "--idle"])
def test_times_must_be_positive(option: str, capsys: pytest.CaptureFixture[str]):
    assert main(["watch", "in", "--output", "out", option, "-1"]) == 2
    assert f"{option} -1 is out of range" in capsys.readouterr().err


@pytest.mark.slow
def test_late_files_are_picked_as_they_come_and_a_signal_ends_it_cleanly(project: Path):
    program = [sys.executable, "-m", "deeppicker", *words("watch", *QUICK, "--json")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None

        def next_one() -> str:
            event = json.loads(watching.stdout.readline())
            assert (event["event"], event["error"]) == ("micrograph", "")
            return Path(event["micrograph"]).name

        assert sorted(next_one() for _ in range(2)) == ["0.mrc", "1.mrc"]
        (project / "late" / "2.mrc").rename(project / "in" / "2.mrc")
        assert next_one() == "2.mrc"
        shutil.copy(project / "late" / "3.mrc", project / "in" / ".3.mrc.part")
        (project / "in" / ".3.mrc.part").rename(project / "in" / "3.mrc")
        assert next_one() == "3.mrc"
        watching.send_signal(signal.SIGTERM)
        rest, errors = watching.communicate()
    assert (watching.returncode, errors) == (0, "")
    assert json.loads(rest.splitlines()[-1])["event"] == "end"
    assert len(read_picks("out/autopick.star")) == 4
    assert json.loads(Path("out/status.json").read_text(encoding="utf-8"))["state"] == "stopped"
    check_as_picked(project)
