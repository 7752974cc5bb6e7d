"""Finding the micrographs that a user means."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import scenes
from deeppicker.core import MicrographEntry
from deeppicker.errors import FormatError, InputError
from deeppicker.formats import find_micrographs
from deeppicker.formats.inputs import doubtful_pixel_sizes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.mrc",
        "a.mrc",
        "c.TIF",
        "deep/er/d.mrc.gz",
        "deep/e.png",
        "notes.txt",
        ".hidden.mrc",
        "odd[1].mrc",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _names(*inputs: str) -> list[str]:
    return [entry.name for entry in find_micrographs(inputs)]


def test_a_folder_means_its_images_sorted(folder: Path) -> None:
    assert _names(".") == ["a.mrc", "b.mrc", "c.TIF", "odd[1].mrc"]
    assert _names(str(folder / "deep")) == [str(folder / "deep" / "e.png")]


def test_a_pattern_means_the_images_that_match(folder: Path) -> None:
    assert _names("*.mrc") == ["a.mrc", "b.mrc", "odd[1].mrc"]
    assert _names("**/*.mrc*") == ["a.mrc", "b.mrc", "deep/er/d.mrc.gz", "odd[1].mrc"]
    assert _names(f"{folder}/[ab].mrc") == [f"{folder}/a.mrc", f"{folder}/b.mrc"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(folder: Path) -> None:
    assert _names(str(folder / "odd[1].mrc")) == [str(folder / "odd[1].mrc")]


def test_each_file_comes_once_in_the_order_of_the_inputs(folder: Path) -> None:
    assert _names("b.mrc", ".", str(folder / "a.mrc")) == ["b.mrc", "a.mrc", "c.TIF", "odd[1].mrc"]


def test_a_star_file_means_the_micrographs_it_names(folder: Path) -> None:
    star = folder / "m.star"
    star.write_text("data_micrographs\nloop_\n_rlnMicrographName\n_rlnMicrographPixelSize\nb.mrc 1.5\ngone.mrc 1.5\n")
    found = find_micrographs(["m.star", "a.mrc", "b.mrc"])
    assert [(entry.name, entry.pixel_size) for entry in found] == [
        ("b.mrc", 1.5),
        ("gone.mrc", 1.5),
        ("a.mrc", None),
    ]


@pytest.mark.parametrize("text", ["absent.mrc", "*.jpeg", "empty", "notes.txt", "absent/*.mrc", "absent.star"])
def test_an_input_that_names_nothing_is_refused_with_its_name(text: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        find_micrographs(["a.mrc", text])
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["*.jpeg", "empty", "notes.txt"])
def test_the_extensions_that_were_looked_for_are_listed(text: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"\.mrc.*\.tif.*\.png"):
        find_micrographs([text])


def test_a_movie_is_refused_with_the_remedy(folder: Path) -> None:
    (folder / "m.eer").touch()
    with pytest.raises(InputError, match=r"m\.eer is a movie; motion-correct"):
        find_micrographs(["m.eer"])


def test_a_name_longer_than_any_file_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_micrographs([str(folder / ("x" * 999)) + ".mrc"])


def test_no_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="no micrographs"):
        find_micrographs([])


def test_a_star_file_without_micrographs_is_refused(folder: Path) -> None:
    (folder / "x.star").write_text("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n")
    with pytest.raises(FormatError, match=r"x\.star.*rlnMicrographName"):
        find_micrographs(["x.star"])


def test_a_folder_of_movies_is_answered_with_motion_correction(folder: Path) -> None:
    (folder / "movies").mkdir()
    (folder / "movies" / "m.eer").touch()
    with pytest.raises(InputError, match="only movies; motion-correct them"):
        find_micrographs(["movies"])
    with pytest.raises(InputError, match=r"m\.eer is a movie; motion-correct it"):
        find_micrographs(["movies/m.eer"])


def _header(path: Path, pixel_size: float) -> MicrographEntry:
    scenes.write_mrc(path, np.random.default_rng(0).normal(size=(20, 30)), pixel_size)
    return MicrographEntry(path.name, path)


@pytest.mark.parametrize(
    ("sizes", "given", "warning"),
    [
        ((1.5, 1.5), None, None),
        ((1.5, 1.51), None, None),
        ((1.5, 3.0), None, "different pixel sizes, from 1.5 Å (0.mrc) to 3 Å (1.mrc)"),
        ((1.5, 1.5), 1.6, None),
        ((1.5, 1.5), 3.0, "--pixel-size 3 Å is used, but 0.mrc says 1.5 Å"),
        ((1.5, 1.5), 0.75, "--pixel-size 0.75 Å is used, but 0.mrc says 1.5 Å"),
        ((1.0, 1.0), 3.0, None),  # a header says 1 where nobody knew better
    ],
)
def test_pixel_sizes_that_contradict_each_other_are_told(
    tmp_path: Path, sizes: tuple[float, float], given: float | None, warning: str | None
):
    entries = [_header(tmp_path / f"{i}.mrc", size) for i, size in enumerate(sizes)]
    told = doubtful_pixel_sizes([*entries, MicrographEntry("gone", tmp_path / "gone.mrc")], given)
    assert len(told) == (warning is not None)
    assert warning is None or warning in told[0]


def test_the_pixel_size_of_a_table_counts_before_the_header(tmp_path: Path):
    entry = replace(_header(tmp_path / "a.mrc", 3.0), pixel_size=1.5)
    assert doubtful_pixel_sizes([entry], 1.5) == []


def test_a_pipe_is_called_one_and_not_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mrc")
    with pytest.raises(InputError, match=r"a\.mrc is a pipe, device or socket"):
        find_micrographs([str(tmp_path / "a.mrc")])
