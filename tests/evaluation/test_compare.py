"""How sets of picks agree, and what several of them found; as functions and as the command ``compare``."""

import csv
import itertools
import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deeppicker.cli import compare as command
from deeppicker.cli._shared.parse import parse
from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.evaluation.compare import PickSet, compare_picks, consensus
from deeppicker.evaluation.matching import match
from deeppicker.formats import read_micrographs, read_picks, write_picks
from deeppicker.formats.coordinates.cryosparc import MicrographSize

UID = "000123456789012345678"


def set_of(label: str, **positions: list[tuple[float, float]]) -> PickSet:
    arrays = {key: np.array(rows, dtype=np.float64).reshape(-1, 2) for key, rows in positions.items()}
    return PickSet(label, {key: Picks.unscored(f"{key}.mrc", rows) for key, rows in arrays.items()})


A = set_of("a", m=[(10, 10), (50, 50), (90, 90)], n=[(5, 5)])
B = set_of("b", m=[(12, 10), (50, 51)])
C = set_of("c", m=[(10, 13), (200, 10)], n=[(5, 6), (7, 5)])
RADII = {"m": 5.0, "n": 5.0}


def test_agreement_is_counted_one_to_one_in_each_micrograph():
    found = compare_picks([A, B, C], RADII)
    assert found.picks.tolist() == [4, 2, 4]
    assert found.matched.tolist() == [[4, 2, 2], [2, 2, 1], [2, 1, 4]]
    np.testing.assert_allclose(found.found, [[1, 0.5, 0.5], [1, 1, 0.5], [0.5, 0.25, 1]])
    np.testing.assert_allclose(found.f1, [[1, 2 / 3, 0.5], [2 / 3, 1, 1 / 3], [0.5, 1 / 3, 1]])
    assert [item.micrograph for item in found.micrographs] == ["m", "n"]


def test_a_set_without_picks_has_no_agreement_instead_of_none():
    numbers = compare_picks([A, set_of("empty")], RADII).to_json()
    assert numbers["found"] == [[1, 0], [None, None]]
    assert numbers["f1"][1] == [0, None]


def test_the_consensus_is_the_mean_of_what_at_least_so_many_sets_found():
    (m, n) = consensus([A, B, C], RADII, 2)
    assert (m.micrograph, n.micrograph) == ("m.mrc", "n.mrc")
    np.testing.assert_allclose(m.positions, [[32 / 3, 11], [50, 50.5]])
    np.testing.assert_allclose(m.scores, [1, 2 / 3])
    np.testing.assert_allclose(n.positions, [[5, 5.5]])
    assert len(consensus([A, B, C], RADII, 3)[0]) == 1
    assert sum(map(len, consensus([A, B, C], RADII, 1))) == 6


def shuffled(item: PickSet, data: st.DataObject) -> PickSet:
    picks = item.picks["m"]
    order = data.draw(st.permutations(range(len(picks))))
    return PickSet(item.label, {"m": Picks.unscored(picks.micrograph, picks.positions[np.array(order, dtype=int)])})


POINTS = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), max_size=12)


@settings(max_examples=100)
@given(st.lists(POINTS, min_size=2, max_size=4), st.floats(0.5, 20), st.data())
def test_the_consensus_does_not_depend_on_the_order_of_sets_and_picks(rows, radius, data):
    sets = [set_of(str(i), m=list(dict.fromkeys(item))) for i, item in enumerate(rows)]
    positions = np.concatenate([item.picks["m"].positions for item in sets])
    distances = [float(np.linalg.norm(a - b)) for a, b in itertools.combinations(positions, 2)]
    if len(set(distances)) < len(distances):  # only then may ties be broken by order
        distances = []
    found = consensus(sets, {"m": radius}, 1)[0]
    assert found.scores.sum() * len(sets) == pytest.approx(len(positions))
    if distances:
        other = consensus([shuffled(item, data) for item in data.draw(st.permutations(sets))], {"m": radius}, 1)[0]
        np.testing.assert_array_equal(other.positions, found.positions)
        np.testing.assert_array_equal(other.scores, found.scores)


@settings(max_examples=60)
@given(POINTS, POINTS, st.floats(0.5, 20))
def test_no_consensus_of_two_sets_is_larger_than_their_best_matching(first, second, radius):
    sets = [set_of("a", m=first), set_of("b", m=second)]
    found = consensus(sets, {"m": radius}, 2)[0]
    a, b = (item.picks["m"].positions for item in sets)
    best = len(match(a, b, radius)[0])
    assert len(found) <= best <= 2 * len(found)
    assert compare_picks(sets, {"m": radius}).matched[0, 1] == best


@pytest.mark.parametrize("at_least", [0, 4])
def test_more_sets_than_there_are_cannot_agree(at_least):
    with pytest.raises(InputError, match="--at-least to 1 to 3"):
        consensus([A, B, C], RADII, at_least)


# --- the command --------------------------------------------------------------------------------


