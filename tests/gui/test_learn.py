"""Learning from corrections as a job: what it is told, what it tells, what is accepted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deeppicker import device
from deeppicker.config import SelectConfig
from deeppicker.core import Picks
from deeppicker.device import Card, Offer
from deeppicker.errors import InputError
from deeppicker.formats import read_picks
from deeppicker.gui import job, learn
from deeppicker.gui.answers import advice
from deeppicker.gui.edits import EDITS, EditLog
from deeppicker.gui.jobs import Jobs
from deeppicker.gui.project import Project
from deeppicker.gui.rounds import JOB, PICKS, TASK, TRAIN, current, looked_at, read_json, round_folder
from deeppicker.gui.scores import Scores
from deeppicker.gui.teller import Teller
from deeppicker.runs.events import Progressed
from deeppicker.runs.folder import RunFolder
from served import SETTINGS, candidates_of, make_run, project_of

COMPLETE = {"op": "complete", "value": True}


def correct(project: Project, *names: str) -> None:
    """Add one pick, remove another, and mark as complete."""
    for name in names:
        x, y = project.automatic(project.index(name)).positions[0].tolist()
        put = {"op": "put", "name": "out", "kind": "removed", "x": x, "y": y}
        project.log.append(name, [put, {**put, "name": "in", "kind": "added", "x": 33.0, "y": 44.0}, COMPLETE], "tab")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stand in for training and picking, which have their own tests: the new picks are right."""
    trained: list[Path] = []

    def train(_project: Project, taught: list[Picks], teller: Teller) -> Path:
        trained.extend(Path(picks.micrograph) for picks in taught)
        return teller.folder / "model.safetensors"

    def pick(project: Project, _model: Path | None, teller: Teller) -> None:
        run = RunFolder(teller.folder / PICKS, SETTINGS, SelectConfig(threshold=0.4))
        for place, entry in enumerate(project.entries):
            teller.hear(Progressed("picking", place, len(project.entries)))
            kept, manual = project.final(place, project.select)
            found = np.concatenate([kept.positions, manual.positions, [[150.0 + place, 20.0]]])
            run.store(Picks(entry.name, found, np.full(len(found), 0.9)), 0.1)
        run.finish([entry.name for entry in project.entries])

    monkeypatch.setattr(learn, "_train", train)
    monkeypatch.setattr(learn, "pick", pick)
    return trained


def do(project: Project, number: int = 1) -> dict[str, Any]:
    """Do a job in this process, and return what it tells."""
    folder = round_folder(project.base, number)
    folder.mkdir(parents=True)
    (folder / TASK).write_text(job.task_of(project.wanted, "learn"))
    job.main(folder)
    return read_json(folder / JOB)


def test_of_three_complete_micrographs_one_is_kept_out_and_measures_the_gain(tmp_path: Path, quick: list[Path]):
    make_run(tmp_path, 4)
    project = project_of(tmp_path)
    correct(project, "mic0", "mic1", "mic3")
    told = do(project)
    assert told["state"] == "done", told
    assert [path.stem for path in quick] == ["mic0", "mic1"]
    assert told["held"] == ["mic3"]
    assert told["before"]["recall"] < told["after"]["recall"] == 1.0
    assert told["picksAfter"] == told["picksBefore"] + 4


def test_nothing_complete_is_nothing_to_learn_from_and_says_so(tmp_path: Path):
    make_run(tmp_path)
    told = do(project_of(tmp_path))
    assert (told["state"], "marked as complete" in told["error"]) == ("failed", True)


