"""Small files that claim to be huge, and files that never end, are refused before memory is taken for them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scenes
from deeppicker.errors import DeepPickerError, FormatError, InputError
from deeppicker.formats import read_micrograph, read_picks
from deeppicker.formats.room import MEGAPIXELS

BOMBS = Path(__file__).with_name("bombs.py")
EXPECTED = {
    "compressed.mrc.bz2": "claims 24,000×24,000 pixels (576 megapixels), more than the 300 allowed",
    "compressed.mrc.gz": "extended header",
    "picture.png": "1,600 megapixels",
    "strip.tif": "3,600 megapixels",
    "holes.mrc": "1,936 megapixels",
    "holes.star": "GB of memory",
    "endless.star": "not a regular file",
    "endless.mrc": "not a regular file",
    "endless.cs": "not a regular file",
    "pipe.mrc": "not a regular file",
    "pipe.csv": "not a regular file",
    "deep_info.json": "not an EMAN2 file",
}


@pytest.mark.slow
def test_bombs_are_refused_with_little_memory(tmp_path: Path):
    done = subprocess.run([sys.executable, BOMBS, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {name: text for name, text in EXPECTED.items() if text not in result["found"][name]} == {}, result
    assert set(result["found"]) == set(EXPECTED)
    assert result["grown_mb"] < 100


def test_a_variable_allows_larger_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = scenes.write_mrc(tmp_path / "a.mrc", np.random.default_rng(0).normal(size=(20, 30)))
    monkeypatch.setenv(MEGAPIXELS, "0.0005")
    with pytest.raises(FormatError, match=rf"a\.mrc claims 30×20 pixels.*{MEGAPIXELS}"):
        read_micrograph(path)
    monkeypatch.setenv(MEGAPIXELS, "0.001")
    assert read_micrograph(path).image.shape == (20, 30)
    monkeypatch.setenv(MEGAPIXELS, "many")
    with pytest.raises(InputError, match="'many' is not a number"):
        read_micrograph(path)


def test_what_does_not_fit_into_the_free_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Little:
        available = 1 << 26

    monkeypatch.setattr("psutil.virtual_memory", Little)
    with (tmp_path / "a.mrc").open("wb") as file:
        file.write(scenes.write_mrc(tmp_path / "b.mrc", np.zeros((4000, 4000))).read_bytes()[:1024])
        file.truncate(1024 + 4 * 4000**2)
    with pytest.raises(DeepPickerError, match=r"4,000×4,000 pixels.*0\.1 GB of memory, but 0\.1 GB can be used"):
        read_micrograph(tmp_path / "a.mrc")
    with (tmp_path / "a.star").open("wb") as file:
        file.truncate(10 << 20)
    with pytest.raises(DeepPickerError, match=r"10 MB.*0\.2 GB of memory"):
        read_picks(tmp_path / "a.star")
