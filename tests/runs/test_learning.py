"""A run learns its micrographs before it picks them: once, with the same model for all that comes later."""

import itertools
import json
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import scenes
from deeppicker import RunConfig, Subject, run_picking
from deeppicker.config import ArrivalConfig, LearnFirstConfig, SelfTrainConfig, WorkConfig
from deeppicker.core import MicrographEntry
from deeppicker.errors import DeepPickerError, InputError, OutputError, OvertakenError, TransientError
from deeppicker.formats.inputs import find_micrographs
from deeppicker.formats.sealed import read_json
from deeppicker.networks.model import load_model, save_model, weights_digest
from deeppicker.parallel.jobs import Job, Mapper, attempt
from deeppicker.parallel.pool import Pool
from deeppicker.runs import learn_job, learning, session
from deeppicker.runs.events import LEARNING_STEP, Learned, Message, Picked, Progressed, RunEvent
from deeppicker.runs.pick_job import Source
from deeppicker.runs.session import Session
from deeppicker.runs.watch import watch_picking
from deeppicker.training import self_train
from deeppicker.training.self_train import Learnt, learn_from_picks
from scenes import DIAMETER, files_of_run, scene

START = "general-small"  # the faster one
METHOD = LearnFirstConfig.method
QUICK = SelfTrainConfig(rounds=1, steps=2, crop=96, fewest=5, more=10.0, fewer=0.1, agreement=0.1, convincing=0.1)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Micrographs in the current folder, and a method that takes no time."""
    for seed in range(4):
        scenes.write_mrc(tmp_path / "in" / f"{seed}.mrc", scene(seed).micrograph.image)
    monkeypatch.setattr(LearnFirstConfig, "method", property(lambda _: QUICK))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(learn: str = "auto", **more: object) -> RunConfig:
    return RunConfig(
        subject=Subject(diameter=DIAMETER, model=START),
        learning=LearnFirstConfig(learn=learn),
        work=WorkConfig(workers=0),
        **more,  # type: ignore[arg-type]
    )


def learned(events: list[RunEvent]) -> list[Learned]:
    return [event for event in events if isinstance(event, Learned)]


def weights_of(folder: str) -> str:
    return str(json.loads(Path(folder, "run.json").read_text(encoding="utf-8"))["weights"])


def test_a_run_picks_with_what_it_has_learnt_and_keeps_it():
    events: list[RunEvent] = []
    run_picking(["in"], "out", settings(), events.append)
    (told,) = learned(events)
    assert told.used
    steps = [event.done for event in events if isinstance(event, Progressed) and event.step == LEARNING_STEP]
    assert steps[0] == 0
    assert steps[-1] == 100
    assert steps == sorted(steps)
    assert (
        weights_of("out") == weights_digest(load_model("out/learnt.safetensors")) != weights_digest(load_model(START))
    )


def test_a_run_that_goes_on_uses_what_it_has_learnt_before():
    run_picking(["in/0.mrc", "in/1.mrc", "in/2.mrc"], "out", settings())
    events: list[RunEvent] = []
    result = run_picking(["in"], "out", settings(), events.append)
    assert (len(result.good), result.before) == (4, 3)
    assert not learned(events)


def test_the_same_micrographs_give_the_same_picks():
    run_picking(["in"], "one", settings())
    run_picking(["in"], "two", settings())
    assert files_of_run(Path("one")) == files_of_run(Path("two"))


def test_shards_share_what_the_first_of_them_has_learnt():
    run_picking(["in"], "whole", settings())
    for shard in ("1/2", "2/2"):
        run_picking(["in"], "parts", settings(shard=shard))
    assert files_of_run(Path("parts")) == files_of_run(Path("whole"))


def test_without_learning_the_model_stays():
    run_picking(["in"], "out", settings("off"))
    assert weights_of("out") == weights_digest(load_model(START))
    assert not Path("out/learning.json").exists()


def test_picks_made_without_learning_are_completed_without_it():
    run_picking(["in/0.mrc", "in/1.mrc", "in/2.mrc"], "out", settings("off"))
    assert len(run_picking(["in"], "out", settings()).good) == 4
    assert weights_of("out") == weights_digest(load_model(START))


def test_what_was_learnt_serves_another_data_set_as_it_is():
    run_picking(["in"], "first", settings())
    config = settings()
    subject = replace(config.subject, model="first/learnt.safetensors")
    run_picking(["in"], "second", replace(config, subject=subject))
    assert weights_of("second") == weights_of("first")
    assert not Path("second/learning.json").exists()


@pytest.mark.parametrize("doubtful", [False, True])
def test_a_number_of_rounds_is_learnt_also_by_a_model_that_has_learnt(
    doubtful: bool, project: Path, monkeypatch: pytest.MonkeyPatch
):
    quick = replace(QUICK, convincing=1.0 if doubtful else 0.0, more_if_doubtful=10.0, more_if_compact=9.0)
    monkeypatch.setattr(LearnFirstConfig, "method", METHOD)
    monkeypatch.setattr("deeppicker.config.learning.SelfTrainConfig", lambda **asked: replace(quick, **asked))
    save_model(replace(load_model(START), info={"learnt": {}}), project / "start")
    config = replace(settings("3"), subject=Subject(diameter=DIAMETER, model="start"))
    run_picking(["in"], "out", config)
    report = read_json(Path("out/learning.json"), sealed=True)
    assert len(report["rounds"]) == 3
    assert report["doubt"] == ""  # these are clear and compact, but that is not judged at a diameter that is given
    assert report["learnt"] == weights_of("out") != weights_digest(load_model(START))


def elsewhere(job: Job) -> Mapper[Any]:
    """As the workers of a cluster do: from a copy of the job, in another folder."""
    copy = pickle.dumps(job)

    def does(items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for item in items:
            with chdir("/"):
                outcome = attempt(pickle.loads(copy), pickle.loads(pickle.dumps(item)))
            yield item, outcome

    return does


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are not on this machine, as far as a run can see."""
    monkeypatch.setattr(session, "open_pool", lambda *_, **__: nullcontext(Pool(elsewhere, 0, 1, local=False)))


