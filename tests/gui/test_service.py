"""What the service answers about a run, and what it writes, is what the library says."""

import csv
import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeppicker.cli.main import main
from deeppicker.config import SelectConfig
from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.formats import read_picks, write_picks
from deeppicker.formats.relion import star
from deeppicker.gui.edits import EDITS, EditLog
from deeppicker.gui.project import Project, Wanted
from deeppicker.runs.folder import RunFolder
from scenes import files_of_run
from served import DIAMETER, HEIGHT, PIXEL_SIZE, SETTINGS, WIDTH, Client, candidates_of, make_run, served


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with served(Wanted(inputs=(str(folder / "picks"),), reference=folder / "particles.star")) as client:
        settle(client)
        yield client


def settle(client: Client) -> None:
    """Wait until all scores are read."""
    while client.get("changes")["read"] < client.get("changes")["micrographs"]:
        pass


def put(kind: str, x: float, y: float, name: str = "one") -> dict[str, object]:
    return {"op": "put", "name": name, "kind": kind, "x": x, "y": y}


def test_all_modules_of_the_page_are_fetched_at_once():
    static = files("deeppicker.gui") / "static"
    page = (static / "index.html").read_text(encoding="utf-8")
    modules = {item.name for item in static.iterdir() if item.name.endswith(".js")}
    assert set(re.findall(r'(?:modulepreload"|module") (?:href|src)="static/(\w+\.js)"', page)) == modules


def test_the_list_says_of_each_micrograph_what_its_record_says(client: Client, folder: Path):
    listed = client.get("micrographs")
    with (folder / "picks" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert listed["names"] == ["mic0", "mic1", "mic2"]
    assert listed["picks"] == [int(row["picks"]) for row in rows]
    expected = [float(row["right"]) / int(row["picks"]) for row in rows]
    assert listed["precision"] == pytest.approx(expected, abs=2e-3)
    assert listed["ice"] == pytest.approx([46 / HEIGHT] * 3, abs=1e-3)
    assert all(doubt > 0 for doubt in listed["doubt"])


def test_a_micrograph_comes_with_all_that_is_drawn_on_it(client: Client, folder: Path):
    made = make_run(folder / "again", 1)[0]
    one = client.get("micrographs/0")
    assert (one["width"], one["height"], one["pixelSize"]) == (WIDTH, HEIGHT, PIXEL_SIZE)
    drawn = np.column_stack([one["candidates"]["x"], one["candidates"]["y"]])
    assert np.allclose(drawn, candidates_of(made, "").sorted().positions, atol=0.006)
    assert one["rejected"]["reason"] == ["contamination"]
    assert len(one["reference"]["x"]) == 16
    status, headers, content = client.ask("GET", f"/api/micrographs/0/image?factor={one['factor']}&flat=20")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(content)).size == (WIDTH, HEIGHT)
    assert Image.open(io.BytesIO(client.ask("GET", "/api/micrographs/0/mask")[2])).size == (WIDTH, HEIGHT)
    for picture in ("thumbnail", "crop?x=100&y=90", "tile/1/0/0?factor=1&flat=30"):
        assert Image.open(io.BytesIO(client.ask("GET", f"/api/micrographs/0/{picture}")[2])).mode == "L"


@pytest.mark.parametrize("limits", [{}, {"min_contrast": 0.5}, {"min_contrast": 0.45, "max_contrast": 1.0}])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.62, 1.0])
def test_a_selection_counts_as_that_of_a_run_does(
    client: Client, folder: Path, threshold: float, limits: dict[str, float]
):
    told = client.get(f"selection?threshold={threshold}" + "".join(f"&{name}={v}" for name, v in limits.items()))
    run = RunFolder(folder / "picks", SETTINGS, SelectConfig(threshold=threshold, **limits))
    run.finish([row.micrograph for row in run.rows])
    assert told["counts"] == [row.picks for row in run.rows]
    assert told["picks"] == sum(row.picks for row in run.rows)
    particles = sum(row.particles for row in run.rows)
    right = sum(row.right for row in run.rows)
    assert told["recall"] == pytest.approx(right / particles)
    assert told["precision"] == (pytest.approx(right / told["picks"]) if told["picks"] else None)


