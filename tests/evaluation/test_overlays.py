"""Overlays: right size, the right colour in the right place, the same bytes every time."""

import numpy as np
import pytest
from pictures import is_colour, pixels

from deeppicker.core import Micrograph, Picks
from deeppicker.evaluation import overlays
from deeppicker.evaluation.agreement import Agreement
from deeppicker.evaluation.overlays import overlay, overlay_agreement

HEIGHT, WIDTH = 640, 1000
DIAMETER, PIXEL_SIZE = 120.0, 2.0
NOTHING = np.zeros((0, 2))


def micrograph(height: int = HEIGHT, width: int = WIDTH) -> Micrograph:
    image = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    return Micrograph("m.mrc", image, PIXEL_SIZE)


def test_an_overlay_is_the_micrograph_with_a_bar_below():
    image = pixels(overlay(micrograph(), Picks.unscored("m.mrc", NOTHING), DIAMETER))
    assert image.shape[1] == WIDTH
    assert HEIGHT < image.shape[0] < HEIGHT + 80
    assert image[:HEIGHT].std() > 20
    bar = image[HEIGHT + 2 :]
    assert (bar.max(axis=2) < 60).mean() > 0.8  # dark, but for the text
    assert bar.max() > 200


@pytest.mark.parametrize(("width", "shown"), [(300, 900), (1200, 1200), (4100, 1500)])
def test_an_overlay_is_between_900_and_1500_pixels_wide(width, shown):
    image = pixels(overlay(micrograph(200, width), Picks.unscored("m.mrc", NOTHING), DIAMETER))
    assert image.shape[1] == shown


def test_circles_have_the_diameter_of_the_particle_and_lie_where_the_pick_is():
    picks = Picks.unscored("m.mrc", np.array([[700.0, 200.0]]))
    blue = is_colour(pixels(overlay(micrograph(), picks, DIAMETER))[:HEIGHT], overlays.MATCHED)
    y, x = np.nonzero(blue)
    distance = np.hypot(x - 700, y - 200)
    assert len(distance) > 100
    assert np.abs(distance - DIAMETER / PIXEL_SIZE / 2).max() < 2.5
    assert x.max() - x.min() == pytest.approx(DIAMETER / PIXEL_SIZE, abs=4)


def test_each_kind_of_agreement_has_its_colour_at_its_place():
    places = {
        overlays.MATCHED: (150.0, 200.0),
        overlays.FALSE: (400.0, 300.0),
        overlays.MISSED: (650.0, 400.0),
        overlays.LEFT_OUT: (900.0, 100.0),
    }
    points = [np.array([place]) for place in places.values()]
    image = pixels(overlay_agreement(micrograph(), Agreement(*points), DIAMETER))
    blank = pixels(overlay_agreement(micrograph(), Agreement(*[NOTHING] * 4), DIAMETER))
    changed = (np.abs(image - blank).sum(axis=2) > 40)[:HEIGHT]
    for colour, (x, y) in places.items():
        ring = np.s_[int(y) - 35 : int(y) + 36, int(x) - 35 : int(x) + 36]
        assert (is_colour(image[ring], colour) & changed[ring]).sum() > 40
        changed[ring] = False
    assert not changed.any()


def test_the_legend_counts_what_is_drawn():
    one, many = np.array([[150.0, 200.0]]), np.full((7, 2), 150.0)
    first = pixels(overlay_agreement(micrograph(), Agreement(one, NOTHING, NOTHING, NOTHING), DIAMETER))
    second = pixels(overlay_agreement(micrograph(), Agreement(many, NOTHING, NOTHING, NOTHING), DIAMETER))
    assert (first[HEIGHT:] != second[HEIGHT:]).any()


def test_high_and_low_scores_differ_in_colour():
    picks = Picks("m.mrc", np.array([[200.0, 200.0], [600.0, 200.0], [800.0, 400.0]]), np.array([0.95, 0.05, np.nan]))
    image = pixels(overlay(micrograph(), picks, DIAMETER))
    high, low, none = (image[y - 40 : y + 41, x - 40 : x + 41] for x, y in ((200, 200), (600, 200), (800, 400)))
    yellow, purple = (high[..., 0] - high[..., 2] > 120), (low[..., 2] - low[..., 1] > 100)
    assert yellow.sum() > 60
    assert purple.sum() > 60
    assert (np.ptp(none, axis=2) < 10).all()


def test_the_scale_bar_has_a_round_length():
    image = pixels(overlay(micrograph(), Picks.unscored("m.mrc", NOTHING), DIAMETER))
    row = image[HEIGHT - 21, :300]
    white = np.flatnonzero((row > 250).all(axis=1))
    # A seventh of 2000 Å is 286 Å; the round length below it is 200 Å, 100 pixels.
    assert white.max() - white.min() + 1 == pytest.approx(100, abs=2)


def test_the_same_overlay_has_the_same_bytes():
    picks = Picks("m", np.array([[50.0, 60.0]]), np.array([7.5]))
    first = overlay(micrograph(), picks, DIAMETER)
    assert first == overlay(micrograph(), picks, DIAMETER)
    assert pixels(first).std() > 5
