"""Pictures for the eye: where their pixels lie, and that tiles join."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from deeppicker.gui.pictures import (
    Cache,
    Pictures,
    background,
    base_factor,
    crop,
    eight_bit,
    first_look,
    jpeg,
    limits,
    reduced,
    thumbnail,
    tile,
    trend,
)


def test_a_thumbnail_waits_for_the_micrograph_on_screen():
    pictures, order = Pictures(), []

    def thumbnail() -> None:
        pictures.turn()
        order.append("thumbnail")

    later = threading.Thread(target=thumbnail)
    with pictures.urgent(), pictures.urgent():
        later.start()
        later.join(0.05)
        order.append("micrograph")
    later.join()
    assert order == ["micrograph", "thumbnail"]
    pictures.turn()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).normal(100, 5, (height, width)).astype(np.float32)


@pytest.mark.parametrize("factor", [1, 2, 3, 7])
def test_a_reduced_pixel_is_the_mean_of_its_block(factor: int):
    image = noise(43, 71)
    small = reduced(image, factor)
    assert small.shape == (43 // factor, 71 // factor)
    block = image[2 * factor : 3 * factor, 5 * factor : 6 * factor]
    assert small[2, 5] == pytest.approx(block.mean(), rel=1e-6)


def test_tiles_of_one_factor_join_to_the_reduced_micrograph():
    image = noise(1100, 1300)
    image[500:540, 510:560] -= 5
    for away in (None, trend(image, 4, 40.0)):
        tiles = [[tile(image, 2, column, row, away) for column in range(2)] for row in range(2)]
        joined = np.block(tiles)
        assert joined.shape == (550, 650)
        whole = reduced(image, 2) - (0 if away is None else away.at(0, 0, (550, 650), 2))
        assert np.abs(np.corrcoef(joined.ravel(), whole.ravel())[0, 1]) > 0.999
        steps = np.abs(np.diff(joined.astype(float), axis=1)).mean(axis=0)
        assert steps[511] < 1.5 * steps.mean()  # no seam


def test_flattening_takes_a_gradient_away_and_leaves_a_particle():
    image = noise(240, 320) + np.linspace(0, 200, 320, dtype=np.float32)
    image[100:120, 150:170] -= 40
    flat = first_look(image, 2, flat=20.0).astype(float)
    assert abs(flat[:, 40:60].mean() - flat[:, -60:-40].mean()) < 4
    assert flat[52:58, 77:83].mean() < flat.mean() - 30


@pytest.mark.parametrize("sigma", [2.0, 17.0])
def test_the_background_of_a_plane_is_the_plane(sigma: float):
    y, x = np.mgrid[:90, :150].astype(np.float32)
    plane = 3 * x - 2 * y
    inside = (slice(40, 50), slice(60, 90))
    assert np.abs((background(plane, sigma) - plane)[inside]).max() < 2


def test_grey_levels_span_the_noise_and_not_its_outliers():
    image = noise(100, 130)
    image[3, 4] = 1e6
    grey = eight_bit(image, *limits(image))
    assert 20 < grey[10:].std() < 32
    assert abs(grey.mean() - 127) < 4


def test_a_crop_is_centred_on_its_position_also_at_the_edge():
    image = noise(200, 260)
    image[57:64, 87:94] += 100
    rows, columns = np.nonzero(crop(image, 90.0, 60.0, 40.0, 40) > 200)
    assert (rows.mean(), columns.mean()) == pytest.approx((20, 20), abs=1)
    assert crop(image, 0.0, 199.0, 44.0, 96).shape == (96, 96)


@pytest.mark.parametrize(
    ("shape", "box", "factor"),
    [((4096, 4096), 152.0, 4), ((4096, 4096), 60.0, 1), ((900, 900), 400.0, 1), ((5760, 4092), None, 5)],
)
def test_a_first_look_has_the_scale_of_picking_but_fills_a_screen(
    shape: tuple[int, int], box: float | None, factor: int
):
    assert base_factor(shape, box) == factor


def test_pictures_are_files_that_a_browser_reads():
    picture = Image.open(io.BytesIO(jpeg(thumbnail(noise(400, 700)))))
    assert picture.format == "JPEG"
    assert max(picture.size) <= 250


def test_a_cache_keeps_what_was_used_last_and_no_more_than_its_size():
    made: list[str] = []
    cache: Cache[str] = Cache(6, len)

    def get(key: str) -> str:
        return cache.get(key, lambda: made.append(key) or key * 2)  # type: ignore[func-returns-value]

    for key in ("ab", "c", "ab", "d", "ab", "c"):
        assert get(key) == key * 2
    assert made == ["ab", "c", "d", "c"]