def test_applying_a_threshold_leaves_the_files_of_a_run_with_that_threshold(
    client: Client, folder: Path, tmp_path: Path
):
    other = tmp_path / "other"
    shutil.copytree(folder / "picks", other / "picks")
    assert client.post("threshold", threshold=0.7) == {"threshold": 0.7, "minContrast": None, "maxContrast": None}
    run = RunFolder(other / "picks", SETTINGS, SelectConfig(threshold=0.7))
    run.finish([row.micrograph for row in run.rows])
    mine, theirs = files_of_run(folder / "picks"), files_of_run(other / "picks")
    theirs["autopick.star"] = str(theirs["autopick.star"]).replace(f"{other}/", f"{folder}/")
    assert mine == theirs
    assert client.get("project")["threshold"] == 0.7


def test_applied_limits_of_contrast_hold_for_all_files_and_for_what_is_shown(client: Client, folder: Path):
    asked = {"threshold": 0.3, "min_contrast": 0.5, "max_contrast": 1.0}
    expected = client.get("selection?threshold=0.3&min_contrast=0.5&max_contrast=1.0")
    assert sum(expected["contrast"]) == client.get("selection?threshold=0.3")["picks"] > expected["picks"] > 0
    assert client.post("threshold", **asked) == {"threshold": 0.3, "minContrast": 0.5, "maxContrast": 1.0}
    assert [len(item) for item in read_picks(folder / "picks")] == expected["counts"]
    assert client.get("changes")["minContrast"] == client.get("project")["minContrast"] == 0.5
    rows = client.ask("GET", "/api/export?what=automatic&format=tsv")[2].splitlines()
    assert len(rows) - 1 == expected["picks"]
    one = client.get("micrographs/0")["candidates"]
    kept = [s >= 0.3 and 0.5 <= c <= 1.0 for s, c in zip(one["score"], one["contrast"], strict=True)]
    drawn = client.ask("GET", "/api/micrographs/0/drawing")[2].count(b"<circle")
    assert drawn == sum(kept) == expected["counts"][0]
    out = client.get("gallery?order=filtered&threshold=0.3&min_contrast=0.5&max_contrast=1.0")
    assert out["total"] == sum(expected["contrast"]) - expected["picks"]
    faint = client.get("gallery?order=faint&threshold=0.3")["items"]
    where = dict(zip(zip(one["x"], one["y"], strict=True), one["contrast"], strict=True))
    contrasts = [where[item["x"], item["y"]] for item in faint if item["index"] == 0]
    assert contrasts == sorted(contrasts)
    for bad in ({"min_contrast": "low"}, {"min_contrast": 2, "max_contrast": 1}, {"max_contrast": 1e9}):
        assert client.ask("POST", "/api/threshold", json.dumps({"threshold": 0.3, **bad}).encode())[0] == 422


def test_a_run_from_before_contrast_was_measured_is_shown_without_it(folder: Path):
    for path in (folder / "picks").glob("candidates/*_candidates.star"):
        found, rejected, reasons = star.read_candidates(path)
        path.write_text(star.candidates_text(replace(found, contrast=None), rejected, reasons))
    with served(Wanted(inputs=(str(folder / "picks"),))) as client:
        settle(client)
        assert client.get("histogram")["contrast"] is None
        assert "contrast" not in client.get("micrographs/0")["candidates"]
        assert client.get("selection?threshold=0.5")["picks"] == 18


