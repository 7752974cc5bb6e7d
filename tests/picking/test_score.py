"""Scoring: the sweep equals the network on each window by itself, whatever the tiles."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deeppicker.config import STEPS, ScoreConfig
from deeppicker.core import Grid, Prepared
from deeppicker.errors import InputError
from deeppicker.networks.model import Model
from deeppicker.picking.score import score
from scenes import lively_network

WINDOW = 64


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)


def close(expected: np.ndarray):
    """Return what equals ``expected`` but for the rounding of float32."""
    return pytest.approx(expected, rel=1e-5, abs=1e-5 * float(np.abs(expected).max()))


def window_by_window(network, picture: np.ndarray, step: int) -> np.ndarray:
    """Return what the network says of each window, cut out one after the other."""
    rows = range(0, picture.shape[0] - WINDOW + 1, step)
    columns = range(0, picture.shape[1] - WINDOW + 1, step)
    cut = np.stack([picture[y : y + WINDOW, x : x + WINDOW] for y in rows for x in columns])
    with torch.inference_mode():
        return network.windows(torch.from_numpy(cut)).numpy().reshape(len(rows), len(columns))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("height", "width"), [(64, 64 + 21), (64 + 35, 64 + 16), (64 + 17, 64 + 50), (64 + 1, 64)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_sweep_equals_the_network_on_each_window(step: int, height: int, width: int, seed: int):
    network, picture = lively_network(seed), image(height, width, seed)
    expected = window_by_window(network, picture, step)
    with torch.inference_mode():
        found = network.sweep(torch.from_numpy(picture), step).numpy()
    assert found.shape == expected.shape
    assert found == close(expected)
    assert expected.size < 30 or expected.std() > 0.1 * np.abs(expected).max()


@settings(max_examples=8)
@given(st.sampled_from(STEPS), st.integers(0, 24), st.integers(0, 40), st.integers(1, 130))
@example(step=1, more_rows=5, more_columns=11, tile=1)  # smaller than a window
@example(step=4, more_rows=9, more_columns=40, tile=64)  # a tile for each position
@example(step=4, more_rows=24, more_columns=33, tile=71)
@example(step=16, more_rows=3, more_columns=39, tile=79)
def test_scores_equal_window_by_window_scores_whatever_the_tiles(step, more_rows, more_columns, tile):
    network, picture = lively_network(2), image(WINDOW + more_rows, WINDOW + more_columns)
    model = Model(network)
    expected = window_by_window(network, picture, step)
    found = score(model, Prepared(picture, Grid(), picture), ScoreConfig(step=step, tile=tile))
    assert found.logits.shape == expected.shape
    assert found.logits == close(expected)


@pytest.mark.parametrize("step", [4, 8])
@pytest.mark.parametrize("tile", [1, 64, 65, 100, 163, 200, 10_000])
def test_scores_do_not_depend_on_the_tile_size(step: int, tile: int):
    model, prepared = Model(lively_network(0)), Prepared(image(201, 277), Grid(), image(201, 277))
    whole = score(model, prepared, ScoreConfig(step=step, tile=512)).logits
    tiled = score(model, prepared, ScoreConfig(step=step, tile=tile)).logits
    assert tiled == close(whole)


@pytest.mark.parametrize("step", STEPS)
def test_every_score_lies_at_the_centre_of_its_window(step: int):
    grid = Grid((-7.25, 3.5), 1.75)
    scores = score(Model(lively_network(0)), Prepared(image(90, 113), grid, image(90, 113)), ScoreConfig(step=step))
    rows, columns = np.indices(scores.logits.shape)
    indices = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)
    centres = step * indices + (WINDOW - 1) / 2  # of windows whose corners are `step` apart
    assert scores.grid.positions(indices) == pytest.approx(grid.positions(centres))
    assert scores.logits.shape == ((90 - WINDOW) // step + 1, (113 - WINDOW) // step + 1)


def test_a_window_that_is_moved_is_scored_where_it_went():
    picture, patch = np.zeros((150, 190), np.float32), image(WINDOW, WINDOW, 5)
    picture[40 : 40 + WINDOW, 100 : 100 + WINDOW] = patch
    network = lively_network(0)
    scores = score(Model(network), Prepared(picture, Grid(), picture), ScoreConfig(step=4))
    with torch.inference_mode():
        alone = float(network.windows(torch.from_numpy(patch[None])))
    assert scores.logits[10, 25] == pytest.approx(alone, rel=1e-5)
    assert scores.grid.positions(np.array([[25.0, 10.0]]))[0].tolist() == [131.5, 71.5]


def test_scoring_leaves_the_image_as_it_is():
    picture = image(90, 100)
    before = picture.copy()
    score(Model(lively_network(0)), Prepared(picture, Grid(), picture), ScoreConfig(step=1))
    assert (picture == before).all()


@pytest.mark.parametrize("step", [0, -4, 3, 5, 12, 32])
def test_a_step_that_is_no_power_of_two_up_to_16_is_refused(step: int):
    with pytest.raises(InputError, match="--step") as caught:
        ScoreConfig(step=step)
    assert f"--step {step} " in str(caught.value)
