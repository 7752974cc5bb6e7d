"""Matching, rates, average precision, thresholds, intervals, chance."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.evaluation.agreement import agree
from deeppicker.evaluation.evaluate import evaluate_picks
from deeppicker.evaluation.matching import match
from deeppicker.evaluation.results import EvaluateConfig, Evaluation, MicrographInfo

HEIGHT, WIDTH = 900, 1400
PIXEL_SIZE = 2.0
CONFIG = EvaluateConfig(particle_diameter=100.0, border=0.0, resamples=200, chance_repeats=2)
RADIUS = 0.3 * 100 / PIXEL_SIZE  # pixels

# A coarse lattice makes ties, shared neighbours and distances equal to the radius common.
lattice = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=5).map(
    lambda points: np.array(points, dtype=float).reshape(-1, 2)
)
seeds = st.integers(0, 2**32 - 1)


def brute_force(picks: np.ndarray, reference: np.ndarray, radius: float) -> tuple[int, float]:
    """Return the largest number of pairs and, for that number, the least total distance."""
    if len(picks) > len(reference):
        picks, reference = reference, picks
    distance = np.linalg.norm(picks[:, None] - reference[None], axis=2)
    best = (0, 0.0)
    for size in range(1, len(picks) + 1):
        for rows in itertools.combinations(range(len(picks)), size):
            for columns in itertools.permutations(range(len(reference)), size):
                steps = distance[list(rows), list(columns)]
                if (steps <= radius).all():
                    best = max(best, (size, -steps.sum()))
    return best[0], -best[1]


def scattered(seed: int, count: int = 40, name: str = "m.mrc") -> Picks:
    generator = np.random.default_rng(seed)
    positions = generator.uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (count, 2))
    return Picks(name, positions, generator.random(count))


def lattice_picks(columns: int, rows: int, name: str = "m.mrc") -> Picks:
    """Return well separated particles, far from the border."""
    x, y = np.meshgrid(200 + 80.0 * np.arange(columns), 150 + 90.0 * np.arange(rows))
    return Picks.unscored(name, np.stack([x.ravel(), y.ravel()], axis=1))


def run(picks: Picks | list[Picks], reference: Picks | list[Picks], config: EvaluateConfig = CONFIG) -> Evaluation:
    picks, reference = ([item] if isinstance(item, Picks) else item for item in (picks, reference))
    info = {item.key: MicrographInfo(pixel_size=PIXEL_SIZE, size=(HEIGHT, WIDTH)) for item in reference}
    return evaluate_picks(picks, reference, config, info)


def noisy_set(seed: int, micrographs: int = 3) -> tuple[list[Picks], list[Picks]]:
    """Return scored picks, some true and some false, and their reference."""
    generator = np.random.default_rng(seed)
    picks, reference = [], []
    for i in range(micrographs):
        truth = scattered(seed + i, 30, f"m{i}.mrc")
        found = truth.positions[generator.random(30) < 0.7]
        found = found + generator.normal(0, RADIUS / 3, found.shape)
        false = generator.uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (15, 2))
        positions = np.concatenate([found, false])
        # Rounded, so that equal scores occur within and between micrographs.
        scores = np.concatenate([generator.beta(4, 2, len(found)), generator.beta(2, 4, 15)]).round(1)
        picks.append(Picks(f"m{i}.mrc", positions, scores))
        reference.append(Picks.unscored(f"Micrographs/m{i}.mrc", truth.positions))
    return picks, reference


# --- matching -----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(lattice, lattice, st.sampled_from([0.0, 1.0, 2.0, 5.0]))
def test_matching_is_as_large_and_as_close_as_the_best_of_all_matchings(picks, reference, radius):
    pick_index, reference_index = match(picks, reference, radius)
    distance = np.linalg.norm(picks[pick_index] - reference[reference_index], axis=1)
    size, total = brute_force(picks, reference, radius)
    assert len(pick_index) == size
    assert distance.sum() == pytest.approx(total)
    assert (distance <= radius + 1e-6).all()


@settings(deadline=None)
@given(lattice, lattice, st.floats(0.5, 8))
def test_no_pick_and_no_reference_is_matched_twice(picks, reference, radius):
    pick_index, reference_index = match(picks, reference, radius)
    assert len(pick_index) == len(reference_index)
    assert len(set(pick_index.tolist())) == len(pick_index)
    assert len(set(reference_index.tolist())) == len(reference_index)
    assert pick_index.tolist() == sorted(pick_index.tolist())


@settings(deadline=None)
@given(lattice, lattice, st.floats(0.5, 8))
def test_matching_has_as_many_pairs_with_picks_and_reference_exchanged(picks, reference, radius):
    assert len(match(picks, reference, radius)[0]) == len(match(reference, picks, radius)[0])


@settings(deadline=None)
@given(lattice, lattice, st.floats(0.5, 8), st.integers(-5000, 5000), st.integers(-5000, 5000))
def test_moving_all_points_alike_changes_no_number_of_pairs(picks, reference, radius, dx, dy):
    shift = np.array([dx, dy], dtype=float)
    before, after = match(picks, reference, radius), match(picks + shift, reference + shift, radius)
    assert len(before[0]) == len(after[0])


def test_a_pick_at_exactly_the_radius_matches_and_one_beyond_does_not():
    reference = np.array([[10.0, 20.0]])
    assert len(match(np.array([[10.0 + 3.9, 20.0]]), reference, 3.9)[0]) == 1
    assert len(match(np.array([[10.0 + 3.901, 20.0]]), reference, 3.9)[0]) == 0


def test_matching_prefers_more_pairs_over_closer_pairs():
    picks, reference = np.array([[0.0, 0.0], [4.0, 0.0]]), np.array([[3.0, 0.0], [-5.0, 0.0]])
    pick_index, reference_index = match(picks, reference, 5.0)
    assert list(zip(pick_index.tolist(), reference_index.tolist(), strict=True)) == [(0, 1), (1, 0)]


# --- rates --------------------------------------------------------------------------------------


def test_picks_equal_to_the_reference_score_one_everywhere():
    reference = lattice_picks(9, 5)
    picks = Picks("m.mrc", reference.positions, np.linspace(0, 1, len(reference)))
    rates = run(picks, reference).macro
    assert (rates.precision, rates.recall, rates.f1) == (1.0, 1.0, 1.0)
    assert rates.average_precision == pytest.approx(1.0)
    assert rates.centre_error == 0.0


def test_a_second_pick_on_a_particle_is_false():
    reference = lattice_picks(9, 5)
    twice = Picks.unscored("m.mrc", np.concatenate([reference.positions, reference.positions + 1.0]))
    result = run(twice, reference).micrographs[0]
    assert result.true_positives == len(reference)
    assert result.rates.precision == 0.5
    assert result.rates.recall == 1.0


def test_the_centre_error_is_the_shift_in_boxes():
    reference = lattice_picks(9, 5)
    shifted = Picks.unscored("m.mrc", reference.positions + np.array([3.0, 4.0]))
    assert run(shifted, reference).macro.centre_error == pytest.approx(5 * PIXEL_SIZE / 150)


def test_a_micrograph_without_picks_counts_as_zero_and_is_named():
    reference = [lattice_picks(4, 3, "a.mrc"), lattice_picks(4, 3, "b.mrc")]
    result = run([reference[0]], reference)
    assert result.macro.f1 == 0.5
    assert result.macro.precision == 0.5
    assert result.pooled.precision == 1.0
    assert any("have no picks" in note and "b" in note for note in result.notes)


def test_a_micrograph_that_the_reference_does_not_mention_is_left_out_and_named():
    reference = lattice_picks(4, 3, "a.mrc")
    result = run([reference, scattered(1, name="extra.mrc")], reference)
    assert result.macro.f1 == 1.0
    assert any("not in the reference" in note and "extra" in note for note in result.notes)


def test_a_micrograph_without_particles_has_no_f1_until_something_is_picked_in_it():
    reference = [lattice_picks(4, 3, "a.mrc"), Picks.unscored("empty.mrc", np.zeros((0, 2)))]
    quiet = run([reference[0]], reference)
    noisy = run([reference[0], scattered(1, 5, "empty.mrc")], reference)
    assert quiet.macro.f1 == 1.0
    assert noisy.macro.f1 == 0.5
    assert noisy.macro.recall == 1.0


def test_macro_is_the_mean_of_micrographs_and_pooled_counts_them_together():
    picks, reference = noisy_set(3)
    result = run(picks, reference)
    assert result.macro.recall == pytest.approx(np.mean([r.rates.recall for r in result.micrographs]))
    matched, found = (sum(getattr(r, name) for r in result.micrographs) for name in ("true_positives", "picks"))
    assert result.pooled.precision == pytest.approx(matched / found)


def test_results_do_not_depend_on_the_order_of_micrographs():
    picks, reference = noisy_set(5)
    assert run(picks[::-1], reference[1:] + reference[:1]) == run(picks, reference)


# --- the border ---------------------------------------------------------------------------------


def test_picks_and_references_at_the_border_are_left_out_each_by_its_own_position():
    border = 50 / PIXEL_SIZE
    positions = np.array([[24.4, 400.0], [24.6, 700.0], [WIDTH - 25.4, 300.0], [600.0, HEIGHT - 25.6]])
    picks = Picks.unscored("m.mrc", positions)
    result = run(picks, picks, EvaluateConfig(particle_diameter=100.0)).micrographs[0]
    assert border == 25.0
    assert (result.picks, result.picks_at_border, result.references_at_border) == (2, 2, 2)
    assert result.true_positives == 2


def test_without_the_size_nothing_is_left_out_and_it_is_said():
    picks = Picks.unscored("m.mrc", np.array([[2.0, 3.0], [400.0, 300.0]]))
    result = evaluate_picks([picks], [picks], CONFIG, {"m": MicrographInfo(pixel_size=PIXEL_SIZE)})
    assert result.micrographs[0].true_positives == 2
    assert result.chance is None
    assert any("size of 1 micrographs is not known" in note for note in result.notes)


def test_agreement_holds_every_pick_and_reference_once():
    picks, reference = scattered(1), scattered(2)
    info = MicrographInfo(pixel_size=PIXEL_SIZE, size=(HEIGHT, WIDTH))
    result = agree(picks, reference, info, EvaluateConfig(particle_diameter=200.0))
    assert len(result.left_out) > 0
    assert len(result.matched) > 0
    held = np.concatenate([result.false, result.missed, result.left_out, result.matched])
    assert len(held) + len(result.matched) == len(picks) + len(reference)


# --- scores -------------------------------------------------------------------------------------


def reference_average_precision(picks: Picks, reference: Picks, radius: float) -> float:
    """Return the mean over references of the precision at which each is found; scores are distinct."""
    taken: set[int] = set()
    total = 0.0
    for rank, i in enumerate(np.argsort(-picks.scores), start=1):
        distance = np.linalg.norm(reference.positions - picks.positions[i], axis=1)
        free = [j for j in np.argsort(distance) if j not in taken and distance[j] <= radius]
        if free:
            taken.add(free[0])
            total += len(taken) / rank
    return total / len(reference)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_average_precision_equals_its_definition(seed):
    reference, picks = scattered(seed, 60), scattered(seed + 1, 80)
    wide = EvaluateConfig(particle_diameter=300.0, border=0.0, resamples=2, chance_repeats=0)
    expected = reference_average_precision(picks, reference, 0.3 * 300 / PIXEL_SIZE)
    assert run(picks, reference, wide).macro.average_precision == pytest.approx(expected)
    assert expected > 0


def test_average_precision_does_not_depend_on_the_order_of_equal_scores():
    reference = lattice_picks(6, 4)
    false = scattered(1, 24).positions * 0.1  # a corner without particles
    for positions in (
        np.concatenate([reference.positions, false]),
        np.concatenate([false, reference.positions]),
    ):
        picks = Picks("m.mrc", positions, np.full(48, 0.7))
        assert run(picks, reference).macro.average_precision == pytest.approx(0.5)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_best_threshold_is_the_best_of_all_thresholds_tried_one_by_one(seed):
    picks, reference = noisy_set(seed)
    picks.append(Picks("empty.mrc", scattered(seed, 3).positions, np.array([0.3, 0.3, 0.6])))
    reference.append(Picks.unscored("empty.mrc", np.zeros((0, 2))))
    best = run(picks, reference).best
    tried = {}
    for threshold in np.unique(np.concatenate([item.scores for item in picks])):
        kept = EvaluateConfig(
            particle_diameter=100.0, border=0.0, resamples=2, chance_repeats=0, threshold=float(threshold)
        )
        tried[float(threshold)] = run(picks, reference, kept).macro
    assert best is not None
    assert best.f1 == pytest.approx(max(rates.f1 for rates in tried.values()))
    at_best = tried[best.threshold]
    assert (best.f1, best.precision, best.recall) == pytest.approx((at_best.f1, at_best.precision, at_best.recall))


def test_a_threshold_changes_the_rates_but_not_the_curves():
    picks, reference = noisy_set(7)
    everything = run(picks, reference)
    config = EvaluateConfig(particle_diameter=100.0, border=0.0, threshold=0.6)
    judged = run(picks, reference, config)
    assert sum(r.picks for r in judged.micrographs) < sum(r.picks for r in everything.micrographs)
    assert judged.macro.precision > everything.macro.precision
    assert judged.macro.average_precision == everything.macro.average_precision
    assert judged.curve == everything.curve
    assert judged.best == everything.best


def test_the_curve_ends_at_the_pooled_rates_and_its_recall_never_falls():
    picks, reference = noisy_set(11)
    result = run(picks, reference)
    curve = result.curve
    assert curve is not None
    assert list(curve.recall) == sorted(curve.recall)
    assert list(curve.threshold) == sorted(curve.threshold, reverse=True)
    assert (curve.precision[-1], curve.recall[-1]) == pytest.approx((result.pooled.precision, result.pooled.recall))
    assert curve.ratio[-1] == pytest.approx(sum(len(p) for p in picks) / sum(len(r) for r in reference))
    assert result.pooled.recall == pytest.approx(curve.ratio[-1] * curve.precision[-1])


@settings(max_examples=30, deadline=None)
@given(lattice, lattice, seeds)
def test_the_curve_counts_a_maximum_matching_at_every_cut(points, truth, seed):
    if len(points) == 0 or len(truth) == 0:
        return
    scores = np.random.default_rng(seed).permutation(len(points)) / 10
    config = EvaluateConfig(particle_diameter=7.0, resamples=2)
    info = {"m": MicrographInfo(pixel_size=1.0)}
    curve = evaluate_picks([Picks("m", points, scores)], [Picks.unscored("m", truth)], config, info).curve
    assert curve is not None
    expected = [len(match(points[scores >= cut], truth, 2.1)[0]) for cut in curve.threshold]
    assert [round(recall * len(truth)) for recall in curve.recall] == expected


def test_picks_without_scores_have_rates_but_nothing_that_needs_scores():
    picks = lattice_picks(5, 4)
    result = run(picks, picks)
    assert result.macro.f1 == 1.0
    assert (result.macro.average_precision, result.best, result.curve) == (None, None, None)
    assert any("need picks with scores" in note for note in result.notes)


def test_a_threshold_on_picks_without_scores_is_refused():
    picks = lattice_picks(5, 4)
    with pytest.raises(InputError, match="no scores"):
        run(picks, picks, EvaluateConfig(particle_diameter=100.0, threshold=0.5))


# --- intervals, chance, defocus -----------------------------------------------------------------


def test_the_interval_contains_the_mean_and_is_reproducible():
    picks, reference = noisy_set(13, micrographs=6)
    first, second = run(picks, reference), run(picks, reference)
    for name in ("precision", "recall", "f1", "average_precision"):
        low, high = first.intervals[name]
        assert low < getattr(first.macro, name) < high
    assert first.intervals == second.intervals


def test_the_interval_of_identical_micrographs_is_a_point():
    reference = [lattice_picks(6, 4, f"m{i}.mrc") for i in range(4)]
    picks = [Picks(item.micrograph, item.positions[:12], np.ones(12)) for item in reference]
    result = run(picks, reference)
    assert result.intervals["recall"] == pytest.approx((0.5, 0.5))
    assert result.intervals["precision"] == pytest.approx((1.0, 1.0))


def test_a_micrograph_without_recall_does_not_lower_the_interval_of_recall():
    reference = [lattice_picks(6, 4, f"m{i}.mrc") for i in range(4)]
    empty = Picks.unscored("empty.mrc", np.zeros((0, 2)))
    assert run(reference, [*reference, empty]).intervals["recall"] == pytest.approx((1.0, 1.0))


def test_one_micrograph_has_no_interval():
    picks = lattice_picks(5, 4)
    assert run(picks, picks).intervals["f1"] is None


def test_chance_precision_is_the_fraction_of_the_area_near_a_particle():
    reference = lattice_picks(9, 5)
    picks = Picks.unscored("m.mrc", scattered(1, 30).positions)
    config = EvaluateConfig(particle_diameter=100.0, border=0.0, chance_repeats=400)
    result = run(picks, reference, config)
    covered = len(reference) * math.pi * RADIUS**2 / (WIDTH * HEIGHT)
    # One to one: of 30 random picks, few share a particle, so the coverage is met from below within that few.
    assert result.chance.precision == pytest.approx(covered, rel=0.12)
    assert result.chance.recall == pytest.approx(covered * 30 / len(reference), rel=0.12)


def test_chance_depends_on_the_seed_but_not_on_other_micrographs():
    picks, reference = noisy_set(17)
    alone, together = run(picks[:1], reference[:1]), run(picks, reference)
    assert alone.micrographs[0].chance == together.micrographs[0].chance
    other = EvaluateConfig(particle_diameter=100.0, border=0.0, chance_repeats=2, seed=1)
    assert run(picks, reference, other).chance != together.chance


def test_recall_is_pooled_within_ranges_of_defocus():
    reference = [lattice_picks(4, 2, f"m{i}.mrc") for i in range(3)]
    picks = [reference[0], reference[1].where(np.arange(8) < 4), reference[2]]
    info = {
        item.key: MicrographInfo(pixel_size=PIXEL_SIZE, defocus=defocus)
        for item, defocus in zip(reference, (1.2, 1.4999, 1.5), strict=True)
    }
    low, high = evaluate_picks(picks, reference, CONFIG, info).defocus
    assert (low.low, low.high, low.micrographs, low.references, low.recall) == (1.0, 1.5, 2, 16, 0.75)
    assert (high.low, high.recall) == (1.5, 1.0)


# --- errors and JSON ----------------------------------------------------------------------------


def test_no_common_micrograph_is_an_error_that_names_both_sides():
    with pytest.raises(InputError, match=r"left.*right"):
        run(scattered(1, name="left.mrc"), scattered(1, name="right.mrc"))


def test_a_micrograph_that_occurs_twice_is_refused():
    with pytest.raises(InputError, match="twice"):
        run([scattered(1, name="a/m.mrc"), scattered(1, name="b/m.mrc")], scattered(1))


def test_an_unknown_pixel_size_is_an_error_that_names_the_option():
    with pytest.raises(InputError, match="--pixel-size"):
        evaluate_picks([scattered(1)], [scattered(1)], CONFIG, {})


@pytest.mark.parametrize("diameter", [0.0, -5.0, math.nan, math.inf])
def test_a_diameter_that_is_no_length_is_refused(diameter):
    with pytest.raises(InputError, match="particle-diameter"):
        EvaluateConfig(particle_diameter=diameter)


@pytest.mark.parametrize("scored", [True, False])
def test_json_holds_no_nan(scored):
    picks, reference = noisy_set(19)
    if not scored:
        picks = [Picks.unscored(item.micrograph, item.positions) for item in picks]
    reference.append(Picks.unscored("empty.mrc", np.zeros((0, 2))))
    info = {
        item.key: MicrographInfo(pixel_size=PIXEL_SIZE, size=(HEIGHT, WIDTH), defocus=math.nan) for item in reference
    }
    content = evaluate_picks(picks, reference, CONFIG, info).to_json()
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text)["micrographs"][0]["rates"]["precision"] is None  # of "empty", first by name
    assert json.loads(text)["match_radius_angstrom"] == pytest.approx(30.0)
    assert (content["best"] is None) is not scored