@pytest.mark.usefixtures("cluster")
def test_where_a_cluster_works_it_learns_the_same(monkeypatch: pytest.MonkeyPatch):
    places: list[Path] = []

    def learn(*args: Any) -> Learnt:
        places.append(Path.cwd())
        return learn_from_picks(*args)

    monkeypatch.setattr(learn_job, "learn_from_picks", learn)
    events: list[RunEvent] = []
    run_picking(["in"], "out", settings(), events.append)
    assert places == [Path("/")]
    assert Message("learning the data set") in events
    job = learn_job.LearnJob(load_model(START), DIAMETER, Source(), QUICK, Path("rounds"))
    here = job(tuple(find_micrographs(["in"])))
    assert weights_of("out") == weights_digest(here.model)


@pytest.mark.usefixtures("cluster")
def test_what_keeps_a_cluster_from_learning_ends_the_run(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> Learnt:
        raise OutputError("no space is left there")

    monkeypatch.setattr(learn_job, "learn_from_picks", fail)
    with pytest.raises(OutputError, match="no space is left there"):
        run_picking(["in"], "out", settings())
    assert not Path("out/learning.json").exists()


def test_a_run_of_few_picks_says_that_it_learns_nothing_and_remembers_it(monkeypatch: pytest.MonkeyPatch):
    strict = replace(QUICK, fewest=10_000)
    monkeypatch.setattr(LearnFirstConfig, "method", property(lambda _: strict))
    events: list[RunEvent] = []
    run_picking(["in/0.mrc", "in/1.mrc"], "out", settings(), events.append)
    (told,) = learned(events)
    assert not told.used
    assert "too few" in told.summary
    again: list[RunEvent] = []
    run_picking(["in"], "out", settings(), again.append)
    assert not learned(again)
    assert weights_of("out") == weights_digest(load_model(START))


def test_where_picks_are_few_more_micrographs_are_looked_at(monkeypatch: pytest.MonkeyPatch):
    few = replace(QUICK, micrographs=2, fewest=20)
    monkeypatch.setattr(LearnFirstConfig, "method", property(lambda _: few))
    run_picking(["in"], "out", settings())
    report = read_json(Path("out/learning.json"), sealed=True)
    assert report["refusal"] == ""
    assert report["picks_before"] > 32  # two micrographs hold 32


@pytest.mark.parametrize("name", ["learning.json", "learnt.safetensors"])
def test_what_was_learnt_and_is_damaged_is_refused_in_one_line_or_learnt_again(name: str):
    run_picking(["in"], "out", settings())
    weights, content = weights_of("out"), bytearray(Path("out", name).read_bytes())
    content[-9] ^= 1
    Path("out", name).write_bytes(content)
    with pytest.raises(DeepPickerError, match=rf"{name}.* is damaged.*--overwrite"):
        run_picking(["in"], "out", settings())
    for path in Path("out").glob("*_autopick.star"):
        path.unlink()
    run_picking(["in"], "out", settings())
    assert weights_of("out") == weights


def test_a_command_that_learns_while_another_one_begins_to_pick_gives_way():
    def listener(event: RunEvent) -> None:
        if event == Progressed(LEARNING_STEP, 100, 100):
            run_picking(["in/0.mrc"], "out", settings("off"))

    with pytest.raises(OvertakenError, match="began to pick into out while this one learnt"):
        run_picking(["in"], "out", settings(), listener)
    assert not Path("out/learning.json").exists()


class Stopped(BaseException):
    """As raised by a signal."""


def stop_in_the_second_round(event: RunEvent) -> None:
    if isinstance(event, Progressed) and event.step == LEARNING_STEP and event.done > 60:
        raise Stopped


@pytest.mark.slow
def test_learning_goes_on_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(LearnFirstConfig, "method", property(lambda _: replace(QUICK, rounds=2)))

    run_picking(["in"], "whole", settings())
    with pytest.raises(Stopped):
        run_picking(["in"], "out", settings(), stop_in_the_second_round)
    assert not Path("out/learning.json").exists()
    events: list[RunEvent] = []
    run_picking(["in"], "out", settings(), events.append)
    steps = [event.done for event in events if isinstance(event, Progressed) and event.step == LEARNING_STEP]
    assert steps[:2] == [0, 62]  # five of eight steps
    assert files_of_run(Path("out")) == files_of_run(Path("whole"))
    assert not Path("out/.learning.rounds").exists()


@pytest.mark.slow
def test_learning_begins_again_if_a_micrograph_changed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(LearnFirstConfig, "method", property(lambda _: replace(QUICK, rounds=2)))

    with pytest.raises(Stopped):
        run_picking(["in"], "out", settings(), stop_in_the_second_round)
    scenes.write_mrc(Path("in/0.mrc"), scene(7).micrograph.image)
    run_picking(["in"], "whole", settings())
    run_picking(["in"], "out", settings())
    assert files_of_run(Path("out")) == files_of_run(Path("whole"))


def test_learning_does_not_go_on_from_a_round_that_was_discarded(monkeypatch: pytest.MonkeyPatch):
    job = learn_job.LearnJob(load_model(START), DIAMETER, Source(), replace(QUICK, rounds=2), Path("rounds"))
    entries = tuple(find_micrographs(["in"]))
    verdicts = itertools.cycle(["", "too many"])
    monkeypatch.setattr(self_train, "unlikely", lambda *_: next(verdicts))
    whole, again = job(entries), job(entries)  # the second goes on from what the first has left
    assert whole.refusal == again.refusal == ""
    assert weights_digest(whole.model) == weights_digest(again.model)
    assert whole.rounds == again.rounds
    assert len(whole.rounds) == 2


def watch_while_more_arrive(listener: Callable[[RunEvent], None] = lambda _: None) -> None:
    """Two micrographs are there, two more come when these are picked."""
    late = [Path("in", f"{seed}.mrc") for seed in (2, 3)]
    for path in late:
        path.rename(path.name)
    picked: list[RunEvent] = []

    def bring(event: RunEvent) -> None:
        if isinstance(event, Picked):
            picked.append(event)
            for path in late if len(picked) == 2 else []:
                Path(path.name).rename(path)
        listener(event)

    arrivals = ArrivalConfig(settle=0.01, interval=0.01, idle=0.01)
    watch_picking(["in"], "out", settings(arrivals=arrivals), bring)


def test_what_was_learnt_from_few_micrographs_is_learnt_again_from_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learning, "_GROWTH", 2)
    events: list[RunEvent] = []
    watch_while_more_arrive(events.append)
    assert len(learned(events)) == 2
    check_as_learnt_at_once()


