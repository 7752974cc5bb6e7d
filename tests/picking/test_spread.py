"""How far the contrast of candidates reaches: the radius of gyration, against that of a filled disc."""

import numpy as np
import pytest
from scipy import ndimage

from deeppicker.picking.spread import spreads


def brute_force(image: np.ndarray, x: float, y: float, diameter: float) -> float:
    rows, columns = np.indices(image.shape)
    distance = np.hypot(rows - round(y), columns - round(x))
    smooth = ndimage.gaussian_filter(image.astype(float), diameter / 16)
    around = (distance > diameter / 2) & (distance <= 0.75 * diameter)
    dark = np.clip(np.median(smooth[around]) - smooth, 0, None)[distance <= 0.625 * diameter]
    square = distance[distance <= 0.625 * diameter] ** 2
    return float(np.sqrt((dark * square).sum() / dark.sum()) / np.sqrt(diameter**2 / 8) - 1)


def disc(radius: float) -> np.ndarray:
    rows, columns = np.indices((90, 130))
    return -np.clip(radius + 0.5 - np.hypot(rows - 40, columns - 70), 0, 1).astype(np.float32)


def test_the_spread_is_that_of_what_is_darker_than_its_surroundings():
    image = np.random.default_rng(0).normal(size=(120, 170)).astype(np.float32)
    image[40:60, 60:75] -= 2
    places = np.random.default_rng(1).uniform(40, 75, (20, 2))
    expected = [brute_force(image, x, y, 24.0) for x, y in places]
    np.testing.assert_allclose(spreads(image, places, 24.0), expected, atol=4e-3)  # the blur ends with the window


@pytest.mark.parametrize("diameter", [24.0, 128 / 3])
def test_a_disc_of_the_diameter_has_none_smaller_ones_less_and_larger_ones_more(diameter: float):
    place = np.array([[70.0, 40.0]])
    sizes = [float(spreads(disc(part * diameter / 2), place, diameter)[0]) for part in (0.5, 0.8, 1.0, 1.2)]
    assert sizes == sorted(sizes)
    assert sizes[2] == pytest.approx(0, abs=0.03)
    assert sizes[1] < -0.1


def test_contrast_and_brightness_do_not_matter_but_noise_does():
    rng, place = np.random.default_rng(0), np.array([[70.0, 40.0]])
    image = disc(12)
    assert spreads(3 * image + 5, place, 24.0) == pytest.approx(spreads(image, place, 24.0), abs=1e-4)
    noise = rng.normal(size=(20, *image.shape)).astype(np.float32)
    noisy = [float(spreads(0.3 * image + one, place, 24.0)[0]) for one in noise]
    assert np.mean(noisy) > spreads(image, place, 24.0)[0] + 0.03


def test_places_at_the_edge_none_at_all_and_flat_images_are_no_trouble():
    image = np.random.default_rng(1).normal(size=(60, 80)).astype(np.float32)
    corners = np.array([[-0.6, -0.6], [79.6, 59.6]])
    assert np.isfinite(spreads(image, corners, 24.0)).all()
    assert np.isfinite(spreads(0 * image, corners, 24.0)).all()
    assert spreads(image, np.zeros((0, 2)), 24.0).shape == (0,)
