"""Runs as an External job of RELION, without RELION: marks, output nodes, layout, abort."""

from pathlib import Path

import numpy as np
import pytest

import scenes
from deeppicker.cli import pick
from deeppicker.cli.main import main
from deeppicker.formats import read_picks
from deeppicker.formats.relion.pipeline import ABORT_NOW, ABORTED, FAILURE, SUCCESS, coordinate_file, lay_out, relion_of
from deeppicker.formats.relion.star import write_autopick
from deeppicker.formats.star_table import read_tables
from deeppicker.networks.model import save_model
from deeppicker.runs.results import Row

JOB = "External/job005/"
MARKS = {ABORTED, FAILURE, SUCCESS, ABORT_NOW}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(scenes.trained(), path)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with motion-corrected micrographs; the current one."""
    monkeypatch.chdir(tmp_path)
    names = [f"MotionCorr/job002/Movies/mic_{seed}.mrc" for seed in range(3)]
    for seed, name in enumerate(names):
        scenes.write_mrc(tmp_path / name, scenes.scene(seed).micrograph.image)
    rows = "\n".join(f"{name} 1" for name in names)
    (tmp_path / "mics.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n1 3.0\n\n"
        f"data_micrographs\n\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\n{rows}\n"
    )
    return tmp_path


def job(model: Path, *words: str) -> int:
    start = ["relion", "--in_mics", "mics.star", "--o", JOB, "--j", "1", "--workers", "0"]
    return main([*start, "--model", str(model), "--diameter", "72", "--quiet", *words])


def marks(project: Path) -> set[str]:
    return {path.name for path in (project / JOB).iterdir()} & MARKS


def write_pipeline(project: Path, *nodes: str, column: str = "rlnPipeLineNodeTypeLabel") -> None:
    head = f"data_pipeline_nodes\n\nloop_\n_rlnPipeLineNodeName #1\n_{column} #2\n"
    (project / "default_pipeline.star").write_text(head + "".join(f"Import/job001/{node}\n" for node in nodes))


PIPELINES = [
    ("rlnPipeLineNodeType", "m.star 1", 3, "coordinates/coords_suffix_autopick.star", "2"),
    ("rlnPipeLineNodeTypeLabel", "m.star MicrographsData.star.relion", 4, "autopick.star", None),
    ("rlnPipeLineNodeTypeLabel", "m.star MicrographGroupMetadata.star.relion", 5, "autopick.star", None),
]
LABELS = {4: "MicrographsCoords.star.relion.autopick", 5: "MicrographCoordsGroup.star.relion.autopick"}


@pytest.mark.parametrize(("column", "node", "version", "file", "kind"), PIPELINES, ids=["3.1", "4", "5"])
def test_the_output_nodes_are_those_of_the_projects_version(
    project: Path, model: Path, column: str, node: str, version: int, file: str, kind: str | None
):
    write_pipeline(project, node, column=column)
    assert job(model) == 0
    assert marks(project) == {SUCCESS}
    (nodes,) = read_tables(project / JOB / "RELION_OUTPUT_NODES.star")
    assert nodes.name == "output_nodes"
    assert {label: list(values) for label, values in nodes.columns.items()} == {
        "rlnPipeLineNodeName": [JOB + file],
        column: [kind or LABELS[version]],
    }
    assert (project / JOB / file).is_file()


def test_a_project_whose_pipeline_is_not_known_is_taken_for_the_latest(tmp_path: Path):
    assert relion_of(tmp_path) == 5
    (tmp_path / "default_pipeline.star").write_text("data_pipeline_general\n\n_rlnPipeLineJobCounter 1\n")
    assert relion_of(tmp_path) == 5


def test_coordinates_lie_where_relion_3_1_looks_for_them(project: Path, model: Path):
    assert job(model, "--pipeline_control", JOB) == 0
    folder = project / JOB / "coordinates"
    assert (folder / "coords_suffix_autopick.star").read_text() == "mics.star\n"
    for picks in read_picks(project / JOB):
        laid_out = read_picks(folder / coordinate_file(picks.micrograph))
        np.testing.assert_array_equal(laid_out[0].positions, picks.positions)
    assert job(model, "--threshold", "0.99") == 0  # the links follow a new selection
    for picks in read_picks(project / JOB):
        assert len(read_picks(folder / coordinate_file(picks.micrograph))[0]) == len(picks)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MotionCorr/job002/Movies/a.b.mrc", "Movies/a.b_autopick.star"),
        ("Micrographs/a.mrc", "Micrographs/a_autopick.star"),
        ("a.mrc", "a_autopick.star"),
        ("MotionCorr/jobs/a.mrc", "MotionCorr/jobs/a_autopick.star"),
    ],
)
def test_where_relion_3_1_looks(name: str, expected: str):
    assert coordinate_file(name) == expected


def test_files_take_the_place_of_links_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    (tmp_path / "a_autopick.star").write_text("one")
    write_autopick(tmp_path / "autopick.star", [("mics/a.mrc", "job/a_autopick.star"), ("../b.mrc", "job/b.star")])
    assert lay_out(tmp_path, "mics.star") == ["../b.mrc"]
    copy = tmp_path / "coordinates" / "mics" / "a_autopick.star"
    assert copy.read_text() == "one"
    (tmp_path / "a_autopick.star").write_text("two")
    lay_out(tmp_path, "mics.star")
    assert copy.read_text() == "two"
    assert not (tmp_path / "coordinates" / ".." / "b_autopick.star").exists()


def test_an_abort_is_honoured_after_the_micrograph_at_hand_and_the_job_continues(
    project: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    show_row = pick.Show.row

    def abort_at_the_first(show: pick.Show, row: Row) -> None:
        (project / JOB / ABORT_NOW).touch()
        show_row(show, row)

    monkeypatch.setattr(pick.Show, "row", abort_at_the_first)
    assert job(model) == 0
    assert marks(project) == {ABORTED}
    assert "told to stop" in capsys.readouterr().err
    assert len(read_picks(project / JOB)) == 1
    monkeypatch.undo()
    monkeypatch.chdir(project)
    first = (project / JOB / "mic_0_autopick.star").stat().st_mtime_ns
    assert job(model) == 0
    assert marks(project) == {SUCCESS}
    assert len(read_picks(project / JOB)) == 3
    assert (project / JOB / "mic_0_autopick.star").stat().st_mtime_ns == first


def test_micrographs_that_come_later_are_added_by_the_same_job(project: Path, model: Path):
    assert job(model) == 0
    later = "MotionCorr/job002/Movies/mic_3.mrc"
    scenes.write_mrc(project / later, scenes.scene(3).micrograph.image)
    with (project / "mics.star").open("a") as file:
        file.write(f"{later} 1\n")
    assert job(model) == 0
    assert [picks.micrograph for picks in read_picks(project / JOB)][-1] == later
    assert (project / JOB / "coordinates" / "Movies" / "mic_3_autopick.star").exists()


def test_a_bad_micrograph_does_not_fail_the_job_but_nothing_else_than_bad_ones_do(project: Path, model: Path):
    files = sorted((project / "MotionCorr/job002/Movies").iterdir())
    files[0].write_bytes(b"nothing")
    assert job(model) == 1
    assert marks(project) == {SUCCESS}
    for file in files[1:]:
        file.write_bytes(b"nothing")
    assert job(model, "--overwrite") == 2
    assert marks(project) == {FAILURE}


def test_input_that_is_none_fails_the_job(project: Path, model: Path, capsys: pytest.CaptureFixture[str]):
    assert job(model, "--in_mics", "none.star") == 2
    assert marks(project) == {FAILURE}
    assert job(model, "--in_mics", "a.mrc") == 2
    assert "--in_mics a.mrc is not a STAR file" in capsys.readouterr().err
    assert job(model, "--j", "0") == 2


def test_an_interrupted_job_counts_as_aborted(project: Path, model: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deeppicker.runs.run.settle_diameter", interrupt)
    assert job(model) == 130
    assert marks(project) == {ABORTED}
