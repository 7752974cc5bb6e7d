"""Preparation: scale, normalisation, and where the working pixels lie."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import scenes
from deeppicker.config import PrepareConfig
from deeppicker.core import Micrograph
from deeppicker.errors import InputError
from deeppicker.imaging.normalise import clip_outliers, deviations, flatten, outlier_limits
from deeppicker.imaging.resample import resample
from deeppicker.picking.prepare import box_pixels, prepare, prepare_image

CONFIG = PrepareConfig()
HEIGHT, WIDTH = 150, 210


def noise(seed: int = 0, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.random.default_rng(seed).normal(50, 5, shape).astype(np.float32)


def micrograph(image: np.ndarray, pixel_size: float = 2.0) -> Micrograph:
    return Micrograph("grid/mic.mrc", image.astype(np.float32), pixel_size)


def diameter_for(scale: float, pixel_size: float = 2.0, config: PrepareConfig = CONFIG) -> float:
    """Return the diameter at which a micrograph pixel becomes ``scale`` working pixels."""
    return config.window / scale * pixel_size / config.box_diameters


def inside(prepared) -> np.ndarray:
    """Return the prepared image without its mirrored frame."""
    margin = CONFIG.window // 2
    return prepared.image[margin:-margin, margin:-margin]


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("scale", [0.3, 0.37, 0.5, 1.0, 1.3, 2.0, 3.21])
@pytest.mark.parametrize(("x", "y"), [(120.0, 40.0), (61.3, 97.8)])
def test_a_spot_is_found_where_it_was(sign, scale, x, y):
    rows, columns = np.indices((HEIGHT, WIDTH))
    width = max(3.0, 1.5 / scale)
    image = 2e-5 * noise() + sign * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
    prepared = prepare(micrograph(image), diameter_for(scale), replace(CONFIG, clip=1e6))
    weight = np.clip(sign * inside(prepared), 0, None)
    weight[weight < 0.3 * weight.max()] = 0
    rows, columns = np.indices(weight.shape)
    margin = CONFIG.window // 2
    index = [(columns * weight).sum() / weight.sum() + margin, (rows * weight).sum() / weight.sum() + margin]
    found = prepared.grid.positions(np.array([index]))[0]
    assert found == pytest.approx([x, y], abs=0.1 * max(1, 1 / scale))


@pytest.mark.parametrize("scale", [0.3, 0.73, 1.0, 1.9])
def test_the_scale_is_exact_along_both_axes_and_a_box_spans_the_window(scale):
    prepared = prepare(micrograph(noise()), diameter_for(scale), CONFIG)
    assert box_pixels(diameter_for(scale), 2.0, CONFIG) / prepared.grid.step == pytest.approx(CONFIG.window)
    assert inside(prepared).shape == (int(HEIGHT * scale), int(WIDTH * scale))


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7])
def test_every_pixel_of_the_micrograph_is_the_centre_of_a_whole_window(scale):
    prepared = prepare(micrograph(noise()), diameter_for(scale), CONFIG)
    height, width = prepared.image.shape
    corners = prepared.grid.indices(np.array([[0.0, 0.0], [WIDTH - 1.0, HEIGHT - 1.0]]))
    reach = CONFIG.window / 2
    assert (corners[0] >= reach - 1).all()
    assert (corners[1] <= np.array([width, height]) - reach + 1).all()


# The local mean is computed on blocks of 8 working pixels, so only shifts by whole blocks are exact.
@pytest.mark.parametrize(("scale", "dx", "dy"), [(0.5, 16, 0), (0.5, 0, 32), (1.0, 8, 24), (2.0, 4, 0), (2.0, 12, 20)])
def test_a_shifted_micrograph_gives_a_shifted_image(scale, dx, dy):
    config = replace(CONFIG, background=0.2)  # a neighbourhood that ends well inside the micrograph
    whole = noise(1, (260, 340))
    first, second = (
        inside(prepare(micrograph(part), diameter_for(scale), config))
        for part in (whole[:220, :300], whole[dy : 220 + dy, dx : 300 + dx])
    )
    moved_x, moved_y, edge = round(dx * scale), round(dy * scale), 40
    left = first[edge + moved_y : -edge, edge + moved_x : -edge]
    right = second[edge : -edge - moved_y, edge : -edge - moved_x]
    assert left == pytest.approx(right, abs=0.02)
    assert left.std() > 0.5


@pytest.mark.parametrize("scale", [0.4, 1.6])
@pytest.mark.parametrize(("contrast", "offset"), [(1.0, 1000.0), (100.0, 0.0), (0.001, -3.0), (7.3, -250.0)])
def test_contrast_and_offset_of_the_micrograph_do_not_matter(scale, contrast, offset):
    image = scenes.scene(3).micrograph.image
    expected = prepare(micrograph(image), diameter_for(scale), CONFIG)
    changed = prepare(micrograph(contrast * image + offset), diameter_for(scale), CONFIG)
    assert changed.image == pytest.approx(expected.image, abs=0.01)
    assert changed.deviation == pytest.approx(expected.deviation, abs=0.02)
    assert changed.deviation.shape == changed.image.shape


def test_a_gradient_of_the_ice_hardly_matters():
    image = scenes.scene(3, shape=(300, 420)).micrograph.image
    y, x = np.indices(image.shape)
    sloped = image + 0.05 * x - 0.03 * y  # three standard deviations of the noise across the micrograph
    expected = inside(prepare(micrograph(image), diameter_for(1.8), CONFIG))
    changed = inside(prepare(micrograph(sloped), diameter_for(1.8), CONFIG))
    assert np.abs(changed - expected).max() < 0.5
    assert np.sqrt(np.mean((changed - expected) ** 2)) < 0.15


def test_contrast_is_the_same_where_the_ice_is_thick():
    image = noise(5, (300, 500))
    image[:, 250:] = 50 + 4 * (image[:, 250:] - 50)
    flat = inside(prepare(micrograph(image), diameter_for(1.0), CONFIG))
    assert flat[:, :150].std() == pytest.approx(1, abs=0.1)
    assert flat[:, 350:].std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.3])
def test_noise_gets_zero_mean_and_unit_deviation(scale):
    flat = inside(prepare(micrograph(noise(2)), diameter_for(scale), CONFIG))
    assert flat.mean() == pytest.approx(0, abs=0.02)
    assert flat.std() == pytest.approx(1, abs=0.05)
    assert flat.dtype == np.float32


@pytest.mark.parametrize("value", [1e4, -1e4, 1e9])
@pytest.mark.parametrize("scale", [0.7, 1.5])
def test_a_hot_pixel_changes_only_its_neighbourhood(value, scale):
    image = noise(4)
    hot = image.copy()
    hot[70, 130] = value
    expected = prepare(micrograph(image), diameter_for(scale), CONFIG)
    changed = prepare(micrograph(hot), diameter_for(scale), CONFIG)
    rows, columns = np.indices(expected.image.shape)
    x, y = expected.grid.indices(np.array([[130.0, 70.0]]))[0]
    far = np.hypot(columns - x, rows - y) > 8 + 4 * scale
    assert np.abs(changed.image - expected.image)[far].max() < 0.05
    assert np.abs(changed.image).max() <= CONFIG.clip


def test_clipping_leaves_ordinary_pixels_as_they_are():
    image = noise(6)
    hot = image.copy()
    hot[3, 5], hot[100, 7] = 1e6, -1e6
    clipped = clip_outliers(hot, 6.0)
    same = np.ones(hot.shape, dtype=bool)
    same[3, 5] = same[100, 7] = False
    assert (clipped[same] == image[same]).all()
    assert clipped[3, 5] == pytest.approx(50 + 30, abs=1.5)
    assert clipped[100, 7] == pytest.approx(50 - 30, abs=1.5)


def test_a_few_bright_pixels_on_nothing_are_not_clipped_away():
    image = np.zeros((40, 60), np.float32)
    image[10, 20] = 5
    assert clip_outliers(image, 6.0)[10, 20] > 0


def test_a_micrograph_smaller_than_a_box_can_be_prepared():
    prepared = prepare(micrograph(noise(7, (23, 28))), diameter_for(2.0), CONFIG)
    assert prepared.image.shape == (46 + 64, 56 + 64)
    assert np.isfinite(prepared.image).all()


def test_an_empty_frame_is_not_blown_up():
    image = noise(8)
    image[:, :60] = 50.0 + 1e-3 * (image[:, :60] - 50)
    flat = inside(prepare(micrograph(image), diameter_for(1.0), replace(CONFIG, background=0.2)))
    assert np.abs(flat[20:-20, :30]).max() < 0.1


@pytest.mark.parametrize("scale", [0.31, 0.5, 1.0, 1.77])
def test_resampling_keeps_a_linear_image_on_its_grid(scale):
    y, x = np.indices((80, 130)).astype(np.float32)
    for image, axis in ((x, 0), (y, 1)):
        small, grid = resample(image, scale)
        rows, columns = np.indices(small.shape)
        indices = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)
        expected = grid.positions(indices)[:, axis].reshape(small.shape)
        edge = 2 + int(3 * scale)
        part = (slice(edge, -edge), slice(edge, -edge))
        assert small[part] == pytest.approx(expected[part], abs=0.005)


@pytest.mark.parametrize("scale", [0.06, 0.236, 0.31, 0.5, 0.73, 1.0, 1.3, 3.7])
@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (701, 90), (23, 400)])
def test_resampling_by_strips_equals_that_of_the_whole_clipped_image(scale, shape, monkeypatch):
    image = noise(1, shape)
    image[5, 7], image[-2, 3] = 1e5, -1e5
    expected = functional.interpolate(
        torch.from_numpy(clip_outliers(image, 6.0))[None, None],
        scale_factor=scale,
        mode="bicubic",
        antialias=True,
        recompute_scale_factor=False,
    )
    whole, _ = resample(image, scale, outlier_limits(image, 6.0))
    monkeypatch.setattr("deeppicker.imaging.resample._STRIP", 50)
    strips, _ = resample(image, scale, outlier_limits(image, 6.0))
    assert whole == pytest.approx(expected[0, 0].numpy(), abs=0.005)  # a thousandth of the deviation
    assert (strips == whole).all()


def test_a_part_of_an_image_is_resampled_like_a_copy_of_it():
    part = noise(2)[20:110, 33:180]
    assert (resample(part, 0.43)[0] == resample(part.copy(), 0.43)[0]).all()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40), st.sampled_from([1.0, 6.0]))
def test_limits_are_of_the_median_and_its_deviation(values, limit):
    image = np.array([values], np.float32)
    median = float(np.median(image))
    sigma = 1.4826 * float(np.median(np.abs(image - np.float32(median)))) or float(image.std())
    expected = (median - limit * sigma, median + limit * sigma)
    assert outlier_limits(image, limit) == pytest.approx(expected, rel=1e-6, abs=1e-6 * max(1, sigma))


def test_an_image_may_be_prepared_without_its_deviations():
    image = micrograph(noise())
    prepared = prepare(image, diameter_for(0.6), CONFIG)
    alone, grid = prepare_image(image, diameter_for(0.6), CONFIG)
    assert (alone == prepared.image).all()
    assert grid == prepared.grid


def test_flattening_does_not_change_its_input():
    image = noise(9)
    before = image.copy()
    flatten(image, 64.0, 6.0)
    assert (image == before).all()


@pytest.mark.parametrize("diameter", [0.0, -5.0, 1e-6, 1e9, np.nan, np.inf])
def test_an_impossible_diameter_names_the_file_and_the_option(diameter):
    with pytest.raises(InputError, match=r"grid/mic\.mrc.*--diameter") as caught:
        prepare(micrograph(noise()), diameter, CONFIG)
    assert f"{diameter:g} Å" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_diameter_larger_than_the_micrograph_is_refused():
    image = micrograph(noise())
    side = min(image.image.shape) * image.pixel_size
    assert prepare(image, 0.99 * side, CONFIG).image.size > 0
    with pytest.raises(InputError, match=r"grid/mic\.mrc.*--diameter"):
        prepare(image, 1.01 * side, CONFIG)


def test_deviations_ignore_the_trend_of_the_ice_but_not_a_crystal_on_it():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:190j, -1:1:260j]
    noise = rng.normal(size=(190, 260))
    image = (1000 + 80 * x - 50 * y * y + 30 * x * y + 2 * noise).astype(np.float32)
    image[40:70, 100:150] -= 40
    found = deviations(image)
    crystal = np.zeros(image.shape, bool)
    crystal[40:70, 100:150] = True
    assert found[crystal].max() < -8
    assert np.abs(found[~crystal]).mean() == pytest.approx(np.sqrt(2 / np.pi), rel=0.15)  # of a unit normal
    assert np.corrcoef(found[~crystal], noise[~crystal])[0, 1] > 0.95
