"""``deeppicker convert`` as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tyro

from deeppicker.cli.convert import Options, run
from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.formats import read_micrographs, read_picks, write_picks

_HEIGHT, _WIDTH = 30, 50


def _convert(*args: object) -> None:
    assert run(tyro.cli(Options, args=[str(arg) for arg in args], prog="deeppicker convert")) == 0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two micrographs with scores, and their images in ``images``."""
    rng = np.random.default_rng(5)
    (tmp_path / "images").mkdir()
    picks = []
    for name, pixel_size in (("one", 1.5), ("two", 0.75)):
        with mrcfile.new(tmp_path / "images" / f"{name}.mrc") as mrc:
            mrc.set_data(rng.normal(size=(_HEIGHT, _WIDTH)).astype(np.float32))
            mrc.voxel_size = pixel_size
        picks.append(Picks(name, rng.integers(0, 30, (5, 2)).astype(float), np.linspace(0.1, 0.9, 5)))
    write_picks(tmp_path / "in.tsv", picks)
    return tmp_path / "in.tsv"


@pytest.mark.parametrize("output", ["out.star", "out.csv", "out.txt", "out"])
def test_positions_and_scores_survive_a_conversion(
    output: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = source.with_name(output)
    _convert(source, target)
    assert capsys.readouterr().out == f"Wrote 10 picks in 2 micrographs to {target}\n"
    for found, expected in zip(read_picks(target), read_picks(source), strict=True):
        assert found.micrograph == expected.micrograph
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_a_folder_of_boxes_is_written_and_read(source: Path) -> None:
    folder = source.with_name("boxes")
    _convert(source, folder, "--folder-format", "box", "--box-size", 33)
    assert sorted(p.name for p in folder.iterdir()) == ["one.box", "two.box"]
    _convert(folder, source.with_name("back.csv"))
    for found, expected in zip(read_picks(source.with_name("back.csv")), read_picks(source), strict=True):
        np.testing.assert_array_equal(found.positions, expected.positions)


def test_names_and_pixel_sizes_come_from_the_images(source: Path) -> None:
    target, images = source.with_name("out.star"), source.with_name("images")
    _convert(source, target, "--micrographs", images)
    assert {entry.name: entry.pixel_size for entry in read_micrographs(target)} == {
        str(images / "one.mrc"): 1.5,
        str(images / "two.mrc"): 0.75,
    }


def test_pixel_sizes_of_a_star_file_are_kept(source: Path) -> None:
    first, second = source.with_name("first.star"), source.with_name("second.star")
    _convert(source, first, "--micrographs", source.with_name("images"))
    _convert(first, second)
    assert read_micrographs(second) == read_micrographs(first)
    _convert(first, second, "--pixel-size", 3)
    assert {entry.pixel_size for entry in read_micrographs(second)} == {3}


def test_an_unknown_pixel_size_is_said(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _convert(source, source.with_name("out.star"))
    assert "set --pixel-size" in capsys.readouterr().err
    assert "optics" not in source.with_name("out.star").read_text()


def test_flipping_y_twice_changes_nothing(source: Path) -> None:
    once, twice, images = source.with_name("1.csv"), source.with_name("2.csv"), source.with_name("images")
    _convert(source, once, "--flip-y", "--micrographs", images)
    _convert(once, twice, "--flip-y", "--micrographs", images)
    for start, flipped, back in zip(*map(read_picks, (source, once, twice)), strict=True):
        np.testing.assert_array_equal(flipped.positions[:, 0], start.positions[:, 0])
        np.testing.assert_array_equal(flipped.positions[:, 1], _HEIGHT - 1 - start.positions[:, 1])
        np.testing.assert_array_equal(back.positions, start.positions)


def test_a_cryoppp_table_is_converted_either_way(source: Path) -> None:
    table, target = source.with_name("one.csv"), source.with_name("out.csv")
    table.write_text("X-Coordinate,Y-Coordinate\n3,4\n")
    with pytest.raises(InputError, match="--flip-y"):
        _convert(table, target)
    _convert(table, target, "--keep-y")
    assert read_picks(target)[0].positions.tolist() == [[3, 4]]
    _convert(table, target, "--flip-y", "--micrographs", source.with_name("images"))
    assert read_picks(target)[0].positions.tolist() == [[3, _HEIGHT - 5]]


def test_picks_below_the_least_score_are_left_out(source: Path) -> None:
    _convert(source, source.with_name("out.csv"), "--min-score", 0.5)
    assert all((item.scores >= 0.5).all() and len(item) == 3 for item in read_picks(source.with_name("out.csv")))


@pytest.mark.parametrize(
    ("output", "options", "match"),
    [
        ("out.box", [], "one micrograph"),
        ("out.json", [], r"out\.json"),
        ("out", ["--folder-format", "box"], "--box-size"),
        ("out.csv", ["--flip-y"], "--micrographs"),
        ("out.csv", ["--flip-y", "--keep-y"], "exclude"),
        ("out.star", ["--pixel-size", "0"], "--pixel-size"),
        ("out", ["--folder-format", "box", "--box-size", "-3"], "--box-size"),
        ("out.csv", ["--micrographs", "nowhere"], "nowhere"),
    ],
)
def test_options_that_cannot_be_used_are_refused(output: str, options: list[str], match: str, source: Path) -> None:
    with pytest.raises(InputError, match=match) as caught:
        _convert(source, source.with_name(output), *options)
    assert "\n" not in str(caught.value)
    assert not source.with_name(output).exists()


def test_a_least_score_needs_scores(source: Path) -> None:
    (source.parent / "m.box").write_text("1 2 3 4\n")
    with pytest.raises(InputError, match=r"m\.box has no scores"):
        _convert(source.parent / "m.box", source.with_name("out.csv"), "--min-score", 0.5)


def test_a_micrograph_without_image_cannot_be_flipped(source: Path) -> None:
    (source.parent / "images" / "two.mrc").unlink()
    with pytest.raises(InputError, match="height of two"):
        _convert(source, source.with_name("o.csv"), "--flip-y", "--micrographs", source.with_name("images"))


def test_converting_imports_no_heavy_library() -> None:
    heavy = ("torch", "scipy", "matplotlib", "tifffile", "PIL", "pandas")
    code = f"import sys, deeppicker.cli.convert; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
