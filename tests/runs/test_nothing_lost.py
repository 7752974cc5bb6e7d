"""What goes wrong with one micrograph costs that one only, is reported, and is tried again by the next run."""

import csv
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import scenes
from deeppicker.cli.main import main
from deeppicker.core import Found, Micrograph, MicrographEntry
from deeppicker.errors import OutputError, TransientError
from deeppicker.formats import read_micrograph, read_picks
from deeppicker.networks.model import save_model
from deeppicker.runs import results
from deeppicker.runs.read_ahead import read_ahead
from deeppicker.runs.results import Results
from scenes import DIAMETER, files_of_run, scene

NUMBER = 5


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Micrographs and a model, in the current folder."""
    for seed in range(NUMBER):
        scenes.write_mrc(tmp_path / "in" / f"{seed}.mrc", scene(seed, faintest=0.05).micrograph.image)
    save_model(scenes.uncertain(), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pick(output: str, *words: str, inputs: str = "in") -> int:
    start = ["pick", inputs, "--output", output, "--model", "model.safetensors", "--diameter", str(DIAMETER)]
    return main([*start, *(words if "--workers" in words else ("--workers", "0", *words))])


def errors_of(output: str) -> dict[str, str]:
    with Path(output, "summary.csv").open(newline="", encoding="utf-8") as file:
        return {Path(row["micrograph"]).stem: row["error"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("error", [OutputError("no space left"), TransientError("lost")])
def test_what_fails_once_is_tried_again_and_leaves_no_trace(project: Path, monkeypatch, error: Exception):
    assert pick("whole") == 0
    real, calls = Results.write, Counter[str]()

    def write(results: Results, found: Found, *rest: object) -> object:
        key = found.candidates.key
        calls[key] += 1
        if key == "2" and calls["2"] == 1:
            raise error
        return real(results, found, *rest)

    monkeypatch.setattr(Results, "write", write)
    assert pick("out", "--retries", "1") == 0
    assert calls == {"0": 1, "1": 1, "2": 2, "3": 1, "4": 1}
    assert files_of_run(project / "out") == files_of_run(project / "whole")


def test_a_disk_that_is_full_for_one_micrograph_costs_that_one_only(project: Path, monkeypatch, capsys):
    assert pick("whole") == 0
    real = results.atomic_write

    def write(path: Path, content: str) -> None:
        if path.name.startswith("2_"):
            raise OutputError(f"{path} cannot be written: No space left on device")
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(results, "atomic_write", write)
        capsys.readouterr()
        assert pick("out") == 1
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert {key: bool(error) for key, error in errors_of("out").items()} == {str(i): i == 2 for i in range(NUMBER)}
    assert len(read_picks("out/autopick.star")) == NUMBER - 1
    assert pick("out") == 0
    assert files_of_run(project / "out") == files_of_run(project / "whole")


@pytest.mark.parametrize("words", [(), ("--retries", "0")], ids=["default", "no retries"])
def test_a_disk_that_stays_full_ends_the_run_before_all_is_computed_in_vain(
    project: Path, words: tuple[str, ...], monkeypatch, capsys
):
    image = read_micrograph(project / "in" / "0.mrc").image
    for number in range(NUMBER, 30):
        scenes.write_mrc(project / "in" / f"{number}.mrc", image)
    begun = []

    def find(_task: object, entry: MicrographEntry) -> object:
        begun.append(entry.name)
        raise OutputError("out cannot be written: No space left on device")

    monkeypatch.setattr("deeppicker.runs.pick_job.Picker.find", find)
    assert pick("out", *words) == 2
    assert 0 < len(begun) < 30
    assert "No space left on device" in capsys.readouterr().err


def test_a_micrograph_that_vanishes_is_reported_and_the_others_are_picked(project: Path, monkeypatch, capsys):
    real = read_micrograph

    def read(path: Path, **words: object) -> Micrograph:
        (project / "in" / "3.mrc").unlink(missing_ok=True)
        return real(path, **words)

    monkeypatch.setattr("deeppicker.runs.pick_job.read_micrograph", read)
    assert pick("out", "--retries", "1") == 1
    assert "in/3.mrc cannot be read: No such file or directory" in capsys.readouterr().err
    assert {key for key, error in errors_of("out").items() if error} == {"3"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that hangs when it is read")
def test_a_pipe_in_the_place_of_a_micrograph_costs_that_one_only(project: Path, capsys):
    """A named pipe that nobody writes to hangs whoever opens it."""
    os.mkfifo(project / "in" / "pipe.mrc")
    lines = [f"in/{name}.mrc" for name in ("0", "pipe", *range(1, NUMBER))]
    text = "data_micrographs\n\nloop_\n_rlnMicrographName #1\n" + "\n".join(lines) + "\n"
    (project / "all.star").write_text(text, encoding="utf-8")
    assert pick("out", "--retries", "1", inputs="all.star") == 1
    assert "in/pipe.mrc is a pipe, device or socket, not a regular file" in capsys.readouterr().err
    assert {key for key, error in errors_of("out").items() if error} == {"pipe"}


HANGS = """
import io, multiprocessing, threading
real = io.open

def open(file, *rest, **more):
    if str(file).endswith("hangs.mrc") and multiprocessing.parent_process() is not None:
        threading.Event().wait()
    return real(file, *rest, **more)

io.open = open
"""


@pytest.mark.slow
def test_a_file_on_a_disk_that_hangs_is_given_up_after_the_time_limit(project: Path):
    (project / "in" / "0.mrc").rename(project / "in" / "hangs.mrc")
    (project / "hook").mkdir()
    (project / "hook" / "sitecustomize.py").write_text(HANGS)  # which also the worker runs when it starts
    paths = os.pathsep.join([str(project / "hook"), os.environ.get("PYTHONPATH", "")])
    words = ["pick", "in", "--output", "out", "--model", "model.safetensors", "--diameter", str(DIAMETER)]
    more = ["--workers", "1", "--time-limit", "30", "--retries", "0"]
    program = [sys.executable, "-m", "deeppicker", *words, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "in/hangs.mrc: not finished after 30 s, so given up" in done.stderr
    assert {key for key, error in errors_of("out").items() if error} == {"hangs"}
    assert len(read_picks("out/autopick.star")) == NUMBER - 1


def test_files_are_read_ahead_but_not_too_far(tmp_path: Path):
    entries = [MicrographEntry(str(i), tmp_path / f"{i}.mrc") for i in range(10)]
    entries[3].path.write_bytes(bytes(3 << 20))  # the others do not exist, which does no harm
    taken = []

    def source():
        for entry in entries:
            taken.append(entry)
            yield entry

    given = []
    for entry in read_ahead(source(), number=3):
        given.append(entry)
        assert len(taken) <= len(given) + 3
    assert given == entries


def test_reading_ahead_ends_with_whoever_reads(tmp_path: Path):
    before = set(threading.enumerate())
    ahead = read_ahead([MicrographEntry("a", tmp_path / "a.mrc")] * 5)
    assert next(ahead).name == "a"
    ahead.close()
    (thread,) = set(threading.enumerate()) - before
    thread.join(10)
    assert not thread.is_alive()
