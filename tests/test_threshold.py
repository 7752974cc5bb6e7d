"""The threshold that a data set gets from its scores alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deeppicker.threshold import CAUTION, LEAST, MOST, choose_threshold

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


def test_honest_scores_give_a_good_threshold():
    rng = np.random.default_rng(0)
    scores = rng.beta(0.6, 0.9, 20_000)
    right = rng.random(len(scores)) < scores
    threshold = choose_threshold(scores)
    f1 = {t: 2 * right[scores >= t].sum() / ((scores >= t).sum() + right.sum()) for t in np.linspace(0.05, 0.95, 91)}
    mine = 2 * right[scores >= threshold].sum() / ((scores >= threshold).sum() + right.sum())
    assert mine > max(f1.values()) - 0.05  # what the caution costs


def test_where_there_is_nothing_the_threshold_is_high():
    assert choose_threshold(np.zeros(0)) == MOST
    assert choose_threshold(np.full(50, 0.02)) >= LEAST