def check_as_learnt_at_once() -> None:
    run_picking(["in"], "whole", settings())
    for file in ("out/status.json", "out/learning.json", "whole/learning.json"):
        Path(file).unlink()
    assert files_of_run(Path("out")) == files_of_run(Path("whole"))


@contextmanager
def stopped_before(file: str, learnt: int = 1) -> Iterator[None]:
    """Stop a command before a file takes its place of those that keep what it has learnt for so many times."""
    keep, move, kept = learning._keep, os.replace, itertools.count(1)

    def moved(source: Path, target: Path) -> None:
        if Path(target).name == file:
            raise Stopped
        move(source, target)

    def keep_until(*args: Any, **more: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            if next(kept) == learnt:
                patch.setattr(os, "replace", moved)
            keep(*args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "_keep", keep_until)
        yield


def pick_all() -> None:
    run_picking(["in"], "out", settings())


def watch_all() -> None:
    watch_picking(["in"], "out", settings(arrivals=ArrivalConfig(settle=0.01, interval=0.01, idle=0.01)))


def check_the_report_fits_the_model() -> None:
    report = read_json(Path("out/learning.json"), sealed=True)
    assert weights_of("out") == report["learnt"] == weights_digest(load_model("out/learnt.safetensors"))
    assert {path.name for path in Path("out").glob(".learn*")} <= {".learning.lock"}


AT_EACH_FILE = pytest.mark.parametrize(
    ("file", "following"),
    [
        (".learnt.safetensors", pick_all),
        ("learning.json", pick_all),
        ("learning.json", watch_all),
        ("learnt.safetensors", pick_all),
        ("learnt.safetensors", watch_all),
    ],
)


@AT_EACH_FILE
def test_a_command_that_is_stopped_while_it_keeps_what_it_has_learnt_is_followed_by_any(
    file: str, following: Callable[[], None]
):
    with stopped_before(file), pytest.raises(Stopped):
        following()
    following()
    check_the_report_fits_the_model()


@AT_EACH_FILE
def test_a_command_that_is_stopped_while_it_keeps_what_it_has_learnt_again_is_followed_by_any(
    file: str, following: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(learning, "_GROWTH", 2)
    with stopped_before(file, learnt=2), pytest.raises(Stopped):
        watch_while_more_arrive()
    before = weights_of("out")
    following()
    check_the_report_fits_the_model()
    assert (weights_of("out") == before) == (file != "learnt.safetensors")


def test_a_command_that_is_stopped_before_it_replaces_what_was_learnt_leaves_that():
    run_picking(["in/0.mrc", "in/1.mrc"], "out", settings())
    before = weights_of("out")
    with stopped_before("learning.json"), pytest.raises(Stopped):
        run_picking(["in"], "out", settings(overwrite=True))
    pick_all()
    check_the_report_fits_the_model()
    assert weights_of("out") == before


def test_enough_micrographs_are_learnt_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learning, "_GROWTH", 2)
    monkeypatch.setattr(learning, "_ENOUGH", 2)
    events: list[RunEvent] = []
    watch_while_more_arrive(events.append)
    assert len(learned(events)) == 1


def test_what_more_micrographs_cannot_improve_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learning, "_GROWTH", 2)
    calls: list[int] = []

    def refuse_later(*args: Any, **more: Any) -> Learnt:
        calls.append(1)
        learnt = learn_from_picks(*args, **more)
        return learnt if len(calls) == 1 else replace(learnt, model=args[0], refusal="worse")

    monkeypatch.setattr(learn_job, "learn_from_picks", refuse_later)
    watch_while_more_arrive()
    assert len(calls) == 2
    assert weights_of("out") == weights_digest(load_model("out/learnt.safetensors"))
    assert read_json(Path("out/learning.json"), sealed=True)["of"] == 4
    assert not Path("out/.learning.rounds").exists()


