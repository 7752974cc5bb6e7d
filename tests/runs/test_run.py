"""A whole run as a function: what it tells, what it returns, and how it is stopped."""

import json
from pathlib import Path
from threading import Event

import pytest

import scenes
from deeppicker import RunConfig, SelectConfig, Subject, run_picking, watch_picking
from deeppicker.config import ArrivalConfig, WorkConfig
from deeppicker.errors import InputError
from deeppicker.formats import read_picks
from deeppicker.networks.model import save_model
from deeppicker.runs.events import PICKING, Message, Picked, Progressed, RunEvent, ShardEnded, Totals, Warned
from scenes import DIAMETER, files_of_run, scene

NUMBER = 4


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Micrographs and a model, in the current folder."""
    for seed in range(NUMBER):
        scenes.write_mrc(tmp_path / "in" / f"{seed}.mrc", scene(seed, faintest=0.05).micrograph.image)
    save_model(scenes.uncertain(), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(**more: object) -> RunConfig:
    subject = Subject(model="model.safetensors", diameter=DIAMETER)
    return RunConfig(subject=subject, work=WorkConfig(workers=0), **more)  # type: ignore[arg-type]


def of(kind: type, events: list[RunEvent]) -> list:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.usefixtures("project")
def test_a_run_returns_what_it_left_and_prints_nothing(capsys: pytest.CaptureFixture[str]):
    result = run_picking(["in"], "out", settings(select=SelectConfig(threshold=0.5)))
    picks = read_picks(result.folder)
    assert [Path(row.micrograph).name for row in result.good] == [f"{i}.mrc" for i in range(NUMBER)]
    assert [row.picks for row in result.rows] == [len(item) for item in picks]
    assert result.picks == sum(map(len, picks)) > 0
    assert result.right == pytest.approx(sum(item.scores.sum() for item in picks), rel=1e-4)
    assert (result.diameter, result.threshold, result.advice, result.before, result.failed) == (DIAMETER, 0.5, "", 0, 0)
    assert run_picking(["in"], "out", settings(select=SelectConfig(threshold=0.5))).before == NUMBER
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("project")
def test_a_listener_is_told_of_each_micrograph_and_how_far_the_run_is():
    events: list[RunEvent] = []
    result = run_picking(["in"], "out", settings(), events.append)
    assert isinstance(events[0], Message)  # where it computes
    assert events[1] == Progressed(PICKING, 0, NUMBER)
    assert of(Progressed, events)[1:] == [Progressed(PICKING, i + 1, NUMBER) for i in range(NUMBER)]
    assert [event.row.micrograph for event in of(Picked, events)] == [row.micrograph for row in result.rows]


def test_a_run_that_is_stopped_and_continued_leaves_what_one_run_leaves(project: Path):
    run_picking(["in"], "whole", settings())
    events: list[RunEvent] = []
    stopped = run_picking(["in"], "out", settings(), events.append, lambda: len(of(Picked, events)) == 2)
    assert (len(stopped.rows), stopped.before) == (2, 0)
    assert of(Warned, events) == [Warned("told to stop; repeat the command to continue")]
    assert run_picking(["in"], "out", settings()).before == 2
    assert files_of_run(project / "out") == files_of_run(project / "whole")


def test_a_bad_micrograph_fails_by_itself_and_is_counted(project: Path):
    (project / "in" / "bad.mrc").write_bytes(b"nothing")
    result = run_picking(["in"], "out", settings())
    assert (result.failed, len(result.good), len(result.rows)) == (1, NUMBER, NUMBER + 1)
    assert [row.error for row in result.rows if row.error] == [
        row.error for row in result.rows if row.micrograph.endswith("bad.mrc")
    ]


@pytest.mark.usefixtures("project")
def test_all_shards_but_the_last_say_what_is_left():
    events: list[RunEvent] = []
    first = run_picking(["in"], "out", settings(shard="1/2"), events.append)
    assert of(ShardEnded, events) == [ShardEnded("1/2", 2, NUMBER)]
    assert (len(first.rows), first.threshold) == (2, None)
    last = run_picking(["in"], "out", settings(shard="2/2"), events.append)
    assert len(of(ShardEnded, events)) == 1
    assert last.threshold is not None


@pytest.mark.usefixtures("project")
def test_an_error_that_ends_the_run_is_raised():
    with pytest.raises(InputError, match="nowhere"):
        run_picking(["nowhere.mrc"], "out", settings())


def test_watching_is_a_run_that_an_event_stops(project: Path):
    run_picking(["in"], "picked", settings())
    events, stop = list[RunEvent](), Event()

    def listener(event: RunEvent) -> None:
        events.append(event)
        if len(of(Picked, events)) == NUMBER:
            stop.set()

    arrivals = ArrivalConfig(settle=0.05, interval=0.05)
    result = watch_picking(["in"], "out", settings(arrivals=arrivals), listener, stop)
    assert result is not None
    assert (result.totals.micrographs, result.totals.failed, result.done, result.errors) == (NUMBER, 0, NUMBER, ())
    assert [event.micrographs for event in of(Totals, events)] == [1, 2, 3, 4]
    status = json.loads((project / "out" / "status.json").read_text(encoding="utf-8"))
    assert (status["state"], status["picks"]) == ("stopped", result.totals.picks)
    (project / "out" / "status.json").unlink()
    assert files_of_run(project / "out") == files_of_run(project / "picked")


@pytest.mark.usefixtures("project")
def test_watching_where_nothing_arrives_returns_nothing_and_says_why():
    events: list[RunEvent] = []
    arrivals = ArrivalConfig(settle=0.05, interval=0.05, idle=0.005)
    assert watch_picking(["later"], "out", settings(arrivals=arrivals), events.append) is None
    assert of(Message, events)[1:] == [Message("no new micrograph for 0.005 minutes; stopping")]
