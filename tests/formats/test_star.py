"""RELION STAR files of several versions, and tables of micrographs."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeppicker.core import Picks
from deeppicker.errors import FormatError
from deeppicker.formats import read_micrographs, read_picks, star_table, text
from deeppicker.formats.relion import star
from deeppicker.formats.star_table import read_tables

ODD = ["", "nan", "inf", "-inf", "1_000", " 1", "+2", "1e400", "_x", "data_1", "'", "0x1", "1.5.2"]

_OPTICS = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnVoltage #4
opticsGroup1 1 1.500000 300.0
opticsGroup2 2 0.750000 300.0


# version 30001

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
_rlnDefocusU #3
_rlnDefocusV #4
MotionCorr/job002/a.mrc            1 10000.0 12000.0
MotionCorr/job002/b.mrc            2 20000.0 21000.0

""".replace("\n", " \n")  # RELION ends lines with a space

_RELION_30 = """
data_

loop_
_rlnMicrographName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnMagnification #4
_rlnDetectorPixelSize #5
_rlnDefocusU #6
_rlnDefocusV #7
a.mrc 1 2 50000 7.0 10000 11000
b.mrc 3 4 50000 7.0 20000 20000
a.mrc 5 6 50000 7.0 12000 13000
"""


def _write(folder: Path, text: str, name: str = "in.star") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_pixel_sizes_follow_the_optics_group_of_each_micrograph(tmp_path: Path) -> None:
    one, two = read_micrographs(_write(tmp_path, _OPTICS))
    assert (one.name, one.pixel_size, one.defocus) == ("MotionCorr/job002/a.mrc", 1.5, 1.1)
    assert (two.name, two.pixel_size, two.defocus) == ("MotionCorr/job002/b.mrc", 0.75, 2.05)


def test_a_relion_3_0_table_tells_pixel_size_and_mean_defocus(tmp_path: Path) -> None:
    path = _write(tmp_path, _RELION_30)
    assert [(e.name, e.pixel_size, e.defocus) for e in read_micrographs(path)] == [
        ("a.mrc", pytest.approx(1.4), 1.15),
        ("b.mrc", pytest.approx(1.4), 2.0),
    ]
    a, b = read_picks(path)
    assert (a.micrograph, a.positions.tolist()) == ("a.mrc", [[1, 2], [5, 6]])
    assert (b.micrograph, b.positions.tolist()) == ("b.mrc", [[3, 4]])


def test_bare_coordinates_take_the_name_of_their_file(tmp_path: Path) -> None:
    text = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1.5 2\n"
    (picks,) = read_picks(_write(tmp_path, text, "mic 1_autopick.star"))
    assert (picks.micrograph, picks.positions.tolist()) == ("mic 1", [[1.5, 2]])


@pytest.mark.parametrize("end", ["\n", "\n\n \n", ""])
def test_a_loop_without_rows_holds_no_picks(end: str, tmp_path: Path) -> None:
    text = f"data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2{end}"
    (picks,) = read_picks(_write(tmp_path, text))
    assert len(picks) == 0


def test_a_table_of_one_row_may_be_a_list(tmp_path: Path) -> None:
    text = "data_particles\n\n_rlnMicrographName 'a b.mrc'\n_rlnCoordinateX 1\n_rlnCoordinateY 2\n"
    (picks,) = read_picks(_write(tmp_path, text))
    assert (picks.micrograph, picks.positions.tolist()) == ("a b.mrc", [[1, 2]])