def test_a_folder_that_was_to_start_again_does_so_with_the_next_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learning, "_GROWTH", 2)
    begin = Session.begin

    def stopped(*args: Any, again: bool = False) -> Any:
        if again:
            raise Stopped
        return begin(*args)

    monkeypatch.setattr(Session, "begin", stopped)
    with pytest.raises(Stopped):
        watch_while_more_arrive()
    monkeypatch.setattr(Session, "begin", begin)
    before = weights_of("out")
    run_picking(["in"], "out", settings())
    assert weights_of("out") == weights_digest(load_model("out/learnt.safetensors")) != before
    check_as_learnt_at_once()


@pytest.mark.parametrize("word", ["on", "-1", "1.5", ""])
def test_other_words_for_learning_are_refused(word: str):
    with pytest.raises(InputError, match="choose auto, off or a number"):
        LearnFirstConfig(learn=word)


def test_a_micrograph_that_cannot_be_learnt_from_costs_only_itself():
    scenes.write_mrc(Path("in/-thumbnail.mrc"), scene(0).micrograph.image[:8, :8])  # the first of the sample
    Path("in/torn.mrc").write_bytes(b"nothing")
    result = run_picking(["in"], "out", settings())
    assert (len(result.good), result.failed) == (4, 2)
    assert weights_of("out") != weights_digest(load_model(START))


