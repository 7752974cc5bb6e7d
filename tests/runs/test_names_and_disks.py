"""One bad name costs one micrograph; whatever is wrong with the disk or the terminal ends in one line."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import scenes
from deeppicker.cli.main import main
from deeppicker.formats import read_picks
from deeppicker.networks.model import save_model
from deeppicker.runs.results import Results
from scenes import DIAMETER

NAMES = {"bell": "b\x07.mrc", "escape": "\x1b[31mred.mrc", "long": "n" * 251 + ".mrc", "quotes": "a' b\" c.mrc"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two micrographs, one with a piece of carbon, and a model, in the current folder."""
    for seed in range(2):
        image = scenes.scene(seed).micrograph.image
        if seed == 0:
            image[20:80, 20:80] -= 60
        scenes.write_mrc(tmp_path / "in" / f"{seed}.mrc", image)
    save_model(scenes.trained(), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(*more: str, output: str = "out", workers: str = "0") -> list[str]:
    start = ["pick", "in", "--output", output, "--model", "model.safetensors", "--diameter", str(DIAMETER)]
    return [*start, "--workers", workers, *more]


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_a_micrograph_after_which_no_file_can_be_named_fails_by_itself(
    kind: str, project: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(project / "in" / "0.mrc", project / "in" / NAMES[kind])
    for _ in range(2):
        assert main(words()) == 1
        shown = capsys.readouterr()
        assert "rename" in shown.err
        assert "Traceback" not in shown.err
        assert all(character.isprintable() or character == "\n" for character in shown.out + shown.err)
    assert [item.key for item in read_picks("out/autopick.star")] == ["0", "1"]
    with Path("out/summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["error"]) for row in rows].count(True) == 1
    assert all(text.isprintable() for row in rows for text in row.values())


def test_no_name_becomes_a_formula_in_the_summary(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project / "in")
    Path("0.mrc").rename("=1+1.mrc")
    Path("@bad.mrc").write_bytes(b"nothing")
    assert main(["pick", "*.mrc", *words("--model", "../model.safetensors")[2:]]) == 1
    with Path("out/summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert {row[0] for row in rows[1:]} == {"./=1+1.mrc", "./@bad.mrc", "1.mrc"}
    assert not [text for row in rows for text in row if text[:1] in ("=", "+", "-", "@")]
    assert len(read_picks("out/autopick.star")) == 2


@pytest.mark.parametrize(
    "what",
    [
        "0_autopick.star",
        "candidates/0_candidates.star",
        "junk/0_junk.png",
        "records/0.json",
        "run.json",
        "inputs.json",
    ],
)
@pytest.mark.parametrize("how", ["empty", "half", "gone"])
def test_a_damaged_file_is_told_and_healed_by_the_same_command(what: str, how: str, capsys: pytest.CaptureFixture[str]):
    assert main(words()) == 0
    before = scenes.files_of_run(Path("out"))
    path = Path("out", what)
    content = path.read_bytes()
    path.unlink()
    if how != "gone":
        path.write_bytes(content[: len(content) // 2] if how == "half" else b"")
    capsys.readouterr()
    assert main(words()) == 0
    shown = capsys.readouterr().err
    told = (what, how) not in (("0_autopick.star", "gone"), ("inputs.json", "gone"))
    assert shown.count("\n") == told, shown
    shutil.rmtree("out/damaged", ignore_errors=True)
    assert scenes.files_of_run(Path("out")) == before


@pytest.mark.parametrize("what", ["inputs.json", "run.json", "records/0.json"])
def test_brackets_without_end_are_told_or_made_again(what: str, capsys: pytest.CaptureFixture[str]):
    assert main(words()) == 0
    before = scenes.files_of_run(Path("out"))
    Path("out", what).write_text("[" * 100_000)
    capsys.readouterr()
    assert main(words()) == 0
    assert capsys.readouterr().err.count("\n") <= 1
    shutil.rmtree("out/damaged", ignore_errors=True)
    assert scenes.files_of_run(Path("out")) == before


@pytest.mark.parametrize("what", ["0_autopick.star", "records/0.json", "run.json", ".generation", "inputs.json"])
def test_a_pipe_in_the_place_of_a_file_is_written_over(what: str):
    assert main(words()) == 0
    before = scenes.files_of_run(Path("out"))
    Path("out", what).unlink()
    os.mkfifo(Path("out", what))
    assert main(words()) == 0
    shutil.rmtree("out/damaged", ignore_errors=True)
    assert scenes.files_of_run(Path("out")) == before


@pytest.mark.parametrize(
    "what",
    ["0_autopick.star", "candidates/0_candidates.star", "records/0.json", "run.json", "summary.csv", "inputs.json"],
)
def test_nothing_is_written_through_a_link_in_the_output_folder(what: str):
    assert main(words()) == 0
    before = scenes.files_of_run(Path("out"))
    mine = Path("mine.txt")
    mine.write_text("my own file\n")
    Path("out", what).unlink()
    Path("out", what).symlink_to(mine.absolute())
    assert main(words()) == 0
    assert mine.read_text() == "my own file\n"
    shutil.rmtree("out/damaged", ignore_errors=True)
    assert scenes.files_of_run(Path("out")) == before


@pytest.mark.parametrize(
    "name", ["summary.csv", "autopick.star", "run.json", "0_autopick.star", ".lock", ".generation"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_the_place_of_a_file_ends_in_one_line(
    name: str, overwrite: bool, capsys: pytest.CaptureFixture[str]
):
    assert main(words()) == 0
    path = Path("out", name)
    path.unlink()
    path.mkdir()
    capsys.readouterr()
    assert main(words(*["--overwrite"] * overwrite)) in (0, 1, 2)
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert shown.count("\n") <= 2
    if path.is_dir():  # else it was put aside
        path.rmdir()
    assert main(words()) == 0


def test_an_output_folder_that_is_deleted_during_the_run_ends_in_one_line_and_can_be_made_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    real = Results.write

    def write(*arguments: object) -> object:
        shutil.rmtree("out", ignore_errors=True)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Results, "write", write)
        assert main(words("--retries", "0")) == 2
    assert "out cannot be written: No such file or directory" in capsys.readouterr().err
    assert main(words()) == 0


def run(*arguments: str, **more: object) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "deeppicker", *arguments]
    return subprocess.Popen(program, stderr=subprocess.PIPE, text=True, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_or_closed_standard_output_ends_in_one_line_or_silently():
    with Path("/dev/full").open("w") as full:
        ended = run("--help", stdout=full)
        errors = ended.communicate()[1]
        assert (ended.returncode, errors.count("\n")) == (2, 1)
        assert "No space left on device" in errors
    reader, writer = os.pipe()
    os.close(reader)
    ended = run("pick", "--help-all", stdout=writer)
    os.close(writer)
    assert (ended.communicate()[1], ended.returncode) == ("", 1)


@pytest.mark.slow
@pytest.mark.parametrize("everyone", [False, True])
def test_a_signal_while_workers_start_ends_as_a_batch_system_expects(everyone: bool):
    with run(*words(workers="2"), stdout=subprocess.DEVNULL, start_new_session=True) as started:
        process = psutil.Process(started.pid)
        while not process.children(recursive=True):
            assert started.poll() is None
        (os.killpg if everyone else os.kill)(started.pid, signal.SIGTERM)
        errors = started.communicate()[1]
    assert started.returncode == 143
    assert errors.splitlines()[-1:] == ["deeppicker: interrupted; repeat the command to continue"]
    assert "Traceback" not in errors
