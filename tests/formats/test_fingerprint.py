"""A file is recognised as the one that was read."""

import os
import shutil
from pathlib import Path

import pytest

from deeppicker.errors import TransientError, UnreadableError
from deeppicker.formats.fingerprint import Fingerprint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of a megabyte, of some time ago."""
    path = tmp_path / "a.mrc"
    path.write_bytes(os.urandom(1 << 20))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def test_an_untouched_file_fits_and_a_changed_one_does_not(file: Path):
    before = Fingerprint.of(file)
    assert before.fits(file)
    assert Fingerprint.parse(vars(before)) == before
    with file.open("r+b") as stream:
        stream.write(b"x")
    assert not before.fits(file)
    with pytest.raises(TransientError, match="changed while it was read"):
        before.refuse_change(file)


@pytest.mark.parametrize("place", [0, 1000, (1 << 20) - 1])
def test_a_change_of_the_header_or_the_end_is_seen_behind_an_old_time(file: Path, place: int):
    before, status = Fingerprint.of(file), file.stat()
    with file.open("r+b") as stream:
        stream.seek(place)
        old = stream.read(1)
        stream.seek(place)
        stream.write(bytes([old[0] ^ 1]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not before.fits(file)


def test_a_file_that_was_moved_or_copied_with_its_time_is_the_same(file: Path, tmp_path: Path):
    before = Fingerprint.of(file)
    copy = tmp_path / "copy.mrc"
    shutil.copy2(file, copy)
    assert before.fits(copy)
    file.rename(tmp_path / "moved.mrc")
    assert before.fits(tmp_path / "moved.mrc")
    assert not before.fits(file)
    with pytest.raises(UnreadableError, match="No such file"):
        Fingerprint.of(file)


def test_an_empty_file_has_a_fingerprint(tmp_path: Path):
    (tmp_path / "empty").touch()
    assert Fingerprint.of(tmp_path / "empty").fits(tmp_path / "empty")
