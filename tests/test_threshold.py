"""The threshold that a data set gets from its scores alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeppicker.threshold import CAUTION, LEAST, MOST, choose_threshold, expect

probabilities = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=60).map(np.array)


def promised(scores: np.ndarray, threshold: float) -> float:
    kept = scores[scores >= threshold]
    return float(2 * kept.sum() / (len(kept) + scores.sum()))


@given(probabilities)
def test_the_threshold_is_the_stated_part_of_that_with_the_highest_expected_f1(scores: np.ndarray):
    best = max(sorted(set(scores.tolist()), reverse=True), key=lambda t: promised(scores, t))
    chosen = choose_threshold(scores)
    assert LEAST <= chosen <= MOST
    wanted = min(max(CAUTION * best, LEAST), MOST)
    equal = [t for t in scores.tolist() if promised(scores, t) > promised(scores, best) - 1e-9]
    assert wanted - 0.001 <= chosen <= wanted or len(equal) > 1


@given(probabilities, st.floats(0.05, 0.95))
def test_what_is_expected_is_what_the_scores_add_up_to(scores: np.ndarray, threshold: float):
    found = expect(scores, threshold)
    kept = [s for s in scores.tolist() if s >= threshold]
    assert found.picks == len(kept)
    assert found.recall == pytest.approx(sum(kept) / scores.sum())
    assert found.precision is None if not kept else found.precision == pytest.approx(sum(kept) / len(kept))


def test_honest_scores_give_a_good_threshold_and_the_true_rates():
    rng = np.random.default_rng(0)
    scores = rng.beta(0.6, 0.9, 20_000)
    right = rng.random(len(scores)) < scores
    threshold = choose_threshold(scores)
    f1 = {t: 2 * right[scores >= t].sum() / ((scores >= t).sum() + right.sum()) for t in np.linspace(0.05, 0.95, 91)}
    mine = 2 * right[scores >= threshold].sum() / ((scores >= threshold).sum() + right.sum())
    assert mine > max(f1.values()) - 0.05  # what the caution costs
    found = expect(scores, threshold)
    assert found.precision == pytest.approx(right[scores >= threshold].mean(), abs=0.02)
    assert found.recall == pytest.approx(right[scores >= threshold].sum() / right.sum(), abs=0.02)


def test_where_there_is_nothing_the_threshold_is_high_and_nothing_is_promised():
    assert choose_threshold(np.zeros(0)) == MOST
    found = expect(np.zeros(0), 0.5)
    assert (found.picks, found.precision, found.recall) == (0, None, None)
    assert choose_threshold(np.full(50, 0.02)) >= LEAST