def run(*arguments: object) -> int:
    return command.run(parse("compare", [str(word) for word in arguments]))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sets above in three formats: RELION with pixel size 2 Å, Topaz, and cryoSPARC with its prefixes."""
    monkeypatch.chdir(tmp_path)
    write_picks("a.star", list(A.picks.values()), pixel_size=2.0)
    write_picks("b.tsv", list(B.picks.values()))
    theirs = [Picks.unscored(f"J3/{UID}_{key}.mrc", item.positions) for key, item in C.picks.items()]
    write_picks("c.cs", theirs, sizes={item.micrograph: MicrographSize(400, 500, 2.0) for item in theirs})
    return tmp_path


SETS = ("a.star", "b.tsv", "c.cs")


@pytest.mark.usefixtures("project")
@pytest.mark.filterwarnings("ignore:1 of 2 micrographs")
def test_the_table_the_files_and_the_picture_show_the_same_matrix(capsys):
    assert run(*SETS, "--radius", 10, "--json", "m.json", "--csv", "m.csv", "--png", "m.png") == 0
    rows = {line.split()[1]: line.split()[2:] for line in capsys.readouterr().out.splitlines() if ".tsv" in line}
    assert rows["b.tsv"] == ["2", "1.000", "1.000", "0.500"]
    content = json.loads(Path("m.json").read_text(encoding="utf-8"))
    assert content["sets"] == list(SETS)
    assert content["matched"] == [[4, 2, 2], [2, 2, 1], [2, 1, 4]]
    table = list(csv.reader(Path("m.csv").read_text(encoding="utf-8").splitlines()))
    assert table[0] == ["set", "picks", *SETS]
    assert table[3] == ["c.cs", "4", "0.5", "0.25", "1"]
    with Image.open("m.png") as picture:
        assert min(picture.size) > 200


@pytest.mark.usefixtures("project")
@pytest.mark.filterwarnings("ignore:1 of 2 micrographs")
def test_the_consensus_is_written_with_the_pixel_sizes(capsys):
    assert run(*SETS, "--radius", 10, "--consensus", "both.star") == 0
    assert "Wrote 3 picks of at least 2 of 3 sets to both.star" in capsys.readouterr().out
    m, n = read_picks("both.star")
    assert (m.micrograph, len(m), n.micrograph, len(n)) == ("m.mrc", 2, "n.mrc", 1)
    np.testing.assert_allclose(m.positions[0], [32 / 3, 11], atol=1e-3)
    assert {entry.pixel_size for entry in read_micrographs(Path("both.star"))} == {2}


@pytest.mark.usefixtures("project")
def test_micrographs_that_not_all_sets_name_are_told_or_left_out():
    with pytest.warns(UserWarning, match="1 of 2 micrographs are not named by all sets"):
        run(*SETS, "--radius", 10, "--json", "all.json")
    run(*SETS, "--radius", 10, "--common", "--json", "common.json", "--names", "one", "two", "three")
    content = json.loads(Path("common.json").read_text(encoding="utf-8"))
    assert content["picks"] == [3, 2, 2]
    assert content["sets"] == ["one", "two", "three"]


@pytest.mark.usefixtures("project")
@pytest.mark.filterwarnings("ignore:1 of 2 micrographs")
def test_without_a_radius_it_is_three_tenths_of_the_diameter():
    run("a.star", "b.tsv", "--diameter", 33, "--json", "m.json")
    assert json.loads(Path("m.json").read_text(encoding="utf-8"))["match_radius"] == pytest.approx(9.9)


@pytest.mark.usefixtures("project")
@pytest.mark.filterwarnings("ignore:1 of 2 micrographs")
def test_a_radius_in_pixels_needs_no_pixel_size_and_invents_none():
    run("b.tsv", "c.cs", "--radius-pixels", 5, "--json", "m.json")
    content = json.loads(Path("m.json").read_text(encoding="utf-8"))
    assert (content["match_radius"], content["match_radius_unit"], content["matched"][0][1]) == (5, "pixels", 1)
    run("b.tsv", "b.tsv", "--radius-pixels", 5, "--consensus", "both.star")
    assert [entry.pixel_size for entry in read_micrographs(Path("both.star"))] == [None]
    run("b.tsv", "a.star", "--radius-pixels", 5, "--consensus", "both.star", "--common")
    assert [entry.pixel_size for entry in read_micrographs(Path("both.star"))] == [2]


def test_pixel_sizes_come_from_the_images_too(project, capsys):
    for key in ("m", "n"):
        with mrcfile.new(project / f"{key}.mrc", data=np.eye(8, 9, dtype=np.float32)) as mrc:
            mrc.voxel_size = 2.0
    write_picks("d.csv", list(A.picks.values()))
    assert run("d.csv", "d.csv", "--radius", 10, "--micrographs", "*.mrc") == 0
    assert "d.csv (2)" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["a.star"], "at least two files"),
        ([*SETS], "set --diameter, --radius"),
        ([*SETS, "--radius", "5", "--radius-pixels", "5"], "exclude each other"),
        (["b.tsv", "b.tsv", "--radius", "5"], "the pixel size of m is not known"),
        ([*SETS, "--radius", "0"], "--radius 0 is out of range; choose a positive number"),
        ([*SETS, "--radius", "5", "--at-least", "4"], "--at-least 4 is out of range; choose 1 to 3"),
        ([*SETS, "--radius", "5", "--names", "x", "y"], "2 names for 3 sets"),
        ([*SETS, "--radius", "5", "--names", "x", "y", "x"], "a name twice"),
        ([*SETS, "--radius", "5", "--consensus", "out.box"], r"out\.box is not a \.star"),
        (["a.star", "gone.star", "--radius", "5"], r"gone\.star"),
        (["a.star", "other.csv", "--radius", "5", "--common"], "no micrograph is named by all"),
    ],
)
@pytest.mark.filterwarnings("ignore:1 of 2 micrographs")
def test_what_cannot_be_compared_is_refused_in_one_line(arguments, match):
    Path("other.csv").write_text("micrograph,x,y\nz,1,2\n", encoding="utf-8")
    before = set(Path().iterdir())
    with pytest.raises(InputError, match=match) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    assert set(Path().iterdir()) == before