def test_extracted_particles_do_not_tell_the_pixel_size_of_the_micrograph(tmp_path: Path) -> None:
    text = """data_optics
loop_
_rlnOpticsGroup
_rlnImagePixelSize
1 4.2
data_particles
loop_
_rlnMicrographName
_rlnOpticsGroup
a.mrc 1
"""
    assert read_micrographs(_write(tmp_path, text))[0].pixel_size == 4.2
    text = text.replace("_rlnOpticsGroup\na.mrc 1", "_rlnOpticsGroup\n_rlnImageName\na.mrc 1 1@x.mrcs")
    assert read_micrographs(_write(tmp_path, text))[0].pixel_size is None
    original = text.replace(
        "_rlnImagePixelSize\n1 4.2", "_rlnImagePixelSize\n_rlnMicrographOriginalPixelSize\n1 4.2 1.4"
    )
    assert read_micrographs(_write(tmp_path, original))[0].pixel_size == 1.4


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("job002/b.mrc            2", "job002/b.mrc 3", "optics group 3"),
        ("1.500000", "0.0", "pixel size 0 Å"),
        ("1.500000", "-1.5", "pixel size -1.5 Å"),
        ("1.500000", "unknown", "rlnMicrographPixelSize in row 1"),
        ("1.500000", "nan", "rlnMicrographPixelSize in row 1"),
        ("20000.0", "far", "rlnDefocusU in row 2"),
        ("_rlnMicrographName", "_rlnMicrographMovieName", "rlnMicrographName; found"),
        ("job002/b.mrc  ", "job002/a.mrc  ", "both 0.75 and 1.5 Å"),
    ],
)
def test_what_cannot_be_meant_is_refused(old: str, new: str, match: str, tmp_path: Path) -> None:
    path = _write(tmp_path, _OPTICS.replace(old, new))
    with pytest.raises(FormatError, match=match) as caught:
        read_micrographs(path)
    assert str(path) in str(caught.value)


def test_images_are_found_from_the_project_folder(tmp_path: Path) -> None:
    image = _write(tmp_path, "", "project/MotionCorr/job002/a.mrc")
    path = _write(tmp_path, _OPTICS, "project/CtfFind/job003/micrographs_ctf.star")
    one, two = read_micrographs(path)
    assert one.path.resolve() == image.resolve()
    assert two.path == Path("MotionCorr/job002/b.mrc")  # nowhere: as it is written


def test_the_name_as_given_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "", "cwd/MotionCorr/job002/a.mrc")
    _write(tmp_path, "", "project/MotionCorr/job002/a.mrc")
    path = _write(tmp_path, _OPTICS, "project/m.star")
    monkeypatch.chdir(tmp_path / "cwd")
    assert read_micrographs(path)[0].path == Path("MotionCorr/job002/a.mrc")


def test_autopick_star_leads_to_the_coordinates_of_each_micrograph(tmp_path: Path) -> None:
    first = Picks("MotionCorr/a.mrc", np.array([[1.0, 2.0]]), np.array([0.5]))
    second = Picks.unscored("MotionCorr/b.mrc", np.empty((0, 2)))
    folder = tmp_path / "AutoPick" / "job007"
    folder.mkdir(parents=True)
    star.write_coordinates(folder / "a_autopick.star", first)
    star.write_coordinates(folder / "b_autopick.star", second)
    (folder / "c_autopick.star").touch()  # RELION's own empty table
    (folder / "d.box").write_text("1 2 10 10\n")
    rows = [(f"MotionCorr/{n}.mrc", f"AutoPick/job007/{n}_autopick.star") for n in "abc"]
    star.write_autopick(folder / "autopick.star", [*rows, ("MotionCorr/d.mrc", "AutoPick/job007/d.box")])
    a, b, c, d = read_picks(folder)
    assert (a.micrograph, a.positions.tolist(), a.scores.tolist()) == ("MotionCorr/a.mrc", [[1, 2]], [0.5])
    assert (b.micrograph, len(b), c.micrograph, len(c)) == ("MotionCorr/b.mrc", 0, "MotionCorr/c.mrc", 0)
    assert (d.micrograph, d.positions.tolist()) == ("MotionCorr/d.mrc", [[6, 7]])
    assert [entry.name for entry in read_micrographs(folder / "autopick.star")] == [
        f"MotionCorr/{n}.mrc" for n in "abcd"
    ]


