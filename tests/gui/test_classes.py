"""Class averages in the application: the job that makes them, what it tells, which classes are kept."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeppicker.formats import read_picks
from deeppicker.gui import job
from deeppicker.gui.project import Wanted
from deeppicker.gui.rounds import JOB, TASK, classify_folder, read_json
from deeppicker.particles.classify.files import read
from served import Client, classified, make_run, project_of, served


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    classified(folder)
    with served(Wanted(inputs=(str(folder / "picks"),))) as client:
        yield client


def test_classes_are_shown_as_classify_wrote_them_and_chosen_as_classify_chooses(client: Client, folder: Path):
    told = client.get("classes")
    assert [(one["number"], one["members"], one["kept"]) for one in told["classes"]] == [
        (1, 6, True), (2, 6, False), (3, 6, True)
    ]  # fmt: skip
    assert (told["picks"], told["kept"]) == (18, 12)
    status, headers, content = client.ask("GET", "/api/classes/2/average")
    assert (status, headers["content-type"], Image.open(io.BytesIO(content)).size) == (200, "image/png", (32, 32))
    again = client.post("classes", keep=[2])
    assert [one["kept"] for one in again["classes"]] == [False, True, False]
    assert again["version"] != told["version"]
    assert client.get("changes")["classes"] == again["version"]
    assert sum(map(len, read_picks(folder / "picks" / "classes" / "kept"))) == 6
    assert client.ask("GET", "/api/classes/table")[2] == (folder / "picks" / "classes" / "classes.csv").read_bytes()
    assert Image.open(io.BytesIO(client.ask("GET", "/api/classes/picture")[2])).format == "PNG"


@pytest.mark.parametrize("keep", [[], [4], ["1"], [True], "1", None])
def test_a_choice_that_is_none_is_refused_and_changes_nothing(client: Client, folder: Path, keep: object):
    before = (folder / "picks" / "classes" / "classes.csv").read_bytes()
    status, _, _ = client.ask("POST", "/api/classes", json.dumps({"keep": keep}).encode())
    assert status in (400, 422)
    assert (folder / "picks" / "classes" / "classes.csv").read_bytes() == before
    assert not (folder / "picks" / "classes" / "kept").exists()


@pytest.mark.parametrize("path", ["gallery?class=9", "classes/0/average", "classes/9/average", "classes/run.json"])
def test_a_class_that_is_not_there_is_an_answer_not_a_crash(client: Client, path: str):
    assert client.ask("GET", f"/api/{path}")[0] in (404, 422)


def test_the_members_of_a_class_come_strongest_first_without_what_was_removed_since(client: Client, folder: Path):
    report = read(folder / "picks" / "classes")
    members = client.get("gallery?class=2")
    positions = np.concatenate([item.positions for item in report.picks])[report.label == 1]
    assert [[item["x"], item["y"]] for item in members["items"]] == positions.tolist()  # as the strengths fall
    assert members["total"] == 6
    one = members["items"][3]
    name = client.get("micrographs")["names"][one["index"]]
    put = {"op": "put", "name": "gone", "kind": "removed", "x": one["x"], "y": one["y"]}
    client.post("edits", micrograph=name, by="tab", edits=[put])
    left = client.get("gallery?class=2")["items"]
    assert left == [item for item in members["items"] if item != one]


def test_a_manual_pick_in_a_class_is_named_so_that_it_can_be_removed(folder: Path):
    project = project_of(folder)
    classified(folder)
    x, y = read(project.classes).picks[1].positions[0].tolist()
    project.log.append("mic1", [{"op": "put", "name": "mine", "kind": "added", "x": x, "y": y}], "tab")
    with served(Wanted(inputs=(str(folder / "picks"),))) as client:
        named = [item.get("name") for item in client.get("gallery?class=1")["items"]]
    assert sorted(filter(None, named)) == ["mine"]


def test_particles_can_be_had_in_the_order_of_defocus(folder: Path):
    rows = [f"{folder}/micrographs/mic{i}.mrc {focus} {focus}\n" for i, focus in enumerate((20000, 5000))]
    table = "data_\nloop_\n_rlnMicrographName #1\n_rlnDefocusU #2\n_rlnDefocusV #3\n"
    (folder / "ctf.star").write_text(table + "".join(rows))
    with served(Wanted(inputs=(str(folder / "picks"),), micrographs=str(folder / "ctf.star"))) as client:
        while client.get("changes")["read"] < 3:
            pass
        items = client.get("gallery?order=defocus&threshold=0.5")["items"]
    assert [item["index"] for item in items] == [1] * 6 + [0] * 6 + [2] * 6
    assert [item["score"] for item in items[:6]] == sorted((item["score"] for item in items[:6]), reverse=True)


def test_the_job_classifies_the_corrected_picks(folder: Path):
    project = project_of(folder)
    x, y = project.automatic(0).positions[0].tolist()
    put = {"op": "put", "name": "out", "kind": "removed", "x": x, "y": y}
    project.log.append("mic0", [put, {**put, "name": "in", "kind": "added", "x": 60.0, "y": 61.0}], "tab")
    work = classify_folder(project.base)
    work.mkdir(parents=True)
    (work / TASK).write_text(job.task_of(project.wanted, "classify"))
    job.main(work)
    told = read_json(work / JOB)
    assert told["state"] == "done", told
    report = read(project.classes)
    assert len(report.label) == 18
    assert [60.0, 61.0] in report.picks[0].positions.tolist()
    assert [x, y] not in report.picks[0].positions.tolist()
    assert (told["step"], told["done"]) == ("classifying", 20)


def test_too_few_picks_for_classes_say_so(folder: Path):
    make_run(folder / "few", 1, threshold=1.0)
    project = project_of(folder / "few")
    work = classify_folder(project.base)
    work.mkdir(parents=True)
    (work / TASK).write_text(job.task_of(project.wanted, "classify"))
    assert job.main(work) == 2
    assert "no particle" in read_json(work / JOB)["error"]
    assert not project.classes.exists()
