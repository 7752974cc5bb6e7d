"""Contrast of candidates: the mean of a ring less that of the disc within it."""

import numpy as np
import pytest

from deeppicker.picking.contrast import contrasts


def brute_force(image: np.ndarray, x: float, y: float, diameter: float) -> float:
    rows, columns = np.indices(image.shape)
    distance = np.hypot(rows - round(y), columns - round(x))
    disc, box = distance <= diameter / 2, distance <= 0.75 * diameter
    return float(image[box & ~disc].mean() - image[disc].mean())


@pytest.mark.parametrize("diameter", [9.0, 24.0, 128 / 3])
def test_contrast_is_the_mean_around_less_the_mean_within(diameter: float):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(120, 170)).astype(np.float32)
    places = rng.uniform(40, 75, (300, 2))  # more than are looked at at once
    expected = [brute_force(image, x, y, diameter) for x, y in places]
    np.testing.assert_allclose(contrasts(image, places, diameter), expected, atol=6e-4)


def test_a_dark_disc_has_as_much_contrast_as_it_is_dark():
    image = np.zeros((90, 130), dtype=np.float32)
    rows, columns = np.indices(image.shape)
    image[np.hypot(rows - 40, columns - 70) <= 12] = -1.25
    assert contrasts(image, np.array([[70.0, 40.0]]), 24.0) == pytest.approx([1.25])
    assert contrasts(-image, np.array([[70.0, 40.0]]), 24.0) == pytest.approx([-1.25])
    assert contrasts(image + 3, np.array([[20.0, 20.0]]), 24.0) == pytest.approx([0.0])


def test_places_at_the_edge_and_none_at_all_are_no_trouble():
    image = np.random.default_rng(1).normal(size=(60, 80)).astype(np.float32)
    corners = np.array([[-0.6, -0.6], [79.6, 59.6]])
    assert np.isfinite(contrasts(image, corners, 24.0)).all()
    assert contrasts(image, np.zeros((0, 2)), 24.0).shape == (0,)
