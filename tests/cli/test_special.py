"""What is no regular file is called what it is, by every command, and never opened: a pipe would never end."""

import os
import shutil
from pathlib import Path

import pytest

import scenes
from deeppicker.cli.main import main

WORDS = {
    "pick": "pick PIPE.mrc --output out --diameter 72",
    "pick, model": "pick a.mrc --output out --model PIPE.safetensors",
    "pick, settings": "pick a.mrc --output out --settings PIPE.toml",
    "pick, table": "pick PIPE.star --output out",
    "convert, image": "convert PIPE.mrc x.csv",
    "convert": "convert PIPE.star x.csv",
    "convert, cryosparc": "convert PIPE.cs x.csv",
    "convert, json": "convert PIPE_info.json x.csv",
    "convert, micrographs": "convert a.csv x.csv --micrographs PIPE.mrc",
    "evaluate": "evaluate --picks PIPE.star --reference a.csv --diameter 72",
    "evaluate, reference": "evaluate --picks a.csv --reference PIPE.box --diameter 72",
    "extract": "extract PIPE.star --output out",
    "check": "check PIPE.csv --diameter 72",
    "view, picks": "view a.mrc --picks PIPE.star --overlay x.png",
    "compare": "compare PIPE.star a.csv --diameter 72",
    "simulate": "simulate PIPE.pdb --output out",
    "train": "train PIPE.star --output x.safetensors --diameter 72",
    "train, model": "train particles.star --output x.safetensors --model PIPE.safetensors",
    "adapt": "adapt --picks PIPE.star --output x.safetensors --diameter 72",
    "ctf": "ctf PIPE.mrc --output out",
    "classify": "classify --picks PIPE.star --output out",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A micrograph with its particles, in the current folder."""
    monkeypatch.chdir(tmp_path)
    scenes.write_project(tmp_path, [scenes.scene(0, "a.mrc")])
    shutil.copy("micrographs/a.mrc", "a.mrc")
    Path("a.csv").write_text("x,y\n20,30\n", encoding="utf-8")


@pytest.mark.parametrize("what", WORDS)
def test_a_pipe_is_called_one(what: str, capsys: pytest.CaptureFixture[str]):
    words = WORDS[what].split()
    name = next(word for word in words if word.startswith("PIPE"))
    os.mkfifo(name)
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert f"{name} is a pipe, device or socket, not a regular file" in shown


@pytest.mark.parametrize("words", ["pick a.mrc --settings FOLDER --output out", "pick FOLDER.safetensors --output out"])
def test_a_folder_in_the_place_of_a_file_is_called_one(words: str, capsys: pytest.CaptureFixture[str]):
    Path(next(word for word in words.split() if word.startswith("FOLDER"))).mkdir()
    assert main(words.split()) == 2
    assert "folder" in capsys.readouterr().err


def test_a_device_behind_a_link_is_called_one(capsys: pytest.CaptureFixture[str]):
    Path("zero.mrc").symlink_to("/dev/zero")
    for words in ("convert zero.mrc x.csv", "pick zero.mrc --output out --diameter 72", "pick a.mrc --model zero.mrc"):
        assert main([*words.split(), "--output", "out"] if "--model" in words else words.split()) == 2
        assert "zero.mrc is a pipe, device or socket" in capsys.readouterr().err
