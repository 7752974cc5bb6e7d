"""Files appear complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deeppicker.errors import OutputError
from deeppicker.formats import atomic_path, atomic_write, make_folder
from deeppicker.formats.atomic import remove_left_behind


@pytest.mark.parametrize("content", ["", "text é\nmore\n", b"\0bytes\r\n"])
def test_what_is_written_is_there(content: str | bytes, tmp_path: Path) -> None:
    atomic_write(tmp_path / "f", content)
    assert (tmp_path / "f").read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(tmp_path) == ["f"]  # noqa: PTH208


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")

    def fail() -> None:
        with atomic_path(tmp_path / "f") as path:
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory") as caught:
        atomic_write(tmp_path / "absent" / "f", "x")
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_the_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(OutputError, match="f cannot be written"):
        atomic_write(tmp_path / "f", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        atomic_write(tmp_path / "f", "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.durable
def test_a_durable_file_is_on_the_disk_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = [], os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_write(tmp_path / "f", "x", durable=True)
    assert len(synced) == 2
    assert Path(synced[0]).parent == tmp_path
    assert synced[1] == str(tmp_path)


def test_what_killed_commands_left_behind_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".deeppicker-0123.tmp", "mine.tmp", ".hidden"):
        (tmp_path / name).touch()
    remove_left_behind(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "mine.tmp"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    atomic_write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    atomic_write(tmp_path / "f", "x")
    (tmp_path / "g").touch()
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "g").stat().st_mode


def test_a_file_in_place_of_a_folder_is_an_output_error(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "f").touch()
    with pytest.raises(OutputError, match="cannot be created"):
        make_folder(tmp_path / "f")