def test_a_number_of_picks_that_was_asked_for_is_what_is_shown(folder: Path):
    names = [str(folder / "micrographs" / f"mic{number}.mrc") for number in range(3)]
    RunFolder(folder / "picks", SETTINGS, SelectConfig(num_particles=9)).finish(names)
    project = Project(Wanted(inputs=(str(folder / "picks"),)))
    shown = [project.final(index, project.select)[0] for index in range(3)]
    assert [len(item) for item in shown] == [len(item) for item in read_picks(folder / "picks")]
    assert sum(map(len, shown)) == 9


def test_corrections_change_what_is_exported_and_tell_hand_and_machine_apart(client: Client):
    one = client.get("micrographs/1")
    x, y = one["candidates"]["x"][0], one["candidates"]["y"][0]
    answer = client.post(
        "edits", micrograph="mic1", by="tab", edits=[put("removed", x, y), put("added", 33.5, 44.25, "two")]
    )
    assert answer["hidden"] == [0]
    assert client.get("micrographs/1")["added"] == {"two": [33.5, 44.25]}
    before = client.get("selection?threshold=0.5")["picks"]
    content = client.ask("GET", "/api/export?what=all&format=csv")[2]
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert len(rows) == before  # one more, one less
    by_hand = [row for row in rows if not row["score"]]
    assert [(float(row["x"]), float(row["y"])) for row in by_hand] == [(33.5, 44.25)]
    counts = {
        what: len(client.ask("GET", f"/api/export?what={what}&format=tsv")[2].splitlines()) - 1
        for what in ("automatic", "manual", "removed")
    }
    assert counts == {"automatic": before - 1, "manual": 1, "removed": 1}


@pytest.mark.parametrize("kind", ["star", "cs", "csv", "tsv", "relion", "box", "cbox", "json", "pos", "automatch"])
def test_every_format_of_convert_can_be_had_and_read_again(client: Client, tmp_path: Path, kind: str):
    status, headers, content = client.ask("GET", f"/api/export?what=all&format={kind}")
    assert status == 200, content
    name = headers["content-disposition"].split('"')[1]
    (tmp_path / name).write_bytes(content)
    path = tmp_path / name
    if name.endswith(".zip"):
        zipfile.ZipFile(path).extractall(tmp_path / "unpacked")
        path = next((tmp_path / "unpacked").iterdir())
        if kind == "relion":
            (path / "autopick.star").unlink()  # names the files from where they were written
    read = read_picks(path)
    assert sum(len(item) for item in read) == client.get("selection?threshold=0.5")["picks"]


def test_writing_to_the_run_folder_leaves_what_relion_and_adapt_read(client: Client, folder: Path):
    client.post("edits", micrograph="mic0", by="tab", edits=[put("added", 20, 30), {"op": "complete", "value": True}])
    assert client.post("save")["folder"] == str(folder / "picks" / "corrected")
    corrected = folder / "picks" / "corrected"
    total = client.get("selection?threshold=0.5")["picks"] + 1
    assert sum(len(item) for item in read_picks(corrected)) == total
    assert [len(item) for item in read_picks(corrected / "manual")] == [1, 0, 0]
    about = json.loads((corrected / "complete.json").read_text())
    assert [Path(name).name for name in about["complete"]] == ["mic0.mrc"]
    assert about["diameter"] == DIAMETER


def test_marks_survive_a_new_run_and_bind_it(client: Client, folder: Path):
    one = client.get("micrographs/0")
    x, y = one["candidates"]["x"][2], one["candidates"]["y"][2]
    client.post("edits", micrograph="mic0", by="tab", edits=[put("removed", x, y)])
    files = {path: path.read_bytes() for path in (folder / "picks").glob("*.jsonl")}
    run = RunFolder(folder / "picks", SETTINGS, SelectConfig(threshold=0.2), overwrite=True)
    run.store(
        Picks(str(folder / "micrographs" / "mic0.mrc"), np.array([[x + 2, y - 1], [15.0, 15.0]]), np.array([0.9, 0.8])),
        0.0,
    )
    run.finish([])
    assert {path: path.read_bytes() for path in files} == files
    again = Project(Wanted(inputs=(str(folder / "picks"),)))
    kept, manual = again.final(again.index("mic0"), again.select)
    assert kept.positions.tolist() == [[15.0, 15.0]]
    assert len(manual) == 0


