"""Every coordinate format: what is written reads back, and what is wrong is refused in one line."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeppicker.core import Picks
from deeppicker.errors import DeepPickerError, FormatError, InputError, OutputError
from deeppicker.formats import read_picks, write_picks
from deeppicker.formats.coordinates.cryosparc import MicrographSize
from deeppicker.formats.names import merge, micrograph_of

_EXAMPLES = settings(derandomize=True, deadline=None, max_examples=50)
_COORDINATE = st.floats(-1e5, 1e5)
_SCORES = st.one_of(st.floats(0, 1), st.floats(1 - 1e-9, 1), st.floats(-50, 50), st.just(float("nan")))
_ODD_NAMES = [
    "a b.mrc",
    "two  spaces.mrc",
    "data_mic.mrc",
    "_leading.mrc",
    "#hash.mrc",
    "loop_",
    "it's.mrc",
    "'quoted'.mrc",
    '"double".mrc',
    "ångström/μ-graph é.mrc",
    "100%25.mrc",
    "é%41.mrc",
    ";semicolon.mrc",
    "[bracket].mrc",
    "$dollar.mrc",
    "?",
    ".",
    "comma,name.mrc",
    "Raw/data_1/stop_2.mrc",
]
_NAMES = st.one_of(
    st.sampled_from(_ODD_NAMES),
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
        lambda name: not ('"' in name and "'" in name)
    ),
)


@st.composite
def _picks(draw: st.DrawFn, names: st.SearchStrategy[str] = _NAMES) -> list[Picks]:
    result = []
    for name in draw(st.lists(names, unique=True, max_size=4)):
        rows = draw(st.lists(st.tuples(_COORDINATE, _COORDINATE, _SCORES), min_size=1, max_size=6))
        table = np.array(rows, dtype=np.float64)
        result.append(Picks(name, table[:, :2], table[:, 2]))
    return result


def assert_same(found: list[Picks], expected: list[Picks]) -> None:
    assert [item.micrograph for item in found] == [item.micrograph for item in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.scores, other.scores)


def _round_trip(picks: list[Picks], file_name: str, **options: object) -> list[Picks]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file_name
        write_picks(path, picks, **options)  # type: ignore[arg-type]
        return read_picks(path)


@_EXAMPLES
@given(_picks())
def test_a_particles_star_reads_back_as_written(picks: list[Picks]) -> None:
    assert_same(_round_trip(picks, "picks.star"), picks)


@_EXAMPLES
@given(_picks(), st.floats(0.1, 20))
def test_a_particles_star_with_optics_reads_back_as_written(picks: list[Picks], pixel_size: float) -> None:
    assert_same(_round_trip(picks, "picks.star", pixel_size=pixel_size), picks)


@_EXAMPLES
@given(_picks())
def test_a_csv_reads_back_as_written(picks: list[Picks]) -> None:
    assert_same(_round_trip(picks, "picks.csv"), picks)


_KEYS = st.sampled_from(["mic_1", "a b", "é", "#1", "data_x", "it's", '"q"', "_x"])


@pytest.mark.parametrize("file_name", ["picks.tsv", "picks.txt"])
@_EXAMPLES
@given(_picks(_KEYS))
def test_a_topaz_table_reads_back_rounded_to_pixels(file_name: str, picks: list[Picks]) -> None:
    rounded = [replace(item, positions=np.floor(item.positions + 0.5)) for item in picks]
    assert_same(_round_trip(picks, file_name), rounded)


@_EXAMPLES
@given(_picks(_KEYS))
def test_a_folder_of_star_files_reads_back_as_written(picks: list[Picks]) -> None:
    assert_same(_round_trip(picks, "folder"), picks)


@_EXAMPLES
@given(_picks(_KEYS), st.integers(1, 250).map(lambda half: 2 * half))
def test_a_folder_of_boxes_reads_back_rounded_to_pixels(picks: list[Picks], box_size: int) -> None:
    if not picks:
        return
    found = _round_trip(picks, "folder", box_size=box_size, folder_format="box")
    rounded = [Picks(p.micrograph, np.floor(p.positions + 0.5), p.scores) for p in picks]
    assert_same(sorted(found, key=lambda p: p.micrograph), sorted(rounded, key=lambda p: p.micrograph))


@_EXAMPLES
@given(st.integers(-1000, 5000), st.integers(-1000, 5000), st.integers(1, 250).map(lambda half: 2 * half))
def test_whole_positions_survive_a_box_of_any_even_size(x: int, y: int, box_size: int) -> None:
    picks = Picks.unscored("m", np.array([[x, y]], dtype=np.float64))
    (found,) = _round_trip([picks], "m.box", box_size=box_size)
    np.testing.assert_array_equal(found.positions, picks.positions)


def test_a_box_of_odd_size_is_not_written_because_programs_disagree_about_its_middle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--box-size 101 is odd"):
        write_picks(tmp_path / "m.box", [Picks.unscored("m", np.ones((1, 2)))], box_size=101)
    assert not list(tmp_path.iterdir())


def test_topaz_gets_whole_pixels(tmp_path: Path) -> None:
    write_picks(tmp_path / "m.txt", [Picks("m", np.array([[10.5, 20.49]]), np.array([0.5]))])
    assert (tmp_path / "m.txt").read_text() == "image_name\tx_coord\ty_coord\tscore\nm\t11\t20\t0.5\n"


def test_what_is_missing_is_called_so(tmp_path: Path) -> None:
    for name in ("nosuch", "nosuch.xyz"):
        with pytest.raises(InputError, match=f"{name} does not exist"):
            read_picks(tmp_path / name)


def test_a_folder_as_of_a_simulation_is_read_by_its_table_of_particles(tmp_path: Path) -> None:
    picks = [Picks.unscored("micrographs/a.mrc", np.ones((1, 2)))]
    folder = tmp_path / "all" / "hook"
    folder.mkdir(parents=True)
    write_picks(folder / "particles.star", picks)
    write_picks(folder / "micrographs.star", picks)
    assert_same(read_picks(folder), picks)
    with pytest.raises(InputError, match=r"give a folder in it, such as .*hook"):
        read_picks(tmp_path / "all")


def test_the_centre_of_an_eman_box_is_the_corner_plus_half_the_size(tmp_path: Path) -> None:
    path = tmp_path / "mic.box"
    path.write_text("10 20 100 60\n-5\t3\t7\t7\n")
    (picks,) = read_picks(path)
    assert picks.micrograph == "mic"
    assert picks.positions.tolist() == [[60, 50], [-2, 6]]
    assert not picks.has_scores


def test_the_particle_type_of_eman1_is_not_taken_for_a_score(tmp_path: Path) -> None:
    path = tmp_path / "mic.box"
    path.write_text("10 20 100 100 -3\n11 20 100 100 -3\n")
    assert not read_picks(path)[0].has_scores


@pytest.mark.parametrize("file_name", ["none.star", "none.csv", "none.tsv", "none.cs"])
def test_no_picks_make_a_valid_file_without_picks(file_name: str) -> None:
    assert _round_trip([], file_name) == []
    empty = Picks.unscored("m.mrc", np.empty((0, 2)))
    assert _round_trip([empty], file_name) == []


@pytest.mark.parametrize(
    "options",
    [{}, *({"folder_format": kind, "box_size": 8} for kind in ("box", "cbox", "json", "pos", "automatch"))],
)
def test_a_micrograph_without_picks_has_its_file_in_a_folder(options: dict[str, object]) -> None:
    empty = Picks.unscored("m", np.empty((0, 2)))
    assert_same(_round_trip([empty], "folder", **options), [empty])


def test_scores_that_differ_in_the_last_digit_keep_their_order() -> None:
    scores = 1 - np.arange(1, 50) * 2.0**-53
    picks = Picks("m", np.random.default_rng(0).uniform(0, 900, (49, 2)), scores)
    for name in ("p.star", "p.csv", "p.tsv", "folder"):
        np.testing.assert_array_equal(_round_trip([picks], name)[0].scores, scores)


def test_coordinates_swap_neither_axis_nor_direction(tmp_path: Path) -> None:
    picks = [Picks("mic", np.array([[3.0, 700.0]]), np.array([0.5]))]
    for name in ("p.star", "p.csv", "p.tsv"):
        write_picks(tmp_path / name, picks)
        row = (tmp_path / name).read_text().strip().splitlines()[-1]
        assert row.replace(",", " ").split()[:3] in (["mic", "3.0", "700.0"], ["mic", "3", "700"])
        assert read_picks(tmp_path / name)[0].positions.tolist() == [[3.0, 700.0]]


def test_files_of_one_micrograph_in_several_formats_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "a.box").write_text("1 2 3 4\n")
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match=r"\.box and \.csv"):
        read_picks(tmp_path)


def test_a_note_in_a_folder_of_coordinates_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.box").write_text("1 2 3 4\n")
    (tmp_path / "notes.txt").write_text("picked by hand\n")
    assert [item.micrograph for item in read_picks(tmp_path)] == ["a"]


@pytest.mark.parametrize("suffix", ["_autopick", "_manualpick", "_automatch", "_particles", "_candidates", ""])
def test_the_micrograph_of_a_coordinate_file_is_its_name_without_suffix(suffix: str) -> None:
    assert micrograph_of(f"job/mic_01{suffix}.star") == "mic_01"


def test_several_micrographs_do_not_fit_one_box_file(tmp_path: Path) -> None:
    picks = [Picks.unscored(name, np.ones((1, 2))) for name in ("a", "b")]
    with pytest.raises(InputError, match="--folder-format box"):
        write_picks(tmp_path / "x.box", picks, box_size=8)
    assert not list(tmp_path.iterdir())


def test_micrographs_that_differ_by_folder_only_are_not_merged_in_topaz(tmp_path: Path) -> None:
    picks = [Picks.unscored(name, np.ones((1, 2))) for name in ("a/m.mrc", "b/m.mrc")]
    for name in ("x.tsv", "folder"):
        with pytest.raises(InputError, match=r"a/m\.mrc and b/m\.mrc"):
            write_picks(tmp_path / name, picks)
    assert not list(tmp_path.iterdir())


def test_picks_of_the_same_micrograph_are_merged_in_order() -> None:
    one, two = (Picks("m", np.full((1, 2), float(i)), np.array([i / 4])) for i in (1, 2))
    other = Picks.unscored("n", np.zeros((0, 2)))
    (merged, kept) = merge([one, other, two])
    assert merged.positions.tolist() == [[1, 1], [2, 2]]
    assert kept is other


def test_a_cryoppp_table_asks_for_the_direction_of_y(tmp_path: Path) -> None:
    path = tmp_path / "mic_7.csv"
    path.write_text("X-Coordinate,Y-Coordinate,Diameter\n10,20,130\n")
    with pytest.raises(InputError, match=r"mic_7\.csv.*--flip-y"):
        read_picks(path)
    (picks,) = read_picks(path, y_direction_known=True)
    assert (picks.micrograph, picks.positions.tolist()) == ("mic_7", [[10, 20]])


_BAD = {
    "empty.star": b"",
    "text.star": b"hello world\n",
    "binary.star": bytes(range(256)),
    "no_xy.star": b"data_\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\na 1\n",
    "short_row.star": b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n3\n",
    "nan.star": b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n3 nan\n",
    "word.star": b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\nx 4\n",
    "inf.star": b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n3 inf\n",
    "twice.star": b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateX\n1 2\n",
    "blocks.star": b"data_\n_a 1\ndata_\n_a 1\n",
    "missing.star": b"data_\nloop_\n_rlnMicrographName\n_rlnMicrographCoordinates\na.mrc a.star\n",
    "short.box": b"1 2 3\n",
    "word.box": b"1 2 3 four\n",
    "nan.box": b"1 nan 3 4\n",
    "zero.box": b"1 2 0 0\n",
    "ragged.box": b"1 2 3 4 5\n1 2 3 4\n",
    "helix.box": b"1 2 3 4 -1\n1 2 3 4 -2\n",
    "empty.csv": b"",
    "columns.csv": b"a,b\n1,2\n",
    "ragged.csv": b"x,y\n1\n",
    "nan.csv": b"x,y\n1,nan\n",
    "gap.csv": b"x,y\n1,\n",
    "quote.csv": b'x,y\n1,"2\n',
    "binary.csv": b"x,y\n\0,1\n",
    "empty.tsv": b"",
    "note.txt": b"just a note\n",
    "ragged.txt": b"image_name\tx_coord\ty_coord\na\t1\n",
    "word.txt": b"image_name\tx_coord\ty_coord\na\t1\ttwo\n",
    "underscore.txt": b"image_name\tx_coord\ty_coord\na\t1\t1_000\n",
    "picks.json": b"[]",
}


@pytest.mark.parametrize("name", _BAD)
def test_a_bad_file_is_refused_in_one_line_that_names_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(_BAD[name])
    with pytest.raises(FormatError, match=name) as caught:
        read_picks(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nan.star", "word.star", "inf.star"])
def test_a_bad_coordinate_is_reported_with_its_row(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(_BAD[name])
    with pytest.raises(FormatError, match="row 2"):
        read_picks(path)


def test_a_missing_column_is_reported_with_those_found(tmp_path: Path) -> None:
    path = tmp_path / "x.star"
    path.write_bytes(_BAD["no_xy.star"])
    with pytest.raises(FormatError, match=r"rlnCoordinateY.*found.*rlnMicrographName"):
        read_picks(path)


@pytest.mark.parametrize("kind", [".star", ".box", ".csv", ".tsv", ".cs", ".cbox", "_info.json", ".pos"])
def test_a_missing_file_is_an_input_error(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"absent{kind}"):
        read_picks(tmp_path / f"absent{kind}")


def test_an_empty_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no coordinate files"):
        read_picks(tmp_path)


@pytest.mark.parametrize("name", ["x.box", "x.star", "x.csv", "x.tsv", "x.cbox", "x_info.json", "x.pos"])
def test_writing_into_a_missing_folder_is_an_output_error(name: str, tmp_path: Path) -> None:
    picks = [Picks.unscored("m", np.ones((1, 2)))]
    with pytest.raises(OutputError, match=name):
        write_picks(tmp_path / "absent" / name, picks, box_size=10)


def test_an_unknown_extension_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.json"):
        write_picks(tmp_path / "x.json", [])


@pytest.mark.parametrize("name", ["line\nfeed.mrc", "tab\there.mrc", "a\" b' c.mrc"])
def test_a_name_that_star_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_picks(tmp_path / "x.star", [Picks.unscored(name, np.ones((1, 2)))])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def _example(file_name: str) -> bytes:
    picks = [Picks(name, np.arange(8.0).reshape(4, 2), np.linspace(0, 1, 4)) for name in ("a b", "é")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file_name
        sizes = {item.micrograph: MicrographSize(40, 50, 1.5) for item in picks}
        count = 2 if path.suffix in (".star", ".csv", ".tsv", ".cs") else 1
        write_picks(path, picks[:count], pixel_size=1.5, box_size=8, sizes=sizes)
        return path.read_bytes()


@pytest.mark.parametrize("file_name", ["x.star", "x.box", "x.csv", "x.tsv", "x.cs", "x.cbox", "x_info.json", "x.pos"])
@_EXAMPLES
@given(cut=st.integers(0, 2000), at=st.integers(0, 2000), junk=st.binary(max_size=6))
def test_a_damaged_file_never_raises_anything_but_one_line(file_name: str, cut: int, at: int, junk: bytes) -> None:
    content = _example(file_name)[:-cut] if cut % 3 else _example(file_name)
    at %= len(content) + 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file_name
        path.write_bytes(content[:at] + junk + content[at + len(junk) :])
        assert_reads_or_refuses(lambda: read_picks(path), file_name)


def assert_reads_or_refuses(read: Callable[[], list[Picks]], file_name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = ""
        try:
            assert all(np.isfinite(item.positions).all() for item in read())
        except DeepPickerError as error:
            message = str(error)
    assert not message or (file_name in message and len(message.splitlines()) == 1)
