"""Locks that many share or one holds, and outputs that one command owns."""

import threading
from pathlib import Path

import pytest

from deeppicker.cli._shared.ownership import ownership
from deeppicker.cli.main import main
from deeppicker.errors import InputError, OutputError
from deeppicker.formats.lock import locked, owned


def test_an_output_has_one_owner_and_nothing_is_left_of_that(tmp_path: Path):
    output = tmp_path / "new" / "model.safetensors"
    with owned(output):
        with pytest.raises(InputError, match=r"another command is writing .*model.safetensors"), owned(output):
            pass
        with owned(output.with_name("other")):
            pass
    with owned(output):
        pass
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("verb", ["adapt", "classify", "ctf", "extract", "simulate", "train"])
def test_every_command_that_writes_owns_its_output(verb: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = {"ctf": ["x.mrc"], "extract": ["x.star", "--box-size", "8"], "train": ["x.star"], "simulate": ["x.mrc"]}
    picks = ["--picks", "x.star"] if verb in ("adapt", "classify") else []
    with owned(tmp_path / "out"):
        assert main([verb, *words.get(verb, []), *picks, "--output", "out"]) == 2
    assert "another command is writing out" in capsys.readouterr().err


def test_of_the_processes_of_one_training_the_first_owns_the_output(tmp_path: Path, monkeypatch):
    class Options:
        output = tmp_path / "model"

    with ownership("train", Options):
        monkeypatch.setenv("RANK", "1")
        with ownership("train", Options):
            assert list(tmp_path.iterdir()) == [tmp_path / ".model.owner.lock"]


def test_many_share_a_lock_and_one_waits_for_all_of_them_and_says_so(tmp_path: Path):
    said, entered = threading.Event(), threading.Event()

    def alone() -> None:
        with locked(tmp_path / ".lock", waiting=said.set):
            entered.set()

    with locked(tmp_path / ".lock", shared=True), locked(tmp_path / ".lock", shared=True):
        thread = threading.Thread(target=alone)
        thread.start()
        assert said.wait(10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()


def test_a_folder_that_is_gone_is_an_output_error(tmp_path: Path):
    with pytest.raises(OutputError, match="gone cannot be written"), locked(tmp_path / "gone" / ".lock"):
        pass