@given(
    st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 4), max_size=4),
    st.lists(
        st.tuples(st.floats(-9, 9), st.floats(0, 1), st.sampled_from(["contamination", "extreme pixels"])), max_size=3
    ),
    st.booleans(),
)
def test_candidates_and_what_was_rejected_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    found: list[tuple[float, ...]],
    rejected: list[tuple[float, float, str]],
    measured: bool,
) -> None:
    table = np.array(found, dtype=float).reshape(-1, 4)
    candidates = Picks("m", table[:, :2], table[:, 2], table[:, 3] if measured else None)
    places = np.array([[x, x] for x, _, _ in rejected], dtype=float).reshape(-1, 2)
    others = Picks("m", places, np.array([score for _, score, _ in rejected], dtype=float))
    path = tmp_path_factory.mktemp("candidates") / "m_candidates.star"
    path.write_text(star.candidates_text(candidates, others, [reason for *_, reason in rejected]))
    back, out, reasons = star.read_candidates(path)
    np.testing.assert_array_equal(back.positions, candidates.positions)
    np.testing.assert_array_equal(back.scores, candidates.scores)
    assert (back.contrast is None) == (not measured)
    if measured:
        np.testing.assert_array_equal(back.contrast, candidates.contrast)
    np.testing.assert_array_equal(out.positions, others.positions)
    np.testing.assert_array_equal(out.scores, others.scores)
    assert reasons == [reason.replace(" ", "_") for *_, reason in rejected]
    assert len(read_picks(path)[0]) == len(candidates)  # other programs' files of coordinates are read likewise


def test_what_holds_no_candidates_of_a_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m_candidates.star"
    star.write_coordinates(path, Picks("m", np.array([[1.0, 2.0]]), np.array([0.5])))
    with pytest.raises(
        FormatError, match=r"m_candidates\.star does not hold the candidates of a run; repeat .*; found data_ with"
    ):
        star.read_candidates(path)


def test_written_coordinates_have_the_columns_of_relion(tmp_path: Path) -> None:
    path = tmp_path / "m_autopick.star"
    star.write_coordinates(path, Picks("m.mrc", np.array([[1.0, 2.0]]), np.array([0.5])))
    (table,) = read_tables(path)
    assert table.name == ""
    assert {label: list(column) for label, column in table.columns.items()} == {
        "rlnCoordinateX": ["1.0"],
        "rlnCoordinateY": ["2.0"],
        "rlnAutopickFigureOfMerit": ["0.5"],
        "rlnClassNumber": ["0"],
        "rlnAnglePsi": ["0"],
    }
    # RELION takes a label up to one character before the "#".
    assert "\n_rlnCoordinateX #1\n" in path.read_text()


def test_texts_of_a_column_are_made_when_they_are_asked_for(tmp_path: Path) -> None:
    rows, path = 20_000, tmp_path / "many.star"
    numbers = np.random.default_rng(0).uniform(0, 4000, (rows, 2))
    picks = [Picks(f"a b/{i}.mrc", part, part[:, 0] / 4000) for i, part in enumerate(np.split(numbers, 20))]
    star.write_particles(path, picks, {item.micrograph: 1.5 for item in picks})
    tracemalloc.start()
    found = star.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(item) for item in found] == [rows // 20] * 20
    assert np.array_equal(np.concatenate([item.positions for item in found]), numbers)
    assert peak < 2 * path.stat().st_size + 100 * rows  # a text takes about 60 bytes, and a row has five
    table = read_tables(path)[1]
    column = table.columns["rlnMicrographName"]
    assert column[-1] == "a b/19.mrc"
    assert column[998:1002:2] == ["a b/0.mrc", "a b/1.mrc"]
    assert list(column) == table.text("rlnMicrographName")


def test_picks_without_scores_have_no_figure_of_merit(tmp_path: Path) -> None:
    path = tmp_path / "m.star"
    star.write_coordinates(path, Picks.unscored("m.mrc", np.ones((2, 2))))
    assert "FigureOfMerit" not in path.read_text()


def test_each_pixel_size_becomes_an_optics_group(tmp_path: Path) -> None:
    path = tmp_path / "p.star"
    sizes = {"a.mrc": 1.5, "b.mrc": 0.75, "c.mrc": 1.5}
    picks = [Picks.unscored(name, np.ones((2, 2))) for name in sizes]
    star.write_particles(path, picks, sizes)
    assert {entry.name: entry.pixel_size for entry in read_micrographs(path)} == sizes
    assert len(read_tables(path)[0]) == 2


def test_names_in_bytes_that_are_not_utf_8_survive(tmp_path: Path) -> None:
    path = tmp_path / "p.star"
    path.write_bytes(b"data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\nm\xe9.mrc 1 2\n")
    (picks,) = read_picks(path)
    star.write_particles(tmp_path / "q.star", [picks])
    assert b"m\xe9.mrc" in (tmp_path / "q.star").read_bytes()


def test_a_name_longer_than_any_file_is_a_missing_file(tmp_path: Path) -> None:
    long = "x" * 999
    text = f"data_\nloop_\n_rlnMicrographName\n_rlnMicrographCoordinates\n{long}.mrc {long}.star\n"
    path = _write(tmp_path, text)
    assert [entry.name for entry in read_micrographs(path)] == [f"{long}.mrc"]
    with pytest.raises(FormatError, match="does not exist"):
        read_picks(path)


def test_a_syntax_error_is_reported_with_its_line(tmp_path: Path) -> None:
    path = _write(tmp_path, "data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n3\n")
    with pytest.raises(FormatError, match="line 3: Wrong number of values"):
        read_picks(path)


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "micrographs", "particles", "pixel_size"),
    [
        ("apoferritin-10146", 19, 3104, 1.5),
        ("trpv1-10059", 10, 6756, 4.48),
        ("ribosome-10028", 10, 865, 5.36),
    ],
)
def test_real_particles_and_their_micrographs_are_read(
    data: Path, folder: str, micrographs: int, particles: int, pixel_size: float
) -> None:
    path = data / "real" / folder / "particles.star"
    entries, picks = read_micrographs(path), read_picks(path)
    assert (len(entries), sum(map(len, picks))) == (micrographs, particles)
    assert {entry.pixel_size for entry in entries} == {pixel_size}
    assert all(entry.path.is_file() for entry in entries)


