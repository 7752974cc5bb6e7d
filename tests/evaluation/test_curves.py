"""Curves and histograms: lines where their numbers are, the same bytes every time."""

from dataclasses import asdict

import numpy as np
import pytest
from pictures import is_colour, pixels

from deeppicker.evaluation import curves
from deeppicker.evaluation.ranking import PicksCurve
from deeppicker.evaluation.results import DefocusBin
from deeppicker.training.loop import Epoch


def curve() -> PicksCurve:
    return PicksCurve((0.9, 0.5, 0.1), (0.2, 0.6, 1.4), (1.0, 0.9, 0.6), (0.2, 0.54, 0.84))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: curves.precision_recall_figure({"ours": curve(), "theirs": curve()}),
        lambda: curves.picks_ratio_figure({"": curve()}),
        lambda: curves.defocus_figure([DefocusBin(1.0, 1.5, 2, 50, 0.8)]),
        lambda: curves.score_histogram({"TRPV1": np.linspace(0, 1, 50), "none": np.array([np.nan])}),
        lambda: curves.training_curves([asdict(Epoch(1, 0.01, 0.7, 0.5, 0.6, 0.6))]),
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
        image = pixels(curves.precision_recall_figure({"": line}))
        rows.append(np.nonzero(is_colour(image, "#0072B2"))[0])
    assert len(rows[0]) > 200
    assert rows[0].min() > rows[1].max() + 200


def test_higher_recall_makes_a_higher_bar():
    heights = []
    for recall in (0.3, 0.9):
        image = pixels(curves.defocus_figure([DefocusBin(1.0, 1.5, 2, 50, recall)]))
        heights.append(np.ptp(np.nonzero(is_colour(image, "#56B4E9"))[0]))
    assert heights[1] == pytest.approx(3 * heights[0], rel=0.05)


def test_training_curves_show_training_and_validation_in_three_panels():
    history = [asdict(Epoch(k, 0.01, 1 / k, 0.9, 0.7 / k, np.nan)) for k in range(1, 6)]
    image = pixels(curves.training_curves(history))
    assert image.shape == (320, 960, 3)
    blue = is_colour(image, "#0072B2").any(axis=0)
    assert all(blue[start : start + 320].any() for start in (0, 320, 640))
    unvalidated = pixels(curves.training_curves([row | {"validation_loss": np.nan} for row in history]))
    assert is_colour(image, "#D55E00").sum() > 2 * is_colour(unvalidated, "#D55E00").sum()  # the legend stays
