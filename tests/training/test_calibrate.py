"""Scores that agree with how often they are right."""

import numpy as np
import pytest
from scipy.special import expit

from deeppicker.core import Picks
from deeppicker.networks.calibration import Calibration, confidence
from deeppicker.training.calibrate import calibrate, fit, particles_among, reliability
from scenes import DIAMETER, dataset, scene, uncertain


def micrographs(rng: np.random.Generator, truth: Calibration, number: int, *, empty: int = 0):
    """Return scores, and which are right, of micrographs for which a calibration is true."""
    found = []
    for index in range(number + empty):
        level = rng.uniform(-1, 2) if index < number else rng.uniform(-4, -2)
        scores = expit(rng.normal(level, 1.5, 300))
        right = rng.random(300) < truth(scores, confidence(scores))
        found.append((scores, right & (index < number)))
    return found


@pytest.mark.parametrize("truth", [Calibration(), Calibration(0.6, -1.0, 0.5), Calibration(1.5, 1.0, 0.5, 0.3)])
def test_the_fit_finds_what_made_the_data(truth: Calibration):
    rng = np.random.default_rng(0)
    found = fit(micrographs(rng, truth, 120))
    for scores, _ in micrographs(rng, truth, 5):
        expected, fitted = (one(scores, confidence(scores)) for one in (truth, found))
        assert fitted == pytest.approx(expected, abs=0.06)


def test_micrographs_that_do_not_convince_are_taken_for_empty():
    found = fit(micrographs(np.random.default_rng(0), Calibration(), 60, empty=60))
    assert found(np.array([0.6]), 0.05) < 0.2
    assert found(np.array([0.6]), 0.7) > 0.5


def test_calibration_keeps_the_order_of_candidates():
    scores = np.linspace(0.01, 0.99, 30)
    for level in (0.05, 0.3, 0.9):
        assert (np.diff(Calibration(1.0, 0.0, 0.5, 0.6, 2.0, 1.0)(scores, level)) > 0).all()


def test_confidence_is_low_without_candidates_and_high_with_many_good_ones():
    assert confidence(np.zeros(0)) == pytest.approx(0.1)
    assert confidence(np.full(100, 0.9)) > 0.85


def test_without_any_particle_there_is_nothing_to_fit():
    assert fit([(np.array([0.5, 0.4]), np.array([False, False]))]) == Calibration()
    assert fit([]) == Calibration()


def test_reliability_counts_what_is_right_in_each_tenth():
    scores = np.array([0.05, 0.05, 0.95, 0.95, 0.95, 0.95])
    right = np.array([False, False, True, True, True, False])
    assert reliability(scores, right) == [
        (pytest.approx(0.05), 0.0, 2),
        (pytest.approx(0.95), 0.75, 4),
    ]


def test_a_second_pick_on_a_particle_is_wrong():
    item = dataset(scene(0)).micrographs[0]
    twice = np.concatenate([item.picks.positions[:1], item.picks.positions[:1] + 1])
    assert particles_among(Picks("x", twice, np.array([0.9, 0.8])), item, 5.0).tolist() == [True, False]


def test_calibration_turns_low_scores_of_right_picks_into_high_ones():
    model = uncertain()
    items = [(DIAMETER, item) for item in dataset(scene(20), scene(21)).micrographs]
    found = calibrate(model, items)
    assert found(np.array([0.9]), 0.5) > 0.9
