"""Long work shows where it is, continues after an interruption, and finds out first whether it can write."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import scenes
from deeppicker.cli._shared import progress
from deeppicker.cli.main import main
from deeppicker.config import (
    ArrivalConfig,
    ClassifyConfig,
    ClusterConfig,
    LearnFirstConfig,
    RunConfig,
    WorkConfig,
)
from deeppicker.core import Ctf
from deeppicker.formats import read_micrograph, read_picks
from deeppicker.parallel import dask
from deeppicker.particles import ctf
from deeppicker.particles.classify.em import State, classify
from deeppicker.particles.classify.unfinished import Unfinished, forget
from deeppicker.particles.classify.windows import Windows
from deeppicker.runs.events import Message, RunEvent
from deeppicker.runs.watch import watch_picking

SAMPLE = Path(__file__).parents[2] / "sample" / "micrographs" / "sample_001.mrc.gz"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Six seconds pass between two looks at the clock."""
    ticks = itertools.count(0, 6)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(ticks)))
    return


@pytest.mark.usefixtures("clock")
def test_a_step_writes_a_line_every_ten_seconds_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", logger="deeppicker")
    shown = progress.Steps("classifying", 2000)
    for done in range(5):
        shown.at(done)
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("deeppicker: classifying: ")
    assert lines[0].endswith(" of 2,000")
    assert 1 < len(lines) < 5
    assert [f"deeppicker: {message}" for message in caplog.messages] == lines


def noise() -> Windows:
    images = np.random.default_rng(4).normal(size=(60, 64, 64)).astype(np.float32)
    return Windows(images, np.zeros(60, dtype=np.int64), np.ones((1, 33), np.float32))


