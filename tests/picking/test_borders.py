"""Blank borders of micrographs: found where there are any, and nowhere else."""

import numpy as np
import pytest

import scenes
from deeppicker.core import Micrograph
from deeppicker.picking.borders import find_borders
from deeppicker.picking.pipeline import EDGE, find

HEIGHT, WIDTH = 90, 130


def noise(seed: int = 0, levels: int = 0) -> np.ndarray:
    """Return noise, in so many grey levels if they are given."""
    image = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH))
    if levels:
        image = np.rint(np.clip(0.5 + image / 6, 0, 1) * (levels - 1))
    return image.astype(np.float32)


@pytest.mark.parametrize("levels", [0, 256, 8, 4])
def test_noise_has_no_blank_border_however_few_its_grey_levels(levels: int):
    borders = find_borders(noise(3, levels))
    assert not any(depths.any() for depths in (borders.top, borders.bottom, borders.left, borders.right))


@pytest.mark.parametrize("levels", [0, 8])
@pytest.mark.parametrize("turns", range(4))
def test_rows_and_columns_that_repeat_are_blank(turns: int, levels: int):
    image = noise(1, levels)
    image[:12] = image[12]
    borders = find_borders(np.rot90(image, turns))
    depths = [borders.top, borders.left, borders.bottom, borders.right]
    assert (depths[turns] == 13).all()
    assert not any(other.any() for index, other in enumerate(depths) if index != turns)


def test_a_wedge_of_one_value_is_blank_to_its_rim():
    image = noise()
    rim = np.linspace(30, 0, WIDTH).astype(int)
    for column, depth in enumerate(rim):
        image[:depth, column] = 0
    found = find_borders(image).top
    assert (found <= rim).all()
    assert (rim - found).max() <= 5  # the rim falls by some pixels within the least width


def test_positions_keep_their_distance_from_blank_borders_and_edges():
    image = noise()
    image[:, -20:] = image[:, -20:-19]
    inside = find_borders(image).inside
    x = WIDTH - 1 - 20 - 5.0
    positions = np.array([[x, 40.0], [x + 0.1, 40.0], [5.0, 5.0], [4.9, 5.0], [5.0, HEIGHT - 5.9]])
    assert inside(positions, 5.0).tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("distance", [0.0, 3.0, 17.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_without_blank_borders_only_the_edges_count(distance: float, seed: int):
    positions = np.random.default_rng(seed).uniform((-5, -5), (WIDTH + 5, HEIGHT + 5), size=(50, 2))
    expected = [min(x, y, WIDTH - 1 - x, HEIGHT - 1 - y) >= distance for x, y in positions.tolist()]
    assert find_borders(noise()).inside(positions, distance).tolist() == expected


def test_nothing_is_picked_in_a_border_and_what_is_cut_by_it_is_rejected():
    scene = scenes.scene(2)
    depth = int(scene.positions[:, 1].min()) + 30
    image = scene.micrograph.image.copy()
    image[:depth] = image[depth]
    found = find(Micrograph("shifted.mrc", image, scenes.PIXEL_SIZE), scenes.trained(), scenes.DIAMETER)
    assert len(found.candidates) > 0
    assert (found.candidates.positions[:, 1] > depth + 0.5 * scenes.DIAMETER / scenes.PIXEL_SIZE).all()
    in_border = found.rejected.positions[:, 1] < depth
    assert all(found.reasons[index] == EDGE for index in np.flatnonzero(in_border))
