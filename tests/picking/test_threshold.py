"""The threshold that a data set gets from its scores alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deeppicker.picking.threshold import CAUTION, LEAST, MOST, WORTHWHILE, choose_threshold

probabilities = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=60).map(np.array)


def promised(scores: np.ndarray, threshold: float) -> float:
    kept = scores[scores >= threshold]
    return float(2 * kept.sum() / (len(kept) + scores.sum()))


@given(probabilities)
def test_the_threshold_is_the_stated_part_of_that_with_the_highest_expected_f1(scores: np.ndarray):
    best = max(sorted(set(scores.tolist()), reverse=True), key=lambda t: promised(scores, t))
    wanted = min(max(CAUTION * best, LEAST), MOST)
    kept = scores[scores >= wanted]
    equal = [t for t in scores.tolist() if promised(scores, t) > promised(scores, best) - 1e-9]
    if len(kept) == 0 or kept.mean() >= WORTHWHILE:
        assert wanted - 0.001 <= choose_threshold(scores) <= wanted or len(equal) > 1


@given(probabilities)
def test_at_least_half_of_the_picks_are_expected_to_be_right(scores: np.ndarray):
    kept = np.sort(scores[scores >= choose_threshold(scores)])
    # The threshold is cut to three digits, so what lies within a thousandth above it may come along.
    firm = kept[kept >= choose_threshold(scores) + 0.001]
    assert len(kept) == 0 or kept.mean() >= WORTHWHILE - 0.01 or firm.mean() >= WORTHWHILE


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
    weak = np.random.default_rng(0).uniform(0.01, 0.45, 500)
    assert choose_threshold(weak) > weak.max()
    assert (np.append(weak, [0.9, 0.95, 0.97]) >= choose_threshold(np.append(weak, [0.9, 0.95, 0.97]))).sum() >= 3