def test_agreement_with_the_reference_is_that_of_evaluate(client: Client, folder: Path, tmp_path: Path):
    told = [client.get(f"micrographs/{index}/agreement?threshold=0.5") for index in range(3)]
    json_file = tmp_path / "numbers.json"
    reference = str(folder / "particles.star")
    assert main(["evaluate", "--picks", str(folder / "picks"), "--reference", reference, "--json", str(json_file)]) == 0
    pooled = json.loads(json_file.read_text())["pooled"]
    matched = sum(len(one["matched"]) for one in told)
    assert matched / (matched + sum(len(one["false"]) for one in told)) == pytest.approx(pooled["precision"])
    assert matched / (matched + sum(len(one["missed"]) for one in told)) == pytest.approx(pooled["recall"])


def test_a_run_that_goes_on_is_followed(client: Client, folder: Path):
    before = client.get("changes")
    made = make_run(folder / "more", 5)[4]
    target = folder / "micrographs" / "mic4.mrc"
    shutil.copy(folder / "more" / "micrographs" / "mic4.mrc", target)
    run = RunFolder(folder / "picks", SETTINGS, SelectConfig(threshold=0.5))
    run.store(candidates_of(made, str(target)), 0.1)
    while client.get("changes")["micrographs"] == before["micrographs"]:
        pass
    assert client.get("micrographs")["names"] == ["mic0", "mic1", "mic2", "mic4"]


def test_bare_micrographs_can_be_picked_from_nothing(folder: Path, tmp_path: Path):
    wanted = Wanted(inputs=(str(folder / "micrographs"),), output=tmp_path / "mine", diameter=DIAMETER)
    with served(wanted) as client:
        assert client.get("project")["run"] is False
        assert client.get("micrographs/2")["candidates"]["x"] == []
        client.post("edits", micrograph="mic2", by="tab", edits=[put("added", 50, 60)])
        content = client.ask("GET", "/api/export?what=all&format=csv")[2]
    assert len(content.splitlines()) == 2
    assert (tmp_path / "mine" / EDITS).is_file()


def test_somebody_elses_coordinates_are_shown_in_place_of_a_run(folder: Path, tmp_path: Path):
    write_picks(tmp_path / "other.csv", [Picks.unscored("mic1", np.array([[30.0, 40.0], [70.0, 80.0]]))])
    with served(
        Wanted(
            inputs=(str(folder / "micrographs"),),
            output=tmp_path / "x",
            picks=tmp_path / "other.csv",
            diameter=DIAMETER,
        )
    ) as client:
        assert client.get("micrographs/1")["candidates"] == {"x": [30, 70], "y": [40, 80], "score": [None, None]}
        assert client.get("micrographs/0")["candidates"]["x"] == []
        assert client.get("micrographs")["picks"] == [0, 2, 0]
        settle(client)
        items = client.get("gallery?order=best")["items"]
        assert [(item["index"], item["x"], item["score"]) for item in items] == [(1, 30, None), (1, 70, None)]
        titles = [plot["title"] for plot in client.get("statistics")["plots"]]
        assert "Picks of each micrograph" in titles
        assert "Scores of all candidates" not in titles
        assert client.ask("POST", "/api/threshold", b'{"threshold": 0.5}')[0] == 422


def test_what_cannot_be_read_is_said_where_it_is_shown_and_the_rest_works(client: Client, folder: Path):
    (folder / "micrographs" / "mic1.mrc").write_bytes(b"nonsense")
    status, _, content = client.ask("GET", "/api/micrographs/1/image")
    assert status == 422
    assert "mic1.mrc" in json.loads(content)["error"]
    assert client.ask("GET", "/api/micrographs/0/image")[0] == 200