_REFINED = """data_optics
loop_
_rlnOpticsGroup
_rlnMicrographPixelSize
1 2.0
data_particles
loop_
_rlnMicrographName
_rlnCoordinateX
_rlnCoordinateY
_rlnOriginXAngst
_rlnOriginYAngst
_rlnOpticsGroup
a.mrc 100 200 6.0 -3.0 1
"""


def test_a_refined_particle_is_at_its_coordinate_minus_its_origin(tmp_path: Path) -> None:
    (picks,) = star.read(_write(tmp_path, _REFINED))
    assert picks.positions.tolist() == [[97.0, 201.5]]


def test_origins_without_a_pixel_size_are_told_and_left_out(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no pixel size of the micrographs, so rlnOriginXAngst"):
        (picks,) = star.read(_write(tmp_path, _REFINED.replace("_rlnMicrographPixelSize", "_rlnVoltage")))
    assert picks.positions.tolist() == [[100.0, 200.0]]


@given(
    st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False).map(repr), st.sampled_from(ODD)), max_size=6)
)
def test_columns_of_numbers_are_read_and_written_as_value_by_value(tokens: list[str]):
    """Most columns hold usual numbers only, and take a shorter way."""
    rows = star_table.format_rows({"one": tokens, "two": ["a b"] * len(tokens)})
    assert rows.splitlines() == [f'{star_table._quoted(token)} "a b"' for token in tokens]
    if all(text._is_float(token) for token in tokens):
        values = text.floats(tokens, "here")
        assert np.array_equal(values, [text._float(token) for token in tokens], equal_nan=True)
    else:
        with pytest.raises(FormatError, match="not a number"):
            text.floats(tokens, "here")


@given(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=6), st.lists(st.sampled_from(["", "'", '"'])))
def test_numbers_are_the_same_with_and_without_quotation_marks(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], marks: list[str]
):
    tokens = [
        f"{mark}{value!r}{mark}" for value, mark in itertools.zip_longest(values, marks[: len(values)], fillvalue="")
    ]
    (table,) = read_tables(
        _write(tmp_path_factory.mktemp("quoted"), "\n".join(["data_", "loop_", "_one", *tokens, ""]))
    )
    assert table.numbers_or_nan("one").tolist() == pytest.approx(values, rel=0, abs=0, nan_ok=True)
    if np.isnan(values).any():
        with pytest.raises(FormatError, match=r"one in row \d+ \(line \d+\) is 'nan', not a number"):
            table.numbers("one")
    else:
        assert table.numbers("one").tolist() == values
