"""Cleaning: regions too large to be particles go, particles stay, alone or in crowds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from deeppicker.config import CleanConfig
from deeppicker.core import Grid, ScoreMap
from deeppicker.picking.clean import oversized, smooth

CONFIG = CleanConfig()
DISTANCE = 6.0


def score_map(*centres: tuple[float, float], shape: tuple[int, int] = (70, 110), height: float = 14.0) -> np.ndarray:
    """Return log-odds with a round peak at each (row, column); above 0 within 3 positions of it."""
    rows, columns = np.indices(shape)
    logits = np.full(shape, -6.0)
    for row, column in centres:
        logits = np.maximum(logits, height / 2 - height / 6 * np.hypot(rows - row, columns - column))
    return np.maximum(logits, -6.0).astype(np.float32)


SCATTERED = [(10, 10), (12, 40), (30, 20), (50, 12), (60, 40), (33, 52), (8, 70), (60, 95)]


def test_a_plateau_is_removed_and_small_peaks_stay():
    logits = score_map(*SCATTERED)
    logits[20:50, 75:98] = 3.0 - 0.001 * np.indices((30, 23))[0]
    junk = oversized(logits, DISTANCE * 3, CONFIG)
    assert junk[20:50, 75:98].all()
    assert not junk[:, :70].any()
    assert not junk[:18].any()


def test_without_the_plateau_nothing_is_removed():
    assert not oversized(score_map(*SCATTERED), DISTANCE, CONFIG).any()


LONELY = [(8.0, 30.0), (8.0, 80.0), (10.0, 100.0), (60.0, 10.0), (60.0, 60.0), (60.0, 80.0)]


@pytest.mark.parametrize("pitch", [5.0, 5.5])
def test_a_chain_of_touching_particles_stays(pitch: float):
    chain = [(35.0, 8 + pitch * i) for i in range(15)]
    logits = score_map((8, 10), (10, 60), (60, 30), *LONELY, *chain)
    areas = np.bincount(ndimage.label(logits > 0)[0].ravel())[1:]
    assert len(areas) == 10
    assert areas.max() > CONFIG.max_region * areas.mean() > 0  # as one particle it would be too large
    assert not oversized(logits, 4.5, CONFIG).any()


def test_a_crowd_of_touching_particles_stays():
    crowd = [(20.0 + 5 * i, 20.0 + 5 * j) for i in range(5) for j in range(9)]
    logits = score_map((8, 100), (60, 100), *crowd)
    assert not oversized(logits, 4.5, CONFIG).any()


def test_regions_that_touch_at_a_corner_are_one():
    logits = np.full((40, 60), -5.0, np.float32)
    for place in ((5, 5), (5, 15), (5, 25), (5, 35), (5, 45), (15, 5), (15, 15), (15, 25), (15, 35)):
        logits[place] = 2.0
    for i in range(9):  # a diagonal line with a single peak
        logits[25 + i, 25 + i] = 2.0 - 0.1 * i
    junk = oversized(logits, 30.0, CONFIG)
    assert junk[25, 25] == junk[33, 33]
    assert np.count_nonzero(junk) in (0, 9)
    assert oversized(logits, 30.0, replace(CONFIG, max_region=2.0))[33, 33]


def test_the_largest_region_that_stays_is_set_by_the_configuration():
    logits = score_map(*SCATTERED)
    logits[20:30, 75:95] = 3.0 - 0.001 * np.indices((10, 20))[0]
    assert oversized(logits, DISTANCE * 5, replace(CONFIG, max_region=3.0)).any()
    assert not oversized(logits, DISTANCE * 5, replace(CONFIG, max_region=9.0)).any()
    assert not oversized(logits, DISTANCE * 5, replace(CONFIG, max_region=np.inf)).any()


@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_only_whole_regions_above_the_threshold_are_removed(seed: int, threshold: float):
    logits = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 9, (40, 57)), 2).astype(np.float32)
    config = replace(CONFIG, connect_threshold=threshold, max_region=1.5)
    junk = oversized(logits, DISTANCE, config)
    high = logits > np.log(threshold / (1 - threshold))
    labels, number = ndimage.label(high, structure=np.ones((3, 3)))
    assert not (junk & ~high).any()
    for label in range(1, number + 1):
        assert len(np.unique(junk[labels == label])) == 1


@pytest.mark.parametrize("value", [-3.0, 3.0, 50.0])
def test_a_map_of_one_value_stays(value: float):
    logits = np.full((20, 33), value, np.float32)
    assert not oversized(logits, DISTANCE, CONFIG).any()


def test_a_map_of_a_single_position_stays():
    assert oversized(np.array([[4.0]], np.float32), DISTANCE, CONFIG).tolist() == [[False]]


def test_a_map_with_nothing_above_the_threshold_is_left_as_it_was():
    assert not oversized(score_map(*SCATTERED) - 20, DISTANCE, CONFIG).any()


@pytest.mark.parametrize("step", [1.0, 4.0])
def test_smoothing_is_in_micrograph_pixels_and_does_not_move_peaks(step: float):
    grid = Grid((-2.0, 5.0), step)
    spot = np.zeros((61, 91), np.float32)
    spot[31, 44] = 1.0
    blurred = smooth(ScoreMap(spot, grid), 2 * step)  # always two positions
    rows, columns = np.indices(spot.shape)
    expected = np.exp(-((rows - 31) ** 2 + (columns - 44) ** 2) / 8) / (8 * np.pi)
    assert blurred.logits == pytest.approx(expected, abs=1e-4)
    assert blurred.grid == grid
    assert (smooth(ScoreMap(spot, grid), 0.0).logits == spot).all()


def test_smoothing_does_not_fall_off_at_the_border():
    flat = np.full((20, 31), 3.5, np.float32)
    assert smooth(ScoreMap(flat, Grid()), 3.0).logits == pytest.approx(flat, abs=1e-5)


def test_cleaning_leaves_its_input_alone():
    logits = score_map(*SCATTERED)
    logits[20:50, 75:98] = 3.0
    before = logits.copy()
    assert oversized(logits, 20.0, CONFIG)[35, 85]
    assert (logits == before).all()
