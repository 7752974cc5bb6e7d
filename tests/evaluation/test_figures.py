"""Pictures: right size, the right colour in the right place, the same bytes every time."""

import io
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from deeppicker.core import Micrograph, Picks
from deeppicker.evaluation import figures
from deeppicker.evaluation.evaluate import Agreement, DefocusBin
from deeppicker.evaluation.ranking import PicksCurve
from deeppicker.training.loop import Epoch

HEIGHT, WIDTH = 640, 1000
DIAMETER, PIXEL_SIZE = 120.0, 2.0
NOTHING = np.zeros((0, 2))


def micrograph(height: int = HEIGHT, width: int = WIDTH) -> Micrograph:
    image = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    return Micrograph("m.mrc", image, PIXEL_SIZE)


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def is_colour(image: np.ndarray, colour: str) -> np.ndarray:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return np.abs(image - wanted).sum(axis=-1) < 60


def curve() -> PicksCurve:
    return PicksCurve((0.9, 0.5, 0.1), (0.2, 0.6, 1.4), (1.0, 0.9, 0.6), (0.2, 0.54, 0.84))


def test_an_overlay_is_the_micrograph_with_a_bar_below():
    image = pixels(figures.overlay(micrograph(), Picks.unscored("m.mrc", NOTHING), DIAMETER))
    assert image.shape[1] == WIDTH
    assert HEIGHT < image.shape[0] < HEIGHT + 80
    assert image[:HEIGHT].std() > 20
    bar = image[HEIGHT + 2 :]
    assert (bar.max(axis=2) < 60).mean() > 0.8  # dark, but for the text
    assert bar.max() > 200


@pytest.mark.parametrize(("width", "shown"), [(300, 900), (1200, 1200), (4100, 1500)])
def test_an_overlay_is_between_900_and_1500_pixels_wide(width, shown):
    image = pixels(figures.overlay(micrograph(200, width), Picks.unscored("m.mrc", NOTHING), DIAMETER))
    assert image.shape[1] == shown


def test_circles_have_the_diameter_of_the_particle_and_lie_where_the_pick_is():
    picks = Picks.unscored("m.mrc", np.array([[700.0, 200.0]]))
    blue = is_colour(pixels(figures.overlay(micrograph(), picks, DIAMETER))[:HEIGHT], figures.MATCHED)
    y, x = np.nonzero(blue)
    distance = np.hypot(x - 700, y - 200)
    assert len(distance) > 100
    assert np.abs(distance - DIAMETER / PIXEL_SIZE / 2).max() < 2.5
    assert x.max() - x.min() == pytest.approx(DIAMETER / PIXEL_SIZE, abs=4)


def test_each_kind_of_agreement_has_its_colour_at_its_place():
    places = {
        figures.MATCHED: (150.0, 200.0),
        figures.FALSE: (400.0, 300.0),
        figures.MISSED: (650.0, 400.0),
        figures.LEFT_OUT: (900.0, 100.0),
    }
    points = [np.array([place]) for place in places.values()]
    image = pixels(figures.overlay_agreement(micrograph(), Agreement(*points), DIAMETER))
    blank = pixels(figures.overlay_agreement(micrograph(), Agreement(*[NOTHING] * 4), DIAMETER))
    changed = (np.abs(image - blank).sum(axis=2) > 40)[:HEIGHT]
    for colour, (x, y) in places.items():
        ring = np.s_[int(y) - 35 : int(y) + 36, int(x) - 35 : int(x) + 36]
        assert (is_colour(image[ring], colour) & changed[ring]).sum() > 40
        changed[ring] = False
    assert not changed.any()


def test_the_legend_counts_what_is_drawn():
    one, many = np.array([[150.0, 200.0]]), np.full((7, 2), 150.0)
    first = pixels(figures.overlay_agreement(micrograph(), Agreement(one, NOTHING, NOTHING, NOTHING), DIAMETER))
    second = pixels(figures.overlay_agreement(micrograph(), Agreement(many, NOTHING, NOTHING, NOTHING), DIAMETER))
    assert (first[HEIGHT:] != second[HEIGHT:]).any()