def test_all_corrected_picks_of_complete_micrographs_are_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_run(tmp_path)
    project = project_of(tmp_path)
    correct(project, "mic1")
    seen: dict[str, Any] = {}

    def adapt(model: Any, dataset: Any, _config: Any, output: Path, tell: Any, *, complete: bool) -> None:
        seen.update(device=model.device, dataset=dataset, output=output, complete=complete)
        for step in range(1, 21):
            tell(step, 20, float(step))

    import deeppicker.training.few_labels

    monkeypatch.setattr(deeppicker.training.few_labels, "adapt_to_few", adapt)
    cards = tuple(Card("Card", free, 80 * 10**9) for free in (4 * 10**9, 70 * 10**9))
    monkeypatch.setattr(device, "offered", lambda: Offer(cards))
    teller = Teller(tmp_path)
    learn._train(project, [learn._truth(project, project.index("mic1"))], teller)
    kept, manual = project.final(project.index("mic1"), project.select)
    (labelled,) = seen["dataset"].micrographs
    assert labelled.picks.positions.tolist() == [*kept.positions.tolist(), *manual.positions.tolist()]
    assert np.isnan(labelled.picks.scores).all()
    assert seen["dataset"].diameter == project.diameter
    assert seen["complete"]
    assert seen["device"] == "cuda:1"  # that with most free memory
    assert teller.values["done"] == teller.values["total"] == 20
    assert [entry["loss"] for entry in teller.values["history"]] == [1.5 + 2 * i for i in range(10)]
    assert len(read_picks(tmp_path / TRAIN)) == 1


def test_limits_of_contrast_hold_for_what_is_taught_and_for_the_new_picks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = make_run(tmp_path)
    names = [str(tmp_path / "micrographs" / item.micrograph.name) for item in made]
    RunFolder(tmp_path / "picks", SETTINGS, SelectConfig(threshold=0.3, min_contrast=0.5)).finish(names)
    project = project_of(tmp_path)
    x, y = next(iter(candidates_of(made[1], "").positions.tolist()))  # of the highest score, and of contrast 0.2
    settled = {"op": "put", "name": "back", "kind": "added", "x": x, "y": y}
    project.log.append("mic1", [settled, COMPLETE], "tab")
    candidates = candidates_of(made[1], "")
    assert candidates.contrast is not None
    good = (candidates.scores >= 0.3) & (candidates.contrast >= 0.5)
    taught = {tuple(place) for place in learn._truth(project, project.index("mic1")).positions.tolist()}
    assert taught == {(x, y), *map(tuple, candidates.positions[good].tolist())}
    asked: list[Any] = []

    def run_picking(_names: object, output: Path, config: Any, _hear: object) -> Any:
        asked.append(config)
        run = RunFolder(output, SETTINGS, SelectConfig(threshold=0.2, min_contrast=config.select.min_contrast))
        for item, name in zip(made, names, strict=True):
            run.store(candidates_of(item, name), 0.1)
        run.finish(names)
        return SimpleNamespace(good=3)

    monkeypatch.setattr("deeppicker.runs.run.run_picking", run_picking)
    monkeypatch.setattr(learn, "_train", lambda *_: Path("general"))
    told = do(project)
    assert told["state"] == "done", told
    assert asked[0].select == SelectConfig(min_contrast=0.5)
    assert Jobs(project).do("accept")
    again = project_of(tmp_path)
    assert again.select == SelectConfig(threshold=0.2, min_contrast=0.5)
    kept, _ = again.final(again.index("mic0"), again.select)
    assert kept.contrast is not None
    assert kept.contrast.min() >= 0.5
    assert told["picksAfter"] == sum(len(item) for item in read_picks(round_folder(tmp_path / "picks", 1) / PICKS))


def test_accepted_picks_keep_what_was_corrected_and_one_can_go_back(tmp_path: Path, quick: list[Path]):
    made = make_run(tmp_path)
    project = project_of(tmp_path)
    correct(project, "mic0")
    settled = [picks.positions.tolist() for picks in project.final(0, project.select)]
    assert do(project)["state"] == "done"
    assert quick
    jobs = Jobs(project)
    assert jobs.do("accept") is True
    again = project_of(tmp_path)
    assert again.folder == looked_at(tmp_path / "picks") == round_folder(tmp_path / "picks", 1) / PICKS
    kept, manual = again.final(again.index("mic0"), again.select)
    assert len(kept) == 0
    assert sorted(manual.positions.tolist()) == sorted(settled[0] + settled[1])
    kept, _ = again.final(again.index("mic1"), again.select)
    assert [151.0, 20.0] in kept.positions.tolist()
    assert len(candidates_of(made[1], "")) > 0
    assert Jobs(again).do("back") is True
    assert current(tmp_path / "picks") is None
    assert project_of(tmp_path).final(0, SelectConfig(threshold=0.5))[0].positions.tolist() == settled[0]