def test_a_classification_continues_where_it_was_interrupted_with_the_same_result(tmp_path: Path):
    windows, config = noise(), ClassifyConfig(classes=3, iterations=5)
    unfinished = Unfinished(tmp_path / "out", windows, config)
    assert unfinished.state() is None

    def interrupted(state: State) -> None:
        unfinished.keep(state)
        if state.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify(windows, config, interrupted)
    state = Unfinished(tmp_path / "out", windows, config).state()
    assert state is not None
    assert state.done == 3
    seen: list[int] = []
    averages, alignment = classify(windows, config, lambda state: seen.append(state.done), state)
    assert seen == [4, 5]
    whole, expected = classify(windows, config)
    assert torch.equal(averages, whole)
    assert torch.equal(alignment.label, expected.label)
    assert Unfinished(tmp_path / "out", windows, ClassifyConfig(classes=3, iterations=6)).state() is None
    forget(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_damaged_state_does_not_count(tmp_path: Path):
    unfinished = Unfinished(tmp_path / "out", noise(), ClassifyConfig())
    (tmp_path / ".out.unfinished").write_bytes(b"nothing")
    assert unfinished.state() is None


def test_estimates_of_defocus_are_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        scenes.write_mrc(tmp_path / f"{name}.mrc", scenes.scene(1).micrograph.image)
    made: list[str] = []

    def estimate_ctf(micrograph, *_: object) -> Ctf:
        if len(made) == 2 and "again" not in made:
            raise KeyboardInterrupt
        made.append(micrograph.name)
        return Ctf(defocus_u=1.0 + 0.1 * len(made), defocus_v=1.0, fit=0.8)

    monkeypatch.setattr(ctf, "estimate_ctf", estimate_ctf)
    assert main(["ctf", "a.mrc", "b.mrc", "c.mrc", "--output", "ctf.star"]) == 130
    made.append("again")
    assert main(["ctf", "a.mrc", "b.mrc", "c.mrc", "--output", "ctf.star"]) == 0
    assert made == ["a.mrc", "b.mrc", "again", "c.mrc"]
    assert not list(tmp_path.glob(".ctf*"))
    made.clear()
    made.append("again")
    assert main(["ctf", "a.mrc", "--output", "other.star"]) == 0
    assert made == ["again", "a.mrc"]


@pytest.mark.parametrize(
    "words",
    [
        ["classify", "--picks", "nothing.star", "--output", "file/classes"],
        ["ctf", "a.mrc", "--output", "file/ctf.star"],
        ["train", "nothing.star", "--output", "file/m.safetensors"],
        ["adapt", "--picks", "nothing.star", "--output", "file/m.safetensors"],
        ["evaluate", "--picks", "nothing.star", "--reference", "nothing.star", "--json", "nowhere/numbers.json"],
        ["evaluate", "--picks", "nothing.star", "--reference", "nothing.star", "--plots", "file/plots"],
        ["compare", "nothing.star", "nothing.csv", "--png", "nowhere/matrix.png"],
        ["simulate", "--shapes", "1", "--output", "file/simulated"],
        ["train", "nothing.star", "--output", "folder"],
        ["adapt", "--picks", "nothing.star", "--output", "folder"],
        ["extract", "nothing.star", "--output", "file/stacks"],
        ["convert", "nothing.star", "nowhere/picks.csv"],
        ["convert", "nothing.star", "folder.csv"],
        ["convert", "nothing.star", "file/boxes"],
        ["pick", "a.mrc", "--output", "file/picks"],
        ["watch", "nothing", "--output", "file/picks"],
        ["pick", "a.mrc", "--output", "folder/picks", "--log-file", "folder"],
        ["view", "a.mrc", "--picks", "nothing.star", "--overlay", "nowhere/a.png"],
        ["report", "run", "--output", "nowhere/report.html"],
        ["compare", "nothing.star", "nothing.csv", "--consensus", "nowhere/both.star"],
    ],
)
def test_what_cannot_be_written_is_found_first(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for name in ("folder", "folder.csv", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    scenes.write_mrc(tmp_path / "a.mrc", scenes.scene(1).micrograph.image)
    assert main(words) == 2
    assert re.search("cannot be (written|created)|is a folder; choose another", capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mrc", "file", "folder", "folder.csv", "run"]


class Future:
    """The first task of a cluster whose jobs wait: done after three questions."""

    def __init__(self) -> None:
        self.asked = 0

    def done(self) -> bool:
        return self.asked == 3

    def result(self, timeout: float | None = None) -> str:
        if timeout is None:
            return "0.1"
        self.asked += 1
        raise TimeoutError


def test_watch_picks_what_has_arrived_when_it_is_stopped_before_there_are_enough(tmp_path: Path):
    micrograph = read_micrograph(SAMPLE)
    for number in range(2):
        part = micrograph.image[100 * number : 500 + 100 * number, :460]
        scenes.write_mrc(tmp_path / "in" / f"{number}.mrc", part, micrograph.pixel_size)
    stop = Event()

    def listener(event: RunEvent) -> None:
        if isinstance(event, Message) and event.text.startswith("2 of the 8 micrographs"):
            stop.set()

    config = RunConfig(
        arrivals=ArrivalConfig(settle=0.01, interval=0.01),
        work=WorkConfig(workers=0),
        learning=LearnFirstConfig(learn="off"),
    )
    result = watch_picking([str(tmp_path / "in")], tmp_path / "out", config, listener, stop)
    assert result is not None
    assert result.totals.micrographs == 2
    assert sum(len(item) for item in read_picks(tmp_path / "out")) > 20


def test_what_slurm_says_of_a_job_that_does_not_start_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\necho "$*" >> "$0.log"\necho "17 PENDING PartitionConfig"\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    client = SimpleNamespace(cluster=SimpleNamespace(workers={0: SimpleNamespace(job_id="17")}))
    told: list[str] = []
    assert dask._awaited(Future(), client, ClusterConfig(cluster="slurm"), told.append) == "0.1"
    assert len(told) == 1
    assert told[0].startswith("SLURM: job 17 is PENDING (PartitionConfig)")
    assert (tmp_path / "squeue.log").read_text().count("--jobs 17") == 3