def test_what_vanishes_while_it_is_looked_at_is_left_out(monkeypatch: pytest.MonkeyPatch):
    def vanish(self: learn_job.LearnJob, entries: Any, progress: Any) -> Learnt:
        Path("in/1.mrc").unlink(missing_ok=True)
        return whole(self, entries, progress)

    whole = learn_job.LearnJob.__call__
    monkeypatch.setattr(learn_job.LearnJob, "__call__", vanish)
    result = run_picking(["in"], "out", settings())
    assert (len(result.good), result.failed) == (3, 1)
    assert weights_of("out") != weights_digest(load_model(START))


def test_a_micrograph_that_takes_too_long_to_read_is_not_learnt_from(monkeypatch: pytest.MonkeyPatch):
    def hang(_: object, entry: MicrographEntry) -> None:
        if entry.path.name == "1.mrc":
            raise TransientError("not finished after 600 s, so given up")

    def note(self: learn_job.LearnJob, entries: tuple[MicrographEntry, ...], *_: Any) -> Learnt:
        learnt_from.extend(entry.path.name for entry in entries)
        return Learnt(self.model, "that is all", 0, 0)

    learnt_from: list[str] = []
    monkeypatch.setattr(learn_job.TryJob, "__call__", hang)
    monkeypatch.setattr(learn_job.LearnJob, "__call__", note)
    assert len(run_picking(["in"], "out", settings()).good) == 4
    assert learnt_from == ["0.mrc", "2.mrc", "3.mrc"]
