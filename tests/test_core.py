"""Grid, Picks and the names of micrographs."""

from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeppicker.core import Grid, Micrograph, Picks, micrograph_key

coordinates = st.floats(-1e4, 1e4)
steps = st.floats(0.01, 100)
grids = st.builds(Grid, st.tuples(coordinates, coordinates), steps)
points = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5).map(np.array)


@given(grids, points)
def test_indices_undo_positions(grid, indices):
    assert grid.indices(grid.positions(indices)) == pytest.approx(indices, abs=1e-6)


@given(grids, coordinates, coordinates, st.floats(0.1, 10), points)
def test_a_derived_grid_maps_as_the_two_steps_after_each_other(grid, x, y, step, indices):
    parent = np.array([x, y]) + step * indices
    assert grid.derive((x, y), step).positions(indices) == pytest.approx(grid.positions(parent), rel=1e-9, abs=1e-4)


def test_a_grid_keeps_x_and_y_apart():
    grid = Grid((10.0, 20.0), 2.0)
    assert grid.positions(np.array([[1.0, 3.0]])).tolist() == [[12.0, 26.0]]
    assert grid.derive((1.0, 3.0), 0.5) == Grid((12.0, 26.0), 1.0)


@pytest.mark.parametrize("folder", ["", "Micrographs/", "/data/session 1/", "../v1.2/"])
@pytest.mark.parametrize("stem", ["mic_001", "May08_03.05", "a.b.c", "with space", ".hidden", "a.mrc_old"])
@pytest.mark.parametrize(
    "ending", ["", ".mrc", ".MRC", ".mrcs", ".tif", ".TIFF", ".png", ".jpeg", ".eer", ".mrc.gz", ".mrc.bz2", ".gz"]
)
def test_a_key_is_the_name_without_folder_and_extension(folder, stem, ending):
    assert micrograph_key(folder + stem + ending) == stem


@pytest.mark.parametrize("name", ["mic.txt", "mic.0001", "3.5", "mic_patch_aligned_doseweighted.v2"])
def test_an_unknown_extension_belongs_to_the_name(name):
    assert micrograph_key(name) == name


def test_a_key_is_never_empty_for_a_name_that_is_all_extension():
    assert micrograph_key(".mrc") == ".mrc"
    assert micrograph_key(PurePosixPath("folder/.gz")) == ".gz"


def test_micrographs_and_picks_of_one_file_share_their_key():
    micrograph = Micrograph("here/x.1.mrc", np.zeros((2, 3), np.float32), 1.0)
    assert micrograph.key == Picks.unscored("there/x.1.tif", np.zeros((0, 2))).key == "x.1"


def test_inversion_only_changes_the_sign():
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    inverted = Micrograph("a.mrc", image, 1.5).inverted()
    assert (inverted.image == -image).all()
    assert (inverted.name, inverted.pixel_size) == ("a.mrc", 1.5)


def some_picks(scores, positions):
    return Picks("m", np.array(positions, dtype=float).reshape(-1, 2), np.array(scores, dtype=float))


rows = st.lists(
    st.tuples(st.sampled_from([0.1, 0.5, 0.9, np.nan]), st.integers(0, 3), st.integers(0, 3)), unique=True, max_size=12
)


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_sorted_picks_does_not_depend_on_their_order_before(table, random):
    shuffled = random.sample(table, len(table))
    first, second = (some_picks([r[0] for r in t], [r[1:] for r in t]).sorted() for t in (table, shuffled))
    assert first.positions.tolist() == second.positions.tolist()
    np.testing.assert_array_equal(first.scores, second.scores)


@given(rows)
def test_sorted_picks_fall_in_score_then_rise_in_y_then_in_x(table):
    picks = some_picks([r[0] for r in table], [r[1:] for r in table]).sorted()
    scores = np.nan_to_num(picks.scores, nan=-1)
    keys = [(-score, y, x) for score, (x, y) in zip(scores, picks.positions.tolist(), strict=True)]
    assert keys == sorted(keys)
    assert len(picks) == len(table)


def test_where_keeps_positions_and_scores_together():
    picks = some_picks([0.1, 0.2, 0.3], [(1, 2), (3, 4), (5, 6)]).where(np.array([True, False, True]))
    assert picks.scores.tolist() == [0.1, 0.3]
    assert picks.positions.tolist() == [[1, 2], [5, 6]]
    assert picks.micrograph == "m"


def test_unscored_picks_have_no_scores():
    picks = Picks.unscored("m", np.zeros((2, 2)))
    assert not picks.has_scores
    assert np.isnan(picks.scores).all()
    assert some_picks([np.nan, 0.5], [(0, 0), (1, 1)]).has_scores
    assert not some_picks([], []).has_scores
