"""The threshold that a data set gets from its scores alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from deeppicker.picking.threshold import CAUTION, LEAST, MOST, SETTLED, WORTHWHILE, choose_threshold

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


def two_groups(apart: float, lower: int, upper: int) -> np.ndarray:
    """Return scores whose log-odds are normal around 0.5 and so much above it, and many of no use."""
    rng = np.random.default_rng(0)
    odds = [rng.normal(0.5, 0.5, lower), rng.normal(0.5 + apart, 0.5, upper), rng.normal(-4, 1, 1000)]
    return expit(np.concatenate(odds))


def test_the_threshold_of_what_has_learnt_lies_in_the_gap_between_contamination_and_particles():
    scores = two_groups(3.0, 80, 80)
    assert 0.15 <= choose_threshold(scores, SETTLED, gaps=False) <= 0.5
    assert expit(1.5) < choose_threshold(scores, SETTLED) < expit(2.6)
    assert (scores >= choose_threshold(scores, SETTLED)).sum() in range(76, 84)


def test_a_gap_counts_only_if_it_is_clear_has_a_third_of_the_picks_above_it_and_the_network_has_learnt():
    for scores, caution in (
        (two_groups(3.0, 80, 80), CAUTION),
        (two_groups(1.0, 80, 80), SETTLED),  # one broad group
        (two_groups(3.0, 6, 6), SETTLED),  # too few to tell
        (two_groups(3.0, 200, 60), SETTLED),  # faint particles and better ones, perhaps
        (np.full(50, 0.9), SETTLED),
        (np.zeros(0), SETTLED),
    ):
        assert choose_threshold(scores, caution) == choose_threshold(scores, caution, gaps=False)


@given(probabilities)
def test_a_gap_only_ever_raises_the_threshold(scores: np.ndarray):
    assert choose_threshold(scores, SETTLED) >= choose_threshold(scores, SETTLED, gaps=False)
