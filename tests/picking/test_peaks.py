"""Choosing peaks: minimum distance, ties, borders, the edge and the bad-particle filter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from deeppicker.core import Grid, Prepared, ScoreMap
from deeppicker.picking.peaks import extreme_fraction, find_peaks, local_maxima, unusual

shapes = st.tuples(st.integers(1, 9), st.integers(1, 14)).filter(lambda shape: shape[0] != shape[1])
tied = arrays(np.float32, shapes, elements=st.sampled_from([0.0, 1.0, 2.0, 3.0]))  # many equal neighbours
holed = arrays(np.float32, shapes, elements=st.sampled_from([-np.inf, -1.0, 0.0, 1.0]))
radii = st.sampled_from([0.0, 0.5, 1.0, 1.2, 1.4142136, 2.0, 2.3, 3.0, 4.7, 20.0])


def brute_force(values: np.ndarray, radius: float, floor: float) -> list[list[int]]:
    """Compare every element with every other one: higher first, then upper, then left.

    The eight next elements are always near, or a map would have a maximum everywhere.
    """
    places = [(row, column) for row in range(values.shape[0]) for column in range(values.shape[1])]

    def beats(a, b):
        return (-values[a], *a) < (-values[b], *b)

    def near(a, b):
        return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 <= max(radius**2, 2)

    return [
        list(place)
        for place in places
        if values[place] > floor and not any(near(place, other) and beats(other, place) for other in places)
    ]


@given(tied, radii, st.sampled_from([-1.0, 0.0, 1.0]))
def test_local_maxima_are_those_that_rank_first_within_the_radius(values, radius, floor):
    assert local_maxima(values, radius, floor).tolist() == brute_force(values, radius, floor)


@given(holed, radii, st.sampled_from([-np.inf, -1.0, 0.0]))
def test_removed_positions_are_never_maxima_and_hide_none(values, radius, floor):
    found = local_maxima(values, radius, floor)
    assert found.tolist() == brute_force(values, radius, floor)
    assert np.isfinite(values[tuple(found.T)]).all()


@given(tied, radii)
def test_two_maxima_are_always_further_apart_than_the_radius(values, radius):
    found = local_maxima(values, radius, -1.0)
    distances = np.hypot(*(found[:, None] - found[None]).transpose(2, 0, 1))
    np.fill_diagonal(distances, np.inf)
    assert len(found) > 0
    assert distances.min() > max(radius, np.sqrt(2))


@given(tied, radii, st.integers(0, 5), st.integers(0, 5))
def test_a_moved_map_gives_moved_maxima(values, radius, down, right):
    moved = np.pad(values, ((down, 3), (right, 2)), constant_values=-np.inf)
    expected = local_maxima(values, radius, -1.0) + np.array([down, right])
    assert local_maxima(moved, radius, -1.0).tolist() == expected.tolist()


@pytest.mark.parametrize("radius", [1.5, 3.0, 6.0])
def test_a_plateau_yields_a_single_maximum(radius):
    values = np.zeros((20, 31), np.float32)
    values[5:9, 10:14] = 7.0
    assert [5, 10] in local_maxima(values, radius, 1.0).tolist()
    assert len(local_maxima(values, 6.0, 1.0)) == 1


@pytest.mark.parametrize(("height", "width"), [(12, 30), (30, 12)])
def test_borders_do_not_wrap(height, width):
    values = np.zeros((height, width), np.float32)
    for row, column, value in ((5, 0, 9), (5, width - 1, 8), (0, 6, 7), (height - 1, 6, 6)):
        values[row, column] = value
    found = {tuple(place) for place in local_maxima(values, 4.0, 5.0).tolist()}
    assert found == {(5, 0), (5, width - 1), (0, 6), (height - 1, 6)}


def test_peaks_lie_where_the_grid_says_and_carry_their_probability():
    logits = np.full((10, 17), -9.0, np.float32)
    logits[2, 13], logits[7, 3] = 1.5, 4.0
    scores = ScoreMap(logits, Grid((-5.0, 2.5), 1.5))
    picks = find_peaks(scores, scores, 4.0, 0.5, "m.mrc")
    assert picks.micrograph == "m.mrc"
    assert picks.positions.tolist() == [[-5 + 1.5 * 3, 2.5 + 1.5 * 7], [-5 + 1.5 * 13, 2.5 + 1.5 * 2]]
    assert picks.scores == pytest.approx(expit([4.0, 1.5]))


@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0, 2.5]), st.floats(1.0, 9.0))
def test_peaks_are_sorted_above_the_floor_and_further_apart_than_the_distance(seed, step, distance):
    logits = np.random.default_rng(seed).normal(0, 3, (14, 23)).astype(np.float32)
    scores = ScoreMap(logits, Grid((3.0, -2.0), step))
    picks = find_peaks(scores, scores, distance, 0.3)
    distances = np.hypot(*(picks.positions[:, None] - picks.positions[None]).transpose(2, 0, 1))
    np.fill_diagonal(distances, np.inf)
    # Maxima are farther apart than the distance; each is then moved by up to half a step along x and y.
    assert distances.min(initial=np.inf) > distance - np.sqrt(2) * step
    assert (np.diff(picks.scores) <= 0).all()
    assert (picks.scores > 0.3).all()
    assert picks.scores.max() == pytest.approx(expit(float(logits.max())))


def test_scores_that_a_float32_cannot_tell_from_one_still_differ():
    logits = np.full((9, 40), -9.0, np.float32)
    logits[4, 5], logits[4, 30] = 20.0, 21.0
    scores = ScoreMap(logits, Grid())
    picks = find_peaks(scores, scores, 5.0, 0.01)
    assert picks.positions[:, 0].tolist() == [30, 5]
    assert picks.scores[0] > picks.scores[1]


def test_peaks_lie_where_the_smoothed_map_peaks_and_score_what_the_network_gave_there():
    logits = np.full((9, 30), -9.0, np.float32)
    places = logits.copy()
    places[4, 10], logits[3, 11], logits[4, 13] = 1.0, 2.0, 5.0  # the last is not next to the peak
    picks = find_peaks(ScoreMap(places, Grid()), ScoreMap(logits, Grid()), 50.0, 0.0)
    assert picks.positions.tolist() == [[10, 4]]
    assert picks.scores == pytest.approx(expit([2.0]))


@pytest.mark.parametrize("window", [8, 9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_extreme_fraction_is_that_of_the_window_around_each_position(window, seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 2.5, (31, 47)).astype(np.float32)
    grid = Grid((4.0, -3.0), 2.0)
    rows, columns = rng.integers(0, 31 - window, 20), rng.integers(0, 47 - window, 20)
    centres = np.stack([columns, rows], axis=1) + (window - 1) / 2
    found = extreme_fraction(Prepared(np.zeros_like(image), grid, image), grid.positions(centres), window, 3.0)
    expected = [
        (np.abs(image[row : row + window, column : column + window]) > 3).mean()
        for row, column in zip(rows, columns, strict=True)
    ]
    assert found == pytest.approx(expected)
    assert found.std() > 0


def test_the_extreme_fraction_at_the_border_is_that_of_the_last_whole_window():
    image = np.zeros((20, 30), np.float32)
    image[:8, :8] = 10
    image[-8:, -8:] = -10
    found = extreme_fraction(
        Prepared(np.zeros_like(image), Grid(), image), np.array([[0.0, 0.0], [29.0, 19.0], [29.0, 0.0]]), 8, 3.0
    )
    assert found.tolist() == [1, 1, 0]


def test_candidates_with_far_more_extreme_pixels_than_the_others_are_unusual():
    fractions = np.array([0.0, 0.02, 0.45, 0.01, 0.13])
    assert unusual(fractions, np.full(5, 0.9), 0.1).tolist() == [False, False, True, False, True]


def test_candidates_that_are_all_extreme_as_in_a_denoised_micrograph_are_usual():
    fractions = np.array([0.4, 0.45, 0.42, 0.0, 0.0, 0.0, 0.0])
    scores = np.array([0.9, 0.9, 0.8, 0.05, 0.05, 0.05, 0.05])  # the particles outweigh the many poor candidates
    assert not unusual(fractions, scores, 0.1).any()


def test_no_candidates_are_no_unusual_ones():
    assert unusual(np.zeros(0), np.zeros(0), 0.1).shape == (0,)


tenths = st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.8])


@given(st.lists(st.tuples(tenths, st.sampled_from([0.25, 0.5, 1.0])), max_size=12), st.sampled_from([0.0, 0.15, 0.3]))
def test_a_fraction_is_unusual_if_it_exceeds_the_score_weighted_median(rows, excess):
    fractions, scores = np.array(rows, dtype=float).reshape(-1, 2).T
    total = scores.sum()
    medians = [f for f in sorted(fractions) if scores[fractions <= f].sum() >= 0.5 * total]
    expected = [fraction > medians[0] + excess for fraction in fractions]
    assert unusual(fractions, scores, excess).tolist() == expected


def test_what_is_common_to_all_is_not_unusual():
    assert not unusual(np.full(9, 0.9), np.linspace(0, 1, 9), 0.1).any()
    assert unusual(np.array([0.9, 0.1, 0.1, 0.1]), np.array([1.0, 0.5, 0.5, 0.5]), 0.1).tolist() == [True, *3 * [False]]