def test_an_edit_that_cannot_be_written_now_is_to_be_sent_again(client: Client, folder: Path):
    (folder / "picks" / EDITS).mkdir()
    body = json.dumps({"micrograph": "mic0", "by": "tab", "edits": [put("added", 20, 30)]}).encode()
    status, _, content = client.ask("POST", "/api/edits", body)
    assert (status, EDITS in json.loads(content)["error"]) == (503, True)
    (folder / "picks" / EDITS).rmdir()
    assert client.ask("POST", "/api/edits", body)[0] == 200


def test_damage_to_the_log_and_a_run_that_is_gone_are_said(folder: Path):
    EditLog(folder / "picks" / EDITS).append("mic0", [put("added", 20, 30)], "tab")
    whole = (folder / "picks" / EDITS).read_bytes()
    (folder / "picks" / EDITS).write_bytes(whole.replace(b"20.0", b"21.0"))
    with served(Wanted(inputs=(str(folder / "picks"),))) as client:
        assert "1 of its 1 lines torn or damaged" in client.get("changes")["trouble"]
        assert client.get("micrographs/0")["added"] == {}
        (folder / "picks").rename(folder / "away")
        assert "is gone" in client.get("changes")["trouble"]
        body = json.dumps({"micrograph": "mic0", "by": "tab", "edits": [put("added", 5, 5)]}).encode()
        assert client.ask("POST", "/api/edits", body)[0] == 503
        assert not (folder / "picks").exists()
        (folder / "away").rename(folder / "picks")
        assert client.ask("POST", "/api/edits", body)[0] == 200
        assert "torn or damaged" in client.get("changes")["trouble"]


def test_an_empty_folder_is_waited_at_for_a_run(tmp_path: Path):
    (tmp_path / "picks").mkdir()
    with served(Wanted(inputs=(str(tmp_path / "picks"),))) as client:
        assert client.get("micrographs")["names"] == []
        assert client.get("project")["diameter"] is None
        made = make_run(tmp_path)
        while len(client.get("micrographs")["names"]) < len(made):
            pass
        assert client.get("changes")["diameter"] == DIAMETER
        assert client.get("micrographs/0")["candidates"]["x"]


def test_a_folder_without_micrographs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no images"):
        Project(Wanted(inputs=(str(tmp_path),)))
    assert main(["gui", "--no-browser"]) == 2
    assert "nothing is given to look at" in capsys.readouterr().err


def test_a_run_whose_records_are_lost_is_shown_all_the_same(folder: Path):
    shutil.rmtree(folder / "picks" / "records")
    project = Project(Wanted(inputs=(str(folder / "picks"),)))
    assert [project.key(index) for index in range(3)] == ["mic0", "mic1", "mic2"]
    assert len(project.final(1, SelectConfig(threshold=0.5))[0]) == 6


def test_the_gallery_begins_with_the_least_certain_picks_and_leaves_out_what_was_removed(client: Client):
    def scores(order: str) -> list[float]:
        return [item["score"] for item in client.get(f"gallery?order={order}&threshold=0.5")["items"]]

    doubtful = scores("doubtful")
    assert doubtful == sorted(doubtful)
    assert len(doubtful) == client.get("selection?threshold=0.5")["picks"]
    assert scores("best") == doubtful[::-1]
    assert scores("below")[0] < 0.5
    first = client.get("gallery?order=doubtful&threshold=0.5")["items"][0]
    one = client.get(f"micrographs/{first['index']}")
    assert first["x"] in one["candidates"]["x"]
    client.post("edits", micrograph=one["name"], by="tab", edits=[put("removed", first["x"], first["y"])])
    assert len(scores("doubtful")) == len(doubtful) - 1