def test_high_and_low_scores_differ_in_colour():
    picks = Picks("m.mrc", np.array([[200.0, 200.0], [600.0, 200.0], [800.0, 400.0]]), np.array([0.95, 0.05, np.nan]))
    image = pixels(figures.overlay(micrograph(), picks, DIAMETER))
    high, low, none = (image[y - 40 : y + 41, x - 40 : x + 41] for x, y in ((200, 200), (600, 200), (800, 400)))
    yellow, purple = (high[..., 0] - high[..., 2] > 120), (low[..., 2] - low[..., 1] > 100)
    assert yellow.sum() > 60
    assert purple.sum() > 60
    assert (np.ptp(none, axis=2) < 10).all()


def test_the_scale_bar_has_a_round_length():
    image = pixels(figures.overlay(micrograph(), Picks.unscored("m.mrc", NOTHING), DIAMETER))
    row = image[HEIGHT - 21, :300]
    white = np.flatnonzero((row > 250).all(axis=1))
    # A seventh of 2000 Å is 286 Å; the round length below it is 200 Å, 100 pixels.
    assert white.max() - white.min() + 1 == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.overlay(micrograph(), Picks("m", np.array([[50.0, 60.0]]), np.array([7.5])), DIAMETER),
        lambda: figures.precision_recall_figure({"ours": curve(), "theirs": curve()}),
        lambda: figures.picks_ratio_figure({"": curve()}),
        lambda: figures.defocus_figure([DefocusBin(10000.0, 15000.0, 2, 50, 0.8)]),
        lambda: figures.score_histogram({"TRPV1": np.linspace(0, 1, 50), "none": np.array([np.nan])}),
        lambda: figures.training_curves([asdict(Epoch(1, 0.01, 0.7, 0.5, 0.6, 0.6))]),
    ],
)
def test_the_same_input_gives_the_same_bytes(draw):
    first = draw()
    assert first == draw()
    image = pixels(first)
    assert image.std() > 5


def test_a_curve_is_drawn_where_its_numbers_are():
    low = PicksCurve((0.9, 0.1), (0.5, 1.0), (0.1, 0.1), (0.2, 0.9))
    high = PicksCurve((0.9, 0.1), (0.5, 1.0), (0.9, 0.9), (0.2, 0.9))
    rows = []
    for line in (low, high):
        image = pixels(figures.precision_recall_figure({"": line}))
        rows.append(np.nonzero(is_colour(image, "#0072B2"))[0])
    assert len(rows[0]) > 200
    assert rows[0].min() > rows[1].max() + 200


def test_higher_recall_makes_a_higher_bar():
    heights = []
    for recall in (0.3, 0.9):
        image = pixels(figures.defocus_figure([DefocusBin(10000.0, 15000.0, 2, 50, recall)]))
        heights.append(np.ptp(np.nonzero(is_colour(image, "#56B4E9"))[0]))
    assert heights[1] == pytest.approx(3 * heights[0], rel=0.05)


def test_training_curves_show_training_and_validation_in_three_panels():
    history = [asdict(Epoch(k, 0.01, 1 / k, 0.9, 0.7 / k, np.nan)) for k in range(1, 6)]
    image = pixels(figures.training_curves(history))
    assert image.shape == (320, 960, 3)
    blue = is_colour(image, "#0072B2").any(axis=0)
    assert all(blue[start : start + 320].any() for start in (0, 320, 640))
    unvalidated = pixels(figures.training_curves([row | {"validation_loss": np.nan} for row in history]))
    assert is_colour(image, "#D55E00").sum() > 2 * is_colour(unvalidated, "#D55E00").sum()  # the legend stays
