"""``deeppicker convert`` as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from deeppicker.cli._shared.parse import parse
from deeppicker.cli.convert import run
from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.formats import read_micrographs, read_picks, write_picks
from deeppicker.formats.coordinates import cryosparc

_HEIGHT, _WIDTH = 30, 50


def _convert(*args: object) -> None:
    assert run(parse("convert", [str(arg) for arg in args])) == 0


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
    _convert(source, folder, "--folder-format", "box", "--box-size", 34)
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


_UID = "000123456789012345678"


@pytest.mark.parametrize("folder_format", ["cbox", "json", "pos", "automatch"])
def test_a_folder_of_another_programs_files_is_written_and_read(folder_format: str, source: Path) -> None:
    folder = source.with_name("folder")
    _convert(source, folder, "--folder-format", folder_format, "--box-size", 34)
    _convert(folder, source.with_name("back.csv"))
    for found, expected in zip(read_picks(source.with_name("back.csv")), read_picks(source), strict=True):
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(found.scores, expected.scores)


def _as_cryosparc(source: Path) -> Path:
    """Give the images the names that cryoSPARC gives them on import."""
    images = source.with_name("images")
    for path in list(images.iterdir()):
        path.rename(images / f"{_UID}_{path.name}")
    return images


def test_names_get_the_prefixes_of_cryosparc_or_lose_them(source: Path) -> None:
    images = _as_cryosparc(source)
    on, off = source.with_name("on.star"), source.with_name("off.star")
    _convert(source, on, "--micrographs", images)
    assert [item.micrograph for item in read_picks(on)] == [f"{images}/{_UID}_{n}.mrc" for n in ("one", "two")]
    _convert(on, off, "--uid-prefix", "strip")
    assert {entry.name: entry.pixel_size for entry in read_micrographs(off)} == {
        f"{images}/one.mrc": 1.5,
        f"{images}/two.mrc": 0.75,
    }
    for found, expected in zip(read_picks(off), read_picks(source), strict=True):
        np.testing.assert_array_equal(found.positions, expected.positions)


def test_particles_for_cryosparc_take_sizes_and_uids_from_the_images(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, images = source.with_name("out.cs"), _as_cryosparc(source)
    _convert(source, target, "--micrographs", images)
    one, two = cryosparc.read_micrographs(target)
    assert (one.shape, one.pixel_size, one.uid) == ((_HEIGHT, _WIDTH), 1.5, int(_UID))
    assert (two.shape, two.pixel_size) == ((_HEIGHT, _WIDTH), 0.75)
    assert capsys.readouterr().err == ""
    for found, expected in zip(read_picks(target), read_picks(source), strict=True):
        np.testing.assert_allclose(found.positions, expected.positions, atol=1e-4)
    again = source.with_name("again.star")  # and a .cs file tells the pixel sizes of a RELION table
    _convert(target, again, "--uid-prefix", "strip")
    assert [entry.pixel_size for entry in read_micrographs(again)] == [1.5, 0.75]


def test_cryosparcs_own_list_of_micrographs_serves_without_the_images(source: Path) -> None:
    dtype = [
        ("uid", "<u8"),
        ("micrograph_blob/path", "S99"),
        ("micrograph_blob/shape", "<u4", (2,)),
        ("micrograph_blob/psize_A", "<f4"),
    ]
    rows = [(7 + i, f"J1/imported/{_UID}_{n}.mrc", (_HEIGHT, _WIDTH), 1.5) for i, n in enumerate(("one", "two"))]
    with source.with_name("micrographs.cs").open("wb") as file:
        np.save(file, np.array(rows, dtype))
    table = source.with_name("table.csv")
    table.write_text("micrograph,X-Coordinate,Y-Coordinate\none.mrc,3,4\n")
    _convert(table, source.with_name("out.cs"), "--flip-y", "--micrographs", source.with_name("micrographs.cs"))
    (picks,) = read_picks(source.with_name("out.cs"))
    assert picks.micrograph == f"J1/imported/{_UID}_one.mrc"
    np.testing.assert_allclose(picks.positions, [[3, _HEIGHT - 5]], atol=1e-4)
    assert cryosparc.read_micrographs(source.with_name("out.cs"))[0].uid == 7


def test_particles_for_cryosparc_without_its_uids_are_told_of(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _convert(source, source.with_name("out.cs"), "--micrographs", source.with_name("images"))
    assert "cryoSPARC's UID of" in capsys.readouterr().err


def test_a_cs_file_is_flipped_by_the_sizes_that_it_holds(source: Path) -> None:
    _convert(source, source.with_name("in.cs"), "--micrographs", source.with_name("images"))
    _convert(source.with_name("in.cs"), source.with_name("out.csv"), "--flip-y")
    for found, expected in zip(read_picks(source.with_name("out.csv")), read_picks(source), strict=True):
        np.testing.assert_allclose(found.positions[:, 1], _HEIGHT - 1 - expected.positions[:, 1], atol=1e-3)
        np.testing.assert_allclose(found.positions[:, 0], expected.positions[:, 0], atol=1e-3)


def test_a_table_for_relion_3_0_has_no_optics_groups(source: Path) -> None:
    target = source.with_name("old.star")
    _convert(source, target, "--relion", "3.0", "--micrographs", source.with_name("images"))
    assert "optics" not in target.read_text().lower()
    assert [entry.pixel_size for entry in read_micrographs(target)] == [1.5, 0.75]


@pytest.mark.parametrize(
    ("output", "options", "match"),
    [
        ("out.cs", [], "image size of one; give its image with --micrographs"),
        ("out.cbox", ["--box-size", "9"], "one micrograph"),
        ("out", ["--folder-format", "cbox"], "--box-size"),
        ("out.csv", ["--relion", "3.0"], r"out\.csv is not a \.star file"),
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
