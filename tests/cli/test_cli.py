"""The commands ``pick``, ``train`` and ``adapt`` as a user types them."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import scenes
from deeppicker.cli import pick as pick_command
from deeppicker.cli.main import VERBS, main
from deeppicker.errors import InputError
from deeppicker.evaluation.matching import match
from deeppicker.formats import atomic, read_picks
from deeppicker.formats.relion import star
from deeppicker.networks.model import load_model, save_model
from deeppicker.runs import folder as runs
from scenes import BOX, DIAMETER, files_of_run

NAMES = ("a.mrc", "b.1.mrc", "c.mrc")
SHORT = ("--num-particles", "16", "--versions", "1", "--epochs", "2", "--batch-size", "8")
PAPER = (*SHORT, "--network", "paper")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three micrographs, their particles and a model."""
    folder = tmp_path_factory.mktemp("project")
    scenes.write_project(folder, [scenes.scene(seed, name, faintest=0.05) for seed, name in enumerate(NAMES)])
    save_model(scenes.uncertain(), folder / "model.safetensors")
    return folder


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, and the current one."""
    folder = tmp_path / "project"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    return folder


def deeppicker(*words: str | Path) -> int:
    return main([str(word) for word in words])


def pick(*words: str | Path) -> int:
    threshold = [] if "--threshold" in words else ["--threshold", "0.5"]
    workers = [] if "--workers" in words else ["--workers", "0"]  # in this process, where tests can interfere
    return deeppicker("pick", *words, *threshold, *workers, "--model", "model.safetensors")


def check_same(folder: Path, whole: Path) -> None:
    """Check that two runs left the same files, but for the times and the name of the folder."""
    assert files_of_run(folder) == files_of_run(whole)


def check_one_line(text: str, *parts: str) -> None:
    """Check that the text is a single line that holds all parts."""
    assert text.count("\n") == 1, text
    assert text.startswith("deeppicker: ")
    assert "Traceback" not in text
    for part in parts:
        assert part in text


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("given", [["micrographs"], ["micrographs/*.mrc"], ["particles.star"], "each by name"])
def test_picking_writes_what_relion_needs_and_a_summary(given: list[str] | str):
    inputs = [f"micrographs/{name}" for name in NAMES] if isinstance(given, str) else given
    assert pick(*inputs, "--output", "picked") == 0
    picked = Path("picked")
    assert {path.relative_to(picked).as_posix() for path in picked.rglob("*") if path.is_file()} == {
        "run.json",
        "summary.csv",
        "autopick.star",
        ".lock",
        ".generation",
        "inputs.json",
        *(f"{name[:-4]}_autopick.star" for name in NAMES),
        *(f"records/{name[:-4]}.json" for name in NAMES),
        *(f"candidates/{name[:-4]}_candidates.star" for name in NAMES),
    }
    found = read_picks(picked / "autopick.star")
    assert [item.micrograph for item in found] == [f"micrographs/{name}" for name in NAMES]
    for seed, item in enumerate(found):
        known = scenes.scene(seed, faintest=0.05).positions
        assert len(match(item.positions, known, 0.2 * BOX)[0]) == len(item) >= 5
        assert (item.scores >= 0.5).all()
        every = star.read(picked / "candidates" / f"{item.key}_candidates.star")[0]
        assert (every.scores >= 0.5).sum() == len(item)
    assert json.loads((picked / "run.json").read_text(encoding="utf-8"))["diameter"] == DIAMETER


@pytest.mark.usefixtures("project")
def test_the_output_says_how_many_were_picked_and_where_they_are(capsys: pytest.CaptureFixture[str]):
    assert pick("micrographs", "--output", "picked") == 0
    shown = capsys.readouterr()
    total = sum(len(item) for item in read_picks("picked/autopick.star"))
    assert f"{total} picks in 3 of 3 micrographs" in shown.out
    assert "picked/autopick.star" in shown.out
    assert shown.err == ""


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("threshold", [0.2, 0.9])
def test_a_threshold_divides_the_candidates(threshold: float):
    assert pick("micrographs", "--output", "half") == 0
    assert pick("micrographs", "--output", "other", "--threshold", str(threshold)) == 0
    for name in NAMES:
        file = f"candidates/{name[:-4]}_candidates.star"
        assert Path("half", file).read_bytes() == Path("other", file).read_bytes()
    scores = np.concatenate([item.scores for item in read_picks("other/autopick.star")])
    assert len(scores) > 0
    assert scores.min() >= threshold


@pytest.mark.usefixtures("project")
def test_a_second_run_with_another_threshold_does_not_score_again(monkeypatch: pytest.MonkeyPatch):
    assert pick("micrographs", "--output", "whole", "--threshold", "0.8") == 0
    assert pick("micrographs", "--output", "picked") == 0
    monkeypatch.setattr("deeppicker.runs.pick_job.Picker.find", lambda *_: pytest.fail("scored again"))
    assert pick("micrographs", "--output", "picked", "--threshold", "0.8") == 0
    check_same(Path("picked"), Path("whole"))


@pytest.mark.usefixtures("project")
def test_the_best_of_all_micrographs_are_kept_on_request():
    assert pick("micrographs", "--output", "picked", "--num-particles", "7") == 0
    assert sum(len(item) for item in read_picks("picked/autopick.star")) == 7


@pytest.mark.usefixtures("project")
def test_the_diameter_and_the_pixel_size_can_be_given():
    assert pick("micrographs", "--output", "picked", "--diameter", "36", "--pixel-size", "1.5") == 0
    assert pick("micrographs", "--output", "same") == 0
    for one, other in zip(read_picks("picked/autopick.star"), read_picks("same/autopick.star"), strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    settings = json.loads(Path("picked/run.json").read_text(encoding="utf-8"))
    assert (settings["diameter"], settings["pixel_size"]) == (36.0, 1.5)


def test_bright_particles_are_picked_on_request(project: Path):
    image = scenes.scene(0).micrograph.image
    scenes.write_mrc(project / "bright" / "a.mrc", -image)
    assert pick("bright/a.mrc", "--output", "picked", "--invert") == 0
    found = read_picks("picked/autopick.star")[0]
    assert len(match(found.positions, scenes.scene(0).positions, 0.2 * BOX)[0]) >= 14


@pytest.mark.usefixtures("project")
def test_other_settings_are_refused_in_the_same_folder_unless_overwritten(capsys: pytest.CaptureFixture[str]):
    assert pick("micrographs", "--output", "picked") == 0
    before = files_of_run(Path("picked"))
    capsys.readouterr()
    assert pick("micrographs", "--output", "picked", "--diameter", "80") == 2
    check_one_line(capsys.readouterr().err, "picked", "diameter 72.0", "80.0", "--overwrite")
    assert files_of_run(Path("picked")) == before
    assert pick("micrographs", "--output", "picked", "--diameter", "80", "--overwrite") == 0
    assert files_of_run(Path("picked")) != before


def damage(path: Path, kind: str) -> str:
    """Make a micrograph unusable; return a pattern of what the message must hold besides its name."""
    image = scenes.scene(1).micrograph.image.copy()
    match kind:
        case "truncated":
            path.write_bytes(path.read_bytes()[:-1000])
            return "cut short.*310×230"
        case "empty":
            path.write_bytes(b"")
            return "empty"
        case "shorter than a header":
            path.write_bytes(path.read_bytes()[:500])
            return "500 bytes"
        case "wrong magic":
            path.write_bytes(b"\x89PNG" * 2000)
            return "not an MRC file"
        case "NaN":
            image[5, 7] = np.nan
            scenes.write_mrc(path, np.zeros_like(image))
            path.write_bytes(path.read_bytes()[:1024] + image.tobytes())
            return "1 of 71,300 NaN"
        case "constant":
            scenes.write_mrc(path, np.full_like(image, 3.0))
            return "constant .*3"
        case "no pixel size":
            scenes.write_mrc(path, image, pixel_size=0.0)
            return "pixel size 0.0 Å.*--pixel-size"
        case "missing":
            path.unlink()
            return "No such file|does not exist"
    raise AssertionError(kind)


DAMAGES = ["truncated", "empty", "shorter than a header", "wrong magic", "NaN", "constant", "no pixel size", "missing"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_bad_micrograph_among_good_ones_is_reported_and_the_others_are_picked(
    project: Path, capsys: pytest.CaptureFixture[str], kind: str
):
    pattern = damage(project / "micrographs" / "b.1.mrc", kind)
    # The STAR file would give the pixel size, so the images are named one by one unless one is missing.
    given = [f"micrographs/{name}" for name in NAMES] if kind != "missing" else ["particles.star"]
    assert pick(*given, "--output", "picked") == 1
    shown = capsys.readouterr()
    check_one_line(shown.err, "micrographs/b.1.mrc")
    assert re.search(pattern, shown.err)
    assert "in 2 of 3 micrographs" in shown.out
    assert [item.key for item in read_picks("picked/autopick.star")] == ["a", "c"]
    assert not Path("picked/b.1_autopick.star").exists()
    with Path("picked/summary.csv").open(newline="", encoding="utf-8") as file:
        errors = {row["micrograph"]: row["error"] for row in csv.DictReader(file)}
    assert "b.1.mrc" in errors.pop("micrographs/b.1.mrc")
    assert set(errors.values()) == {""}


def test_a_bad_micrograph_that_was_repaired_is_picked_by_the_next_run(project: Path):
    path = project / "micrographs" / "b.1.mrc"
    whole = path.read_bytes()
    damage(path, "truncated")
    assert pick("micrographs", "--output", "picked") == 1
    path.write_bytes(whole)
    assert pick("micrographs", "--output", "picked") == 0
    assert pick("micrographs", "--output", "whole") == 0
    check_same(project / "picked", project / "whole")


@pytest.mark.parametrize("kind", ["truncated", "empty", "wrong magic", "NaN", "constant", "no pixel size"])
def test_a_single_bad_micrograph_is_one_line_and_no_picks(project: Path, capsys: pytest.CaptureFixture[str], kind: str):
    pattern = damage(project / "micrographs" / "a.mrc", kind)
    assert pick("micrographs/a.mrc", "--output", "picked") == 2
    text = capsys.readouterr().err
    check_one_line(text, "micrographs/a.mrc")
    assert re.search(pattern, text)


def bad_command(project: Path, kind: str) -> tuple[list[str], str]:
    """Return a command that cannot work, and a pattern of what its message must hold."""
    model = ["--model", "model.safetensors"]
    good = ["pick", "micrographs", "--output", "out", *model]
    match kind:
        case "no such input":
            return ["pick", "nowhere.mrc", "--output", "out", *model], "nowhere.mrc"
        case "pattern without match":
            return ["pick", "micrographs/*.tif", "--output", "out", *model], r"micrographs/\*.tif"
        case "empty folder":
            (project / "void").mkdir()
            return ["pick", "void", "--output", "out", *model], "void"
        case "STAR without micrographs":
            Path("other.star").write_text("data_\n\nloop_\n_rlnCoordinateX #1\n1.0\n", encoding="utf-8")
            return ["pick", "other.star", "--output", "out", *model], "other.star.*rlnMicrographName"
        case "two of one name":
            scenes.write_mrc(project / "more" / "a.mrc", scenes.scene(0).micrograph.image)
            return [*good[:2], "more/a.mrc", *good[2:]], "micrographs/a.mrc and more/a.mrc.*--output"
        case "output is a file":
            (project / "out").write_text("in the way", encoding="utf-8")
            return good, "out"
        case "output below a file":
            (project / "out").write_text("in the way", encoding="utf-8")
            return ["pick", "micrographs", "--output", "out/deep", *model], "out/deep"
        case "unknown diameter":
            save_model(scenes.replace(scenes.uncertain(), diameter=None), Path("general"))
            return ["pick", "micrographs", "--output", "out", "--model", "general"], "--diameter"
        case "impossible diameter":
            return [*good, "--diameter", "-3"], "--diameter -3 is out of range"
        case "unknown model":
            return ["pick", "micrographs", "--output", "out", "--model", "unheard-of"], "unheard-of.*--model"
        case "model that is none":
            return ["pick", "micrographs", "--output", "out", "--model", "particles.star"], "particles.star"
        case "unknown verb":
            return ["peck", "micrographs"], "peck.*pick"
        case "train without columns":
            Path("other.star").write_text("data_\n\nloop_\n_rlnMicrographName #1\na.mrc\n", encoding="utf-8")
            return ["train", "other.star", "--output", "m", "--diameter", "72"], "other.star.*rlnCoordinateX"
        case "train without images":
            shutil.rmtree(project / "micrographs")
            return ["train", "particles.star", "--output", "m"], "micrographs/a.mrc.*--micrographs"
        case "train without diameter":
            (project / "dataset.json").unlink()
            return ["train", "particles.star", "--output", "m"], "particles.star.*--diameter"
        case "train with a diameter of nothing":
            return ["train", "particles.star", "--output", "m", "--diameter", "0", *PAPER], "0 Å.*--diameter"
        case "train with too many diameters":
            return ["train", "particles.star", "--output", "m", "--diameter", "7", "8"], "2 diameters.*--diameter"
        case "train on a bad image":
            damage(project / "micrographs" / "a.mrc", "truncated")
            return ["train", "particles.star", "--output", "m", *PAPER], "a.mrc is cut short"
        case "train to below a file":
            (project / "out").write_text("in the way", encoding="utf-8")
            return ["train", "particles.star", "--output", "out/m", *PAPER], "out"
        case "adapt without picks":
            return ["adapt", "--picks", "nowhere.star", "--output", "m", *model], "nowhere.star"
        case "adapt an unknown model":
            return ["adapt", "--picks", "particles.star", "--output", "m", "--model", "unheard-of"], "unheard-of"
    raise AssertionError(kind)


BAD_COMMANDS = [
    "no such input",
    "pattern without match",
    "empty folder",
    "STAR without micrographs",
    "two of one name",
    "output is a file",
    "output below a file",
    "unknown diameter",
    "impossible diameter",
    "unknown model",
    "model that is none",
    "unknown verb",
    "train without columns",
    "train without images",
    "train without diameter",
    "train with a diameter of nothing",
    "train with too many diameters",
    "train on a bad image",
    "train to below a file",
    "adapt without picks",
    "adapt an unknown model",
]


@pytest.mark.parametrize("kind", BAD_COMMANDS)
def test_a_command_that_cannot_work_says_why_in_one_line(project: Path, capsys: pytest.CaptureFixture[str], kind: str):
    words, pattern = bad_command(project, kind)
    assert main(words) == 2
    text = capsys.readouterr().err
    check_one_line(text)
    assert re.search(pattern, text), text
    assert not list(project.glob("out/**/*.star"))
    assert not (project / "m").exists()


@pytest.mark.usefixtures("project")
def test_debugging_shows_where_an_error_comes_from():
    with pytest.raises(Exception, match=r"nowhere\.mrc"):
        deeppicker("--debug", "pick", "nowhere.mrc", "--output", "out")


def test_help_lists_the_commands_and_no_command_is_an_error(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)
    assert main([]) == 2
    assert main(["--version"]) == 0
    assert re.search(r"deeppicker \d+\.\d+", capsys.readouterr().out)


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["replace", "write_bytes"])
@pytest.mark.parametrize("after", range(0, 9, 2))
def test_a_full_disk_leaves_no_half_written_file_and_the_next_run_completes(
    project: Path, capsys: pytest.CaptureFixture[str], call: str, after: int
):
    assert pick("micrographs", "--output", "whole") == 0
    capsys.readouterr()
    target = atomic.os if call == "replace" else Path
    real, left = getattr(target, call), [after]

    def write(*arguments: object) -> object:
        if left[0] <= 0:
            if call == "write_bytes":
                real(arguments[0], b"half")
            no_space()
        left[0] -= 1
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, call, write)
        assert pick("micrographs", "--output", "picked") == 2
    check_one_line(capsys.readouterr().err, "picked", "No space left")
    left_behind = [path.name for path in (project / "picked").rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(left_behind) == after
    assert not [name for name in left_behind if name.startswith(".") and name != ".generation"]
    assert pick("micrographs", "--output", "picked") == 0
    check_same(project / "picked", project / "whole")


@pytest.mark.usefixtures("project")
def test_an_interruption_is_one_line_and_keeps_what_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    real = runs.RunFolder.record

    def record(*arguments: object) -> object:
        real(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.RunFolder, "record", record)
    assert pick("micrographs", "--output", "picked") == 130
    check_one_line(capsys.readouterr().err, "interrupted")
    assert [item.key for item in read_picks("picked/autopick.star")] == ["a"]


def program(*words: str) -> list[str]:
    return [sys.executable, "-m", "deeppicker", *words]


@pytest.mark.slow
def test_a_command_that_is_interrupted_from_outside_is_completed_by_the_same_command(project: Path):
    images = project / "many"
    for seed in range(30):
        scenes.write_mrc(images / f"{seed:02d}.mrc", scenes.scene(seed, faintest=0.05).micrograph.image)
    words = ("pick", "many", "--model", "model.safetensors", "--output")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in this process: sums are rounded alike
    command = program(*words, "picked")
    process = subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Of four files, at least two are those of micrographs that are recorded: each of two processes works on one more.
    while process.poll() is None and len(list((project / "picked").glob("*_autopick.star"))) < 4:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    last = errors.splitlines(keepends=True)[-1]  # on a slow machine, it says before how far it is
    check_one_line(last, "repeat the command to continue")
    done = len(read_picks(project / "picked" / "autopick.star"))
    assert 2 <= done < 30
    again = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True)
    assert f"({done} were done before)" in again.stdout
    assert deeppicker(*words, "whole") == 0
    check_same(project / "picked", project / "whole")


@pytest.mark.parametrize(
    ("words", "early"),
    [
        (["micrographs"], True),
        (["micrographs/*.mrc"], True),
        (["micrographs/a.mrc", "micrographs/b.1.mrc"], True),
        (["particles.star"], True),
        (["micrographs/a.mrc", "--workers", "2"], True),
        (["micrographs/a.mrc"], False),
        (["micrographs", "--workers", "0"], False),
        (["micrographs", "--cluster", "tcp://nowhere:1"], False),
        (["micrographs", "nowhere.mrc"], False),
        ([300 * "x"], False),
    ],
)
def test_processes_load_what_they_need_while_this_one_does(
    words: list[str], early: bool, project: Path, monkeypatch: pytest.MonkeyPatch
):
    assert project.is_dir()
    begun: list[bool] = []

    def pick_nothing(*_: object) -> None:
        raise InputError("as far as this test goes")

    monkeypatch.setattr(pick_command, "start_early", lambda: begun.append(True))
    monkeypatch.setattr("deeppicker.runs.run.run_picking", pick_nothing)
    assert deeppicker("pick", *words, "--output", "picked") == 2
    assert bool(begun) == early


def test_one_micrograph_is_picked_without_another_process(project: Path, monkeypatch: pytest.MonkeyPatch):
    assert project.is_dir()
    monkeypatch.setattr(pick_command, "start_early", lambda: pytest.fail("a process is started"))
    assert deeppicker("pick", "micrographs/a.mrc", "--output", "picked", "--model", "model.safetensors") == 0


@pytest.mark.parametrize(
    ("words", "status", "stream"),
    [(["--help"], 0, "out"), (["peck"], 2, "err"), (["pick", "nowhere.mrc", "--output", "o"], 2, "err")],
)
def test_the_program_itself_returns_the_status(project: Path, words: list[str], status: int, stream: str):
    done = subprocess.run(program(*words), cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert (done.stderr if stream == "err" else done.stdout).startswith(("deeppicker: ", "usage: "))


def test_training_writes_a_model_its_history_and_its_curves(project: Path, capsys: pytest.CaptureFixture[str]):
    assert deeppicker("train", "particles.star", "--output", "models/new.safetensors", *PAPER) == 0
    folder = project / "models"
    assert {path.name for path in folder.iterdir()} == {"new.safetensors", "new.history.json", "new.curves.png"}
    model = load_model(folder / "new.safetensors")
    assert model.diameter == DIAMETER
    assert model.info["settings"]["examples"]["num_particles"] == 16
    assert len(json.loads((folder / "new.history.json").read_text(encoding="utf-8"))) == 2
    assert (folder / "new.curves.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "48 particles of 72 Å in 3 micrographs" in shown
    assert "epoch  2/2" in shown


@pytest.mark.usefixtures("project")
def test_training_twice_with_one_seed_gives_the_same_model():
    for name, seed in (("one", "3"), ("two", "3"), ("three", "4")):
        assert deeppicker("train", "particles.star", "--output", name, "--seed", seed, *PAPER) == 0
    assert Path("one").read_bytes() == Path("two").read_bytes() != Path("three").read_bytes()


def test_training_on_two_molecules_takes_a_diameter_for_each(project: Path):
    scenes.write_project(project / "second", [scenes.scene(5, "x.mrc"), scenes.scene(6, "y.mrc")], diameter=None)
    words = ["train", "particles.star", "second/particles.star", "--output", "both", "--diameter", "72", "75", *PAPER]
    assert deeppicker(*words) == 0
    model = load_model(project / "both")
    assert [item["diameter"] for item in model.info["datasets"]] == [72.0, 75.0]
    assert model.diameter is None


@pytest.mark.usefixtures("project")
def test_training_that_is_interrupted_keeps_a_model_and_is_continued(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert deeppicker("train", "particles.star", "--output", "whole", *PAPER) == 0
    with monkeypatch.context() as patch:
        patch.setattr(
            "deeppicker.cli._shared.training.TrainingLog.epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        assert deeppicker("train", "particles.star", "--output", "cut", *PAPER) == 130
    check_one_line(capsys.readouterr().err, "interrupted")
    assert load_model("cut").info["best_epoch"]["epoch"] == 1
    assert deeppicker("train", "particles.star", "--output", "cut", *PAPER) == 0
    shown = capsys.readouterr().out
    assert "epoch  2/2" in shown
    assert "epoch  1/2" not in shown
    assert Path("cut").read_bytes() == Path("whole").read_bytes()


@pytest.mark.usefixtures("project")
def test_a_model_is_adapted_to_its_own_best_picks():
    assert pick("micrographs", "--output", "picked") == 0
    start = ["--model", "model.safetensors", "--picks", "picked"]
    short = ["--versions", "1", "--epochs", "1", "--batch-size", "8"]
    assert deeppicker("adapt", *start, "--output", "new", "--num-particles", "12", *short) == 0
    adapted = load_model("new")
    assert adapted.diameter == DIAMETER
    assert adapted.info["datasets"][0]["particles"] == 12
    assert deeppicker("pick", "micrographs", "--output", "again", "--model", "new") == 0


def test_a_model_is_adapted_to_manual_picks_in_several_rounds(project: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--picks", "particles.star", "--model", "model.safetensors", "--output", "new", "--rounds", "2"]
    assert deeppicker("adapt", *words, *SHORT) == 0
    shown = capsys.readouterr().out
    assert len(re.findall(r"particles of 72 Å", shown)) == 2
    assert re.search(r"\d manual picks, kept out of training: F1 [01]\.\d+ -> [01]\.\d+, precision", shown)
    assert load_model(project / "new").prepare == load_model(project / "model.safetensors").prepare
