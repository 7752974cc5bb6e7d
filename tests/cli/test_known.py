"""What a run recorded serves the commands after it: nothing that `pick` was told has to be given again."""

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest

import scenes
from deeppicker.cli.main import main
from deeppicker.config import SelectConfig
from deeppicker.core import Picks, micrograph_key
from deeppicker.formats import find_micrographs, read_picks
from deeppicker.formats.provenance import named_micrographs, outside_project, record_inputs
from deeppicker.formats.sealed import read_json, seal
from deeppicker.formats.star_table import read_tables
from deeppicker.networks.model import new_model, save_model
from deeppicker.runs.folder import RunFolder

PIXEL_SIZE = 3.0
STAR = """data_optics

loop_
_rlnOpticsGroupName
_rlnOpticsGroup
_rlnMicrographPixelSize
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
first 1 3.0 200 1.4 0.07

data_micrographs

loop_
_rlnMicrographName
_rlnOpticsGroup
_rlnDefocusU
_rlnDefocusV
_rlnDefocusAngle
mics/0.mrc 1 12000 11000 30
mics/1.mrc 1 13000 12000 30
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A RELION project whose images say no pixel size, and a run by its STAR file; the current folder."""
    monkeypatch.chdir(tmp_path)
    items = [scenes.scene(seed, f"mics/{seed}.mrc", number=24) for seed in range(2)]
    for item in items:
        scenes.write_mrc(tmp_path / item.micrograph.name, item.micrograph.image, 0.0)
    (tmp_path / "ctf.star").write_text(STAR)
    opened = RunFolder(Path("run"), {"diameter": 72.0, "pixel_size": None}, SelectConfig(threshold=0.1))
    for item in items:
        opened.store(Picks(item.micrograph.name, item.positions, np.linspace(0.9, 0.2, len(item.positions))), 1.0)
    opened.finish([item.micrograph.name for item in items])
    record_inputs(Path("run"), ["ctf.star"])
    return tmp_path


@pytest.mark.usefixtures("project")
def test_extract_knows_box_size_pixel_size_optics_and_defocus():
    assert main(["extract", "run", "--output", "particles", "--workers", "0", "--quiet"]) == 0
    optics, particles = read_tables(Path("particles/particles.star"))
    assert optics.text("rlnVoltage") == ["200"]
    assert optics.text("rlnImageSize") == ["36"]  # one and a half times 72 Å, at 3 Å
    assert optics.numbers("rlnImagePixelSize").tolist() == [PIXEL_SIZE]
    assert set(particles.text("rlnDefocusU")) == {"12000", "13000"}
    assert mrcfile.read("particles/particles/0.mrcs").shape == (24, 36, 36)


@pytest.mark.usefixtures("project")
def test_other_commands_know_pixel_size_diameter_micrographs_and_defocus(capsys: pytest.CaptureFixture[str]):
    assert main(["view", "mics/0.mrc", "--picks", "run", "--overlay", "o.png"]) == 0
    assert main(["evaluate", "--picks", "run", "--reference", "run"]) == 0
    assert main(["convert", "run", "picks.star"]) == 0
    assert read_tables(Path("picks.star"))[0].numbers("rlnMicrographPixelSize").tolist() == [PIXEL_SIZE]
    assert main(["check", "run"]) == 0
    assert "the orientation is right (48 picks in 2 micrographs)" in capsys.readouterr().out
    words = ["--classes", "2", "--iterations", "1", "--reject", "--least", "0"]
    assert main(["classify", "--picks", "run", "--output", "classes", *words]) == 0
    assert "defocus known for 2" in capsys.readouterr().out
    for kept in ("classes/kept",):
        sizes = [entry.pixel_size for entry in named_micrographs(Path(kept), read_picks(kept))]
        assert set(sizes) == {PIXEL_SIZE}


def test_what_the_micrographs_of_a_run_say_need_not_be_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    item = scenes.scene(0, "mics/0.mrc", number=24)
    scenes.write_mrc(Path("mics/0.mrc"), item.micrograph.image, PIXEL_SIZE)
    opened = RunFolder(Path("run"), {"diameter": 72.0, "pixel_size": None}, SelectConfig(threshold=0.1))
    opened.store(Picks("mics/0.mrc", item.positions, np.linspace(0.9, 0.2, len(item.positions))), 1.0)
    opened.finish(["mics/0.mrc"])
    record_inputs(Path("run"), ["mics"])
    assert main(["convert", "run", "picks.star"]) == 0
    assert read_tables(Path("picks.star"))[0].numbers("rlnMicrographPixelSize").tolist() == [PIXEL_SIZE]
    assert main(["convert", "run", "picks.cs"]) == 0
    assert set(np.load("picks.cs")["location/micrograph_psize_A"]) == {PIXEL_SIZE}
    assert main(["convert", "run", "flipped.csv", "--flip-y"]) == 0
    flipped = item.micrograph.image.shape[0] - 1 - read_picks("run")[0].positions[:, 1]
    np.testing.assert_allclose(read_picks("flipped.csv")[0].positions[:, 1], flipped, atol=1e-3)
    assert main(["pick", "run", "--output", "again"]) == 2
    assert "run is the output folder of a run; give the micrographs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["classify", "--picks", "nosuch", "--output", "out"],
        ["adapt", "--picks", "nosuch", "--output", "m.safetensors"],
        ["train", "nosuch", "--output", "m.safetensors"],
        ["view", "nosuch", "--picks", "run", "--overlay", "o.png"],
        ["report", "nosuch"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.usefixtures("project")
def test_what_does_not_exist_is_said_not_to(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(words) == 2
    assert "nosuch does not exist; give " in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_what_was_set_for_the_run_counts_more_than_its_table():
    Path("run/run.json").write_text(seal(read_json(Path("run/run.json")) | {"pixel_size": 2.5}))
    assert {entry.pixel_size for entry in named_micrographs(Path("run"), read_picks("run"))} == {2.5}


def test_a_run_outside_the_project_says_that_relion_will_not_find_it(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    entries = find_micrographs([str(project / "ctf.star")])
    assert outside_project(entries) is None
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    entries = find_micrographs([str(project / "ctf.star")])
    assert outside_project(entries) == project


def test_pick_tells_the_project_folder_and_what_is_next(
    project: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    save_model(new_model(0), elsewhere / "m.safetensors")
    words = ["--diameter", "72", "--model", "m.safetensors", "--workers", "0", "--threshold", "0"]
    assert main(["pick", str(project / "ctf.star"), "--output", "out", *words]) == 0
    shown = capsys.readouterr()
    assert f"run this command in {project}" in shown.err
    assert "next: deeppicker classify --picks out --output classes" in shown.out
    assert json.loads(Path("out/inputs.json").read_text())["inputs"] == [str(project / "ctf.star")]


def test_folders_in_folders_are_picked_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("GridSquare_1/Data/a.mrc", "GridSquare_2/Data/b.mrc", "GridSquare_2/Data/b.jpg"):
        (tmp_path / "Disc1" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Disc1" / name).touch()
    found = find_micrographs([str(tmp_path / "Disc1")], recursive=True)
    assert [micrograph_key(entry.name) for entry in found] == ["a", "b"]
    assert main(["pick", str(tmp_path / "Disc1"), "--output", str(tmp_path / "out")]) == 2
    assert "holds no images, but folders in it do; add --recursive" in capsys.readouterr().err