def test_what_a_crash_cut_short_while_picks_were_accepted_is_done_anew(
    tmp_path: Path, quick: list[Path], monkeypatch: pytest.MonkeyPatch
):
    make_run(tmp_path)
    project = project_of(tmp_path)
    correct(project, "mic0", "mic1")
    do(project)
    append = EditLog.append

    def crash(log: EditLog, key: str, *rest: Any) -> int:
        if key == "mic1":
            raise KeyboardInterrupt
        return append(log, key, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(EditLog, "append", crash)
        with pytest.raises(KeyboardInterrupt):
            Jobs(project).do("accept")
    assert current(tmp_path / "picks") is None
    Jobs(project).do("accept")
    assert [project_of(tmp_path).log.of(f"mic{number}").complete for number in range(3)] == [True, True, False]
    assert len(quick) == 2


def test_a_job_is_one_process_that_outlives_the_server_and_can_be_cancelled(tmp_path: Path):
    make_run(tmp_path)
    jobs = Jobs(project_of(tmp_path))
    assert jobs.state() is None
    folder = round_folder(tmp_path / "picks", 1)
    folder.mkdir(parents=True)
    program = "import signal, sys; print('up', flush=True); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    (folder / JOB).write_text(json.dumps({"state": "running", "kind": "learn", "pid": child.pid, "done": 2}))
    later = Jobs(project_of(tmp_path))  # as after a restart
    state = later.state()
    assert state is not None
    assert (state["state"], state["done"], state["round"]) == ("running", 2, 1)
    with pytest.raises(InputError, match="a job is running"):
        later.do("learn")
    later.do("cancel")
    assert child.wait() == -signal.SIGTERM
    child.stdout.close()
    ended = later.state()
    assert ended is not None
    assert (ended["state"], "was ended" in ended["error"]) == ("failed", True)


def test_a_number_that_the_system_gave_to_another_process_is_no_job(tmp_path: Path):
    make_run(tmp_path)
    folder = round_folder(tmp_path / "picks", 1)
    folder.mkdir(parents=True)
    (folder / JOB).write_text(json.dumps({"state": "running", "kind": "learn", "pid": os.getpid()}))
    state = Jobs(project_of(tmp_path)).state()
    assert state is not None
    assert state["state"] == "failed"
    with pytest.raises(InputError, match="cannot be done now"):
        Jobs(project_of(tmp_path)).do("accept")


def test_the_time_left_follows_from_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("deeppicker.gui.teller.time.monotonic", lambda: next(clock))
    teller = Teller(tmp_path)
    teller.hear(Progressed("picking", 0, 8))
    teller.hear(Progressed("picking", 2, 8))
    assert read_json(tmp_path / JOB) == {"step": "picking", "done": 2, "total": 8, "left": 30.0}


def test_advice_takes_the_most_uncertain_of_each_range_of_defocus_in_turn(tmp_path: Path):
    make_run(tmp_path, 4)
    table = "data_\nloop_\n_rlnMicrographName #1\n_rlnDefocusU #2\n_rlnDefocusV #3\n"
    rows = [
        f"{tmp_path}/micrographs/mic{i}.mrc {focus} {focus}\n" for i, focus in enumerate((5000, 5100, 20000, 30000))
    ]
    (tmp_path / "ctf.star").write_text(table + "".join(rows))
    project = project_of(tmp_path, micrographs=str(tmp_path / "ctf.star"))
    scores = Scores(project)
    scores.read()
    scores.doubt = [3.0, 2.9, 2.0, 1.0]
    assert advice(project, scores)[0] == 0
    project.log.append("mic0", [COMPLETE], "tab")
    assert 0 not in advice(project, scores)
    assert sorted(advice(project, scores)) == [1, 2, 3]
    assert EditLog(tmp_path / "picks" / EDITS).of("mic0").complete
