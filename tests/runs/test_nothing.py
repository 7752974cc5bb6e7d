"""A run without picks says so, and what to try; exit status 2."""

import re
from pathlib import Path

import numpy as np
import pytest

import scenes
from deeppicker.cli.main import main
from deeppicker.formats import read_micrograph, read_picks

SAMPLE = Path(__file__).parents[2] / "sample" / "micrographs" / "sample_001.mrc.gz"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a part of the sample, the same with the other contrast, and noise."""
    monkeypatch.chdir(tmp_path)
    micrograph = read_micrograph(SAMPLE)
    part = micrograph.image[:500, :460]
    noise = np.random.default_rng(3).normal(size=part.shape).astype(np.float32)
    for name, image in (("dark", part), ("bright", -part), ("noise", noise)):
        scenes.write_mrc(tmp_path / f"{name}.mrc", image, micrograph.pixel_size)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("bright.mrc --diameter 180", "no particles of 180 Å were found.*the particles look bright: add --invert"),
        ("bright.mrc", "no particles were found.*the particles look bright: add --invert"),
        ("dark.mrc --diameter 180 --invert", "the particles look dark: leave out --invert"),
        ("dark.mrc --diameter 500", "no particles of 500 Å were found.*set another --diameter, or leave it out"),
        ("noise.mrc", "no particles were found.*if there are some, set --diameter"),
        ("noise.mrc --diameter 180", "no particles of 180 Å were found.*if there are some"),
        ("dark.mrc --diameter 180 --threshold 1", "no candidate reaches --threshold 1"),
    ],
)
def test_no_picks_are_told_with_what_is_true(folder: Path, words: str, advice: str, capsys: pytest.CaptureFixture[str]):
    assert main(["pick", *words.split(), "--output", "out", "--workers", "0", "--learn", "off", "--quiet"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.search(advice, told), told
    assert ("--invert" in told) == ("--invert" in advice)
    assert [len(found) for found in read_picks(folder / "out")] == [0]


def test_picks_are_not_commented(folder: Path, capsys: pytest.CaptureFixture[str]):
    words = ["pick", "dark.mrc", "--diameter", "180", "--output", "out", "--workers", "0", "--learn", "off", "--quiet"]
    assert main(words) == 0
    assert capsys.readouterr().err == ""
    assert len(read_picks(folder / "out")[0]) > 10
