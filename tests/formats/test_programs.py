"""The files of cryoSPARC, crYOLO, EMAN2, Scipion and Gautomatch, as these programs write them and as we do."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeppicker.core import Picks
from deeppicker.errors import DeepPickerError, FormatError, InputError
from deeppicker.formats import find_micrographs, read_micrographs, read_picks, write_picks
from deeppicker.formats.coordinates import cryosparc
from deeppicker.formats.coordinates.cryosparc import MicrographSize
from deeppicker.formats.coordinates.picks import FolderFormat
from deeppicker.formats.names import without_uid
from deeppicker.formats.relion import star

_EXAMPLES = settings(max_examples=40)
_KEYS = st.sampled_from(["mic_1", "a b", "é", "#1", "data_x", "it's", '"q"', "_x", "two  spaces", "Å μ", "ab_info"])
_SCORES = st.one_of(st.floats(0, 1), st.floats(-50, 50), st.just(float("nan")))
_UID = "000123456789012345678"


@st.composite
def _picks(draw: st.DrawFn, names: st.SearchStrategy[str] = _KEYS) -> list[Picks]:
    result = []
    for name in draw(st.lists(names, unique=True, min_size=1, max_size=4)):
        rows = draw(st.lists(st.tuples(st.floats(-500, 9000), st.floats(-500, 9000), _SCORES), max_size=6))
        table = np.array(rows, dtype=np.float64).reshape(-1, 3)
        result.append(Picks(name, table[:, :2], table[:, 2]))
    return result


def _many() -> list[Picks]:
    rng = np.random.default_rng(0)
    return [Picks(f"m{i:02}", rng.uniform(0, 4000, (1000, 2)), rng.uniform(size=1000)) for i in range(20)]


def _sizes(picks: list[Picks]) -> dict[str, MicrographSize]:
    return {item.micrograph: MicrographSize(4092, 5760, 0.83) for item in picks}


def _deviation(found: list[Picks], expected: list[Picks], score: float = 0.0) -> float:
    """Return the largest deviation of a coordinate; names and scores must agree."""
    assert [item.micrograph for item in found] == [item.micrograph for item in expected]
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=score, atol=score)
        assert one.positions.shape == other.positions.shape
        worst = max(worst, float(np.abs(one.positions - other.positions).max(initial=0.0)))
    return worst


def _deviation_in_folder(picks: list[Picks], folder_format: FolderFormat, box_size: int = 1) -> float:
    """Return the largest deviation after writing picks into a folder and reading them again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picks"
        write_picks(path, picks, folder_format=folder_format, box_size=box_size)
        found = read_picks(path)
    assert len(found) == len(picks)
    by_name = {item.micrograph: item for item in picks}
    return _deviation(found, [by_name[item.micrograph] for item in found])


@_EXAMPLES
@given(_picks(), st.integers(1, 500))
def test_cryolo_boxes_read_back_as_written(picks: list[Picks], box_size: int) -> None:
    assert _deviation_in_folder(picks, "cbox", box_size) <= 1e-9


@_EXAMPLES
@given(_picks())
def test_eman2_boxes_read_back_as_written(picks: list[Picks]) -> None:
    assert _deviation_in_folder(picks, "json") == 0


@_EXAMPLES
@given(_picks())
def test_gautomatch_coordinates_read_back_as_written(picks: list[Picks]) -> None:
    assert _deviation_in_folder(picks, "automatch") == 0


@_EXAMPLES
@given(_picks())
def test_scipion_coordinates_read_back_rounded_to_pixels(picks: list[Picks]) -> None:
    assert _deviation_in_folder(picks, "pos") <= 0.5


_PATHS = st.builds("J2/{}/{}_{}.mrc".format, st.sampled_from(["imported", "é å"]), st.just(_UID), _KEYS)


@_EXAMPLES
@given(_picks(st.one_of(_KEYS, _PATHS)))
def test_cryosparc_particles_read_back_within_a_thousandth_of_a_pixel(picks: list[Picks]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picks.cs"
        write_picks(path, picks, sizes=_sizes(picks))
        found = read_picks(path)
        assert _deviation(found, [item for item in picks if len(item)], 1e-6) <= 1e-3
        entries = {entry.name: (entry.shape, entry.pixel_size) for entry in cryosparc.read_micrographs(path)}
        assert entries == {item.micrograph: ((4092, 5760), pytest.approx(0.83)) for item in found}


@pytest.mark.parametrize(
    ("folder_format", "limit"), [("cbox", 1e-9), ("json", 0), ("automatch", 0), ("pos", 0.5), ("box", 0.5)]
)
def test_twenty_thousand_picks_in_a_folder_read_back_as_written(folder_format: FolderFormat, limit: float) -> None:
    assert _deviation_in_folder(_many(), folder_format, 200) <= limit


@pytest.mark.parametrize("name", ["p.cs", "p.csv", "p.tsv", "p.star"])
def test_twenty_thousand_picks_in_a_file_read_back_as_written(name: str, tmp_path: Path) -> None:
    write_picks(tmp_path / name, _many(), sizes=_sizes(_many()))
    single = name == "p.cs"  # precision
    limit = {"p.cs": 1e-3, "p.tsv": 0.5}.get(name, 0)  # Topaz's tables hold whole pixels
    assert _deviation(read_picks(tmp_path / name), _many(), 1e-6 if single else 0.0) <= limit


# --- what the other programs write --------------------------------------------------------------

_CBOX = """
data_global

_cbox_format_version 1.0

data_cryolo

loop_
_CoordinateX #1
_CoordinateY #2
_CoordinateZ #3
_Width #4
_Height #5
_Depth #6
_EstWidth #7
_EstHeight #8
_Confidence #9
_NumBoxes #10
_Angle #11
100.5 20 <NA> 220 200 <NA> 149 148 0.625 <NA> <NA>
-30 40 None 221 200 None 149 148 None None None

data_cryolo_include

loop_
_slice_index #1
<NA>
"""


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_centre_of_a_cryolo_box_is_its_middle(tmp_path: Path) -> None:
    (picks,) = read_picks(_write(tmp_path / "mic 1.cbox", _CBOX))
    assert (picks.micrograph, picks.positions.tolist()) == ("mic 1", [[210.5, 120], [80.5, 140]])
    np.testing.assert_array_equal(picks.scores, [0.625, np.nan])


def test_the_boxes_of_cryolo_before_1_8_are_read(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.cbox", "10\t20\t100\t60\t0.5\t90\t91\n")
    (picks,) = read_picks(path)
    assert (picks.positions.tolist(), picks.scores.tolist()) == ([[60, 50]], [0.5])
    assert len(read_picks(_write(path, ""))[0]) == 0


def test_the_boxes_of_a_tomogram_are_refused(tmp_path: Path) -> None:
    text = _CBOX.replace("20 <NA> 220", "20 7 220").replace("40 None 221", "40 8 221")
    with pytest.raises(FormatError, match="tomogram"):
        read_picks(_write(tmp_path / "m.cbox", text))


def test_a_written_cryolo_file_has_the_tables_of_cryolo(tmp_path: Path) -> None:
    path = tmp_path / "m.cbox"
    write_picks(path, [Picks("m", np.array([[60.5, 50.0]]), np.array([0.25]))], box_size=21)
    text = path.read_text()
    assert "data_global\n\n_cbox_format_version 1.0\n" in text
    assert text.split()[-11:] == ["50.0", "39.5", "<NA>", "21", "21", "<NA>", "21", "21", "0.25", "<NA>", "<NA>"]


def test_eman2_boxes_are_centres_with_or_without_a_score(tmp_path: Path) -> None:
    boxes = [[100, 20.5, "manual"], [30, 40, "auto_convnet", 0.75]]
    path = _write(tmp_path / "mic_1_info.json", json.dumps({"quality": 5, "boxes": boxes}))
    (picks,) = read_picks(path)
    assert (picks.micrograph, picks.positions.tolist()) == ("mic_1", [[100, 20.5], [30, 40]])
    np.testing.assert_array_equal(picks.scores, [np.nan, 0.75])


def test_what_eman2_knows_else_survives_writing(tmp_path: Path) -> None:
    path = _write(tmp_path / "m_info.json", '{"ctf": [1, {"a": "b"}], "boxes": [[1, 2, "manual"]]}')
    write_picks(path, [Picks.unscored("m", np.array([[3.0, 4.0]]))])
    content = json.loads(path.read_text())
    assert content["ctf"] == [1, {"a": "b"}]
    assert [row[:2] for row in content["boxes"]] == [[3, 4]]


_POS = """# XMIPP_STAR_1 *
#
data_header
loop_
 _pickingMicrographState
Supervised
data_particles
loop_
 _itemId
 _enabled
 _xcoor
 _ycoor
 _cost
 _micrographId
 000001   1   10  20  1   000001
 000002   -1   11  21  1   000001
data_particles_auto
loop_
 _enabled
 _xcoor
 _ycoor
 _cost
 1   30  40  0.5
"""


def test_picks_that_were_removed_in_scipion_are_left_out(tmp_path: Path) -> None:
    (picks,) = read_picks(_write(tmp_path / "mic_1.pos", _POS))
    assert (picks.micrograph, picks.positions.tolist(), picks.scores.tolist()) == (
        "mic_1",
        [[10, 20], [30, 40]],
        [1, 0.5],
    )


_GAUTOMATCH = """
data_

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnAnglePsi #3
_rlnClassNumber #4
_rlnAutopickFigureOfMerit #5
   1544.00    120.50     60.00          2      0.31
"""


def test_gautomatch_rejects_are_not_taken_for_picks(tmp_path: Path) -> None:
    for suffix in ("_automatch", "_rejected", "_nonunique"):
        _write(tmp_path / f"mic{suffix}.star", _GAUTOMATCH)
    (picks,) = read_picks(tmp_path)
    assert (picks.micrograph, picks.positions.tolist(), picks.scores.tolist()) == ("mic", [[1544, 120.5]], [0.31])


_MANUAL = """
data_

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnClassNumber #3
_rlnAnglePsi #4
_rlnAutopickFigureOfMerit #5
   544.00    120.50     -999   -999.000000   -999.000000
"""


def test_picks_made_by_hand_in_relion_have_no_score(tmp_path: Path) -> None:
    _write(tmp_path / "mic_manualpick.star", _MANUAL)
    (picks,) = read_picks(tmp_path)
    assert picks.positions.tolist() == [[544, 120.5]]
    assert np.isnan(picks.scores).all()


def test_a_file_called_automatch_is_written_as_gautomatch_does(tmp_path: Path) -> None:
    write_picks(tmp_path / "m_automatch.star", [Picks("m", np.ones((1, 2)), np.array([0.5]))])
    assert "MicrographName" not in (tmp_path / "m_automatch.star").read_text()


def _cs(path: Path, **columns: tuple[str, object]) -> Path:
    """Write a .cs file as cryosparc-tools does: a saved record array; ``__`` stands for the slash."""
    dtype = [(label.replace("__", "/"), kind, np.shape(values)[1:]) for label, (kind, values) in columns.items()]
    records = np.zeros(len(np.asarray(next(iter(columns.values()))[1])), np.dtype(dtype))
    for label, (_, values) in columns.items():
        records[label.replace("__", "/")] = values
    with path.open("wb") as file:
        np.save(file, records, allow_pickle=any(kind == "O" for kind, _ in columns.values()))
    return path


def _picked(path: Path, **changes: tuple[str, object]) -> Path:
    columns: dict[str, tuple[str, object]] = {
        "uid": ("<u8", [7, 8]),
        "location__micrograph_uid": ("<u8", [5, 5]),
        "location__micrograph_path": ("S60", [f">J2/imported/{_UID}_a.mrc".encode()] * 2),
        "location__micrograph_shape": ("<u4", [[4092, 5760]] * 2),
        "location__center_x_frac": ("<f4", [0.25, 0.5]),
        "location__center_y_frac": ("<f4", [0.75, 0.5]),
        "location__micrograph_psize_A": ("<f4", [1.5, 1.5]),
        "pick_stats__ncc_score": ("<f4", [0.5, 0.25]),
    }
    return _cs(path, **{label: value for label, value in (columns | changes).items() if value[0]})


def test_cryosparc_fractions_are_of_width_and_height_from_the_first_row(tmp_path: Path) -> None:
    (picks,) = read_picks(_picked(tmp_path / "p.cs"))
    assert picks.micrograph == f"J2/imported/{_UID}_a.mrc"
    assert (picks.positions.tolist(), picks.scores.tolist()) == ([[1440, 3069], [2880, 2046]], [0.5, 0.25])


def test_cryosparc_exposures_name_the_micrographs_with_size_and_uid(tmp_path: Path) -> None:
    path = _cs(
        tmp_path / "exposures.cs",
        uid=("<u8", [11, 12]),
        micrograph_blob__path=("S40", [b"J2/a.mrc", b"J2/b.mrc"]),
        micrograph_blob__shape=("<u4", [[4092, 5760]] * 2),
        micrograph_blob__psize_A=("<f4", [1.5, 0.75]),
    )
    one, two = find_micrographs([str(path)])
    assert (one.name, one.pixel_size, one.shape, one.uid) == ("J2/a.mrc", 1.5, (4092, 5760), 11)
    assert (two.name, two.pixel_size, two.uid) == ("J2/b.mrc", 0.75, 12)


def test_particles_for_cryosparc_carry_the_uid_of_their_micrograph(tmp_path: Path) -> None:
    picks = [Picks.unscored(name, np.ones((2, 2))) for name in (f"J2/{_UID}_a.mrc", "b.mrc", "c.mrc")]
    sizes = _sizes(picks) | {"b.mrc": MicrographSize(4092, 5760, 0.83, 99)}
    write_picks(tmp_path / "p.cs", picks, sizes=sizes)
    records = np.load(tmp_path / "p.cs", allow_pickle=False)
    assert records["location/micrograph_uid"].tolist()[:4] == [int(_UID)] * 2 + [99] * 2
    assert len(set(records["uid"].tolist())) == 6
    assert records["location/micrograph_shape"].tolist() == [[4092, 5760]] * 6


def test_particles_for_cryosparc_need_the_sizes_of_the_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image size of m; give its image with --micrographs"):
        write_picks(tmp_path / "p.cs", [Picks.unscored("m", np.ones((1, 2)))])
    assert not list(tmp_path.iterdir())


_BAD_CS: dict[str, tuple[dict[str, tuple[str, object]], str]] = {
    "no path": ({"location__micrograph_path": ("", [])}, "no location/micrograph_path; found uid"),
    "NaN": ({"location__center_x_frac": ("<f4", [0.5, np.nan])}, "center_x_frac in record 2 is nan"),
    "shape 0": ({"location__micrograph_shape": ("<u4", [[1, 2], [0, 5]])}, r"micrograph_shape in record 2 is \[0.0, 5"),
    "flat shape": ({"location__micrograph_shape": ("<u4", [1, 2])}, "does not hold 2 numbers"),
    "empty name": ({"location__micrograph_path": ("S9", [b"a.mrc", b""])}, "micrograph_path in record 2 is ''"),
    "number as name": ({"location__micrograph_path": ("<u4", [1, 2])}, "holds no text"),
    "objects": ({"location__micrograph_path": ("O", ["a", "b"])}, "needs a list of records"),
}


@pytest.mark.parametrize("name", _BAD_CS)
def test_a_bad_cs_file_is_refused_with_the_record(name: str, tmp_path: Path) -> None:
    changes, match = _BAD_CS[name]
    with pytest.raises(FormatError, match=match) as caught:
        read_picks(_picked(tmp_path / "p.cs", **changes))
    assert "p.cs" in str(caught.value)


def test_a_cut_or_compressed_cs_file_is_refused(tmp_path: Path) -> None:
    path = _picked(tmp_path / "p.cs")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="cut short"):
        read_picks(path)
    path.write_bytes(b"\x95CSDAT....")
    with pytest.raises(FormatError, match="NUMPY_FORMAT"):
        read_picks(path)


def test_of_several_cs_files_in_a_folder_one_must_be_named(tmp_path: Path) -> None:
    _picked(tmp_path / "a.cs")
    assert len(read_picks(tmp_path)[0]) == 2
    _picked(tmp_path / "b.cs")
    with pytest.raises(InputError, match=r"2 \.cs files; give the one"):
        read_picks(tmp_path)


@pytest.mark.parametrize("name", ["20240101_mic.mrc", f"{_UID}_", f"{_UID}.mrc", f"x{_UID}_a.mrc"])
def test_only_cryosparcs_21_digits_before_a_name_are_a_uid(name: str) -> None:
    assert without_uid(name) == name
    assert without_uid(f"J1/{_UID}_{name}") == f"J1/{name}"


# --- RELION of all versions ---------------------------------------------------------------------

_TWO_GROUPS = """# version {version}

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographOriginalPixelSize #3
_rlnVoltage #4
_rlnImagePixelSize #5
opticsGroup1            1     0.885000   300.000000     3.540000
opticsGroup2            2     1.100000   200.000000     4.400000


# version {version}

data_particles

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnImageName #3
_rlnMicrographName #4
_rlnOpticsGroup #5
_rlnAutopickFigureOfMerit #6
  614.00  1244.00 000001@Extract/a.mrcs MotionCorr/job002/a.mrc 1 0.25
  912.00  1246.00 000001@Extract/b.mrcs MotionCorr/job002/b.mrc 2 0.5

"""


@pytest.mark.parametrize("version", ["30001", "40001", "50001"])
def test_relion_of_every_version_with_several_optics_groups_is_read_and_written(version: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "in.star", _TWO_GROUPS.format(version=version))
    sizes = {"MotionCorr/job002/a.mrc": 0.885, "MotionCorr/job002/b.mrc": 1.1}
    assert {entry.name: entry.pixel_size for entry in read_micrographs(path)} == sizes
    write_picks(tmp_path / "out.star", read_picks(path), pixel_size=sizes)
    assert {entry.name: entry.pixel_size for entry in read_micrographs(tmp_path / "out.star")} == sizes
    assert _deviation(read_picks(tmp_path / "out.star"), read_picks(path)) == 0


@_EXAMPLES
@given(_picks(), st.floats(0.1, 20))
def test_a_table_for_relion_3_0_reads_back_as_written(picks: list[Picks], pixel_size: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.star"
        star.write_particles_3_0(path, picks, {item.micrograph: pixel_size for item in picks})
        filled = [item for item in picks if len(item)]
        assert _deviation(read_picks(path), filled) == 0
        assert [entry.pixel_size for entry in read_micrographs(path)] == pytest.approx([pixel_size] * len(filled))
        assert "data_\n" in path.read_text(encoding="utf-8")


# --- a malformed file says which line -----------------------------------------------------------

_LOOP = "data_\n\n# note\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"
_LINES = {
    "word.star": (_LOOP + "1 2\n\n3 x\n", 9),
    "short.star": (_LOOP + "1 2\n3\n", 8),
    "pair.star": ("data_\n_rlnCoordinateX 1\n_rlnCoordinateY two\n", 3),
    "open.star": (_LOOP + "1 'two\n", 7),
    "word.box": ("# note\n1 2 3 4\n\n1 2 3 four\n", 4),
    "short.box": ("1 2 3 4\n1 2 3\n", 2),
    "zero.box": ("1 2 3 4\n1 2 0 4\n", 2),
    "word.csv": ("micrograph,x,y\n\na,1,2\na,1,two\n", 4),
    "short.csv": ("micrograph,x,y\na,1\n", 2),
    "open.csv": ('micrograph,x,y\na,1,"2\n', 2),
    "word.tsv": ("\nimage_name\tx_coord\ty_coord\n\na\t1\ttwo\n", 4),
    "short.tsv": ("image_name\tx_coord\ty_coord\na\t1\n", 2),
    "word.cbox": (_CBOX.replace("0.625", "high"), 20),
    "size.cbox": (_CBOX.replace("221", "-1"), 21),
    "word.pos": (_POS.replace("30  40", "30  x"), 23),
    "open_info.json": ('{\n "boxes": [[1, 2, "manual"],\n}', 3),
    "note_automatch.star": (_GAUTOMATCH.replace("120.50", "?"), 10),
}


@pytest.mark.parametrize("name", _LINES)
def test_a_malformed_file_says_which_line(name: str, tmp_path: Path) -> None:
    text, line = _LINES[name]
    with pytest.raises(FormatError, match=rf"{name}.*line {line}\b") as caught:
        read_picks(_write(tmp_path / name, text))
    assert "\n" not in str(caught.value)


def test_a_bad_eman2_box_is_shown_with_its_number(tmp_path: Path) -> None:
    path = _write(tmp_path / "m_info.json", '{\n"ctf": 1,\n"boxes": [\n [1, 2, "manual"],\n [1, null]]}')
    with pytest.raises(FormatError, match=r"m_info\.json: box 2 \(line 5\) is \[1, null\]"):
        read_picks(path)
    path.write_text('{"x": {"boxes": [1]}, "boxes": [[1, 2], [3, 4], 5]}')
    with pytest.raises(FormatError, match=r"m_info\.json: box 3 is 5"):
        read_picks(path)


_JUNK_JSON = [
    "[" * 100_000,
    '{"boxes": ' + "9" * 5000 + "}",
    '{"boxes": [[1e999, 2, "a"]]}',
    '{"boxes": 3}',
    "null",
    "7",
]


@pytest.mark.parametrize("index", range(len(_JUNK_JSON)))
def test_junk_in_json_is_one_line(index: int, tmp_path: Path) -> None:
    with pytest.raises(DeepPickerError, match=r"m_info\.json") as caught:
        read_picks(_write(tmp_path / "m_info.json", _JUNK_JSON[index]))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_folder_is_not_begun_if_a_name_cannot_be_stored(tmp_path: Path) -> None:
    picks = [Picks.unscored(name, np.ones((1, 2))) for name in ("good", "a\" b' c")]
    with pytest.raises(DeepPickerError):
        write_picks(tmp_path / "folder", picks)
    assert not list(tmp_path.iterdir())


def test_a_message_that_quotes_a_damaged_file_stays_short_and_printable(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.csv", "X\x1b[31m\x07" + "9" * 9999 + ",y\n1,2\n")
    with pytest.raises(FormatError, match=r"m\.csv.*found x\\x1b\[31m\\x079+ … 9+, y$") as caught:
        read_picks(path)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["m.box", "m.csv", "m.tsv"])
def test_lines_may_end_as_in_unix_windows_or_old_mac_files(name: str, end: str, tmp_path: Path) -> None:
    rows = {"m.box": ["1 2 2 2", "3 4 2 2"], "m.csv": ["x,y", "2,3", "4,5"]}
    lines = rows.get(name, ["image_name\tx_coord\ty_coord", "m\t2\t3", "m\t4\t5"])
    (tmp_path / name).write_bytes("".join(line + end for line in lines).encode())
    assert read_picks(tmp_path / name)[0].positions.tolist() == [[2, 3], [4, 5]]
