"""Picking as a whole, with a network that has learnt to find dark discs."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import scenes
from deeppicker.config import CleanConfig, PeaksConfig, PickConfig, PrepareConfig, ScoreConfig
from deeppicker.core import Micrograph, ScoreMap
from deeppicker.errors import InputError
from deeppicker.evaluation.matching import match
from deeppicker.networks.model import Model, load_model
from deeppicker.picking.pipeline import find, pick_micrograph
from scenes import BOX, DIAMETER, PIXEL_SIZE

RADIUS = 0.2 * BOX  # of a right pick (Section 4.4)


def crowd(seed: int, name: str = "crowd.mrc") -> Micrograph:
    """Return a micrograph in which discs overlap and are cut by the edge."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform((-5, -5), (scenes.WIDTH + 5, scenes.HEIGHT + 5), size=(60, 2))
    image = rng.normal(100, 8, (scenes.HEIGHT, scenes.WIDTH))
    image -= 12 * scenes.blobs(image.shape, positions, np.ones(60))
    return Micrograph(name, image.astype(np.float32), PIXEL_SIZE)


def least_distance(positions: np.ndarray) -> float:
    distances = np.hypot(*(positions[:, None] - positions[None]).transpose(2, 0, 1))
    np.fill_diagonal(distances, np.inf)
    return float(distances.min())


@pytest.mark.parametrize("seed", range(4))
def test_the_particles_of_a_scene_are_found(seed: int):
    scene = scenes.scene(seed)
    picks = pick_micrograph(scene.micrograph, scenes.trained(), DIAMETER)
    picks = picks.where(picks.scores > 0.5)
    matched = match(picks.positions, scene.positions, RADIUS)
    assert len(picks) == len(matched[0]) == len(scene.positions)
    assert picks.micrograph == scene.micrograph.name


def test_candidates_come_with_their_contrast_and_fainter_particles_have_less_of_it():
    scene = scenes.scene(3, faintest=0.5)
    picks = pick_micrograph(scene.micrograph, scenes.trained(), DIAMETER)
    found, known = match(picks.positions, scene.positions, RADIUS)
    assert picks.contrast is not None
    assert (picks.contrast[found] > 0.2).all()
    assert np.corrcoef(picks.contrast[found], known)[0, 1] < -0.5  # the first particle is the strongest


def test_nothing_is_rejected_outside_of_the_micrograph():
    micrograph = crowd(2)
    found = find(micrograph, load_model("general"), DIAMETER)
    assert len(found.rejected) == len(found.reasons) > 3
    assert found.rejected.inside(micrograph.image.shape).all()


@pytest.mark.parametrize("step", [2, 4, 16])
@pytest.mark.parametrize("peak_window", [0.5, 0.8, 1.3])
def test_picks_are_never_closer_than_the_minimum_distance(step: int, peak_window: float):
    # A network that has learnt nothing finds candidates everywhere, as close as they may be.
    config = PickConfig(score=ScoreConfig(step=step), smooth=0.0, peaks=PeaksConfig(peak_window=peak_window, floor=0.0))
    picks = pick_micrograph(crowd(1), Model(scenes.lively_network(0)), DIAMETER, config)
    distance, position = 0.5 * peak_window * BOX, step * BOX / 64
    assert len(picks) > 15
    # Each position is moved within its step, to where a parabola through the maximum has its vertex.
    assert distance - np.sqrt(2) * position < least_distance(picks.positions) < 1.2 * distance + position


def test_smoothing_is_in_boxes(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def spy(scores: ScoreMap, sigma: float) -> ScoreMap:
        seen.append(sigma)
        return scores

    monkeypatch.setattr("deeppicker.picking.pipeline.smooth", spy)
    pick_micrograph(scenes.scene(0).micrograph, scenes.trained(), DIAMETER, PickConfig(smooth=0.25))
    assert seen == [pytest.approx(0.25 * BOX)]


@pytest.mark.parametrize("edge", [0.0, 0.5, 1.5])
def test_no_pick_is_within_the_edge(edge: float):
    picks = pick_micrograph(crowd(2), scenes.uncertain(), DIAMETER, PickConfig(peaks=PeaksConfig(edge=edge)))
    margin = edge * DIAMETER / PIXEL_SIZE
    upper = np.array([scenes.WIDTH - 1, scenes.HEIGHT - 1]) - margin
    assert len(picks) > 3
    assert (picks.positions >= margin).all()
    assert (picks.positions <= upper).all()


def test_picks_are_sorted_and_above_the_floor():
    picks = pick_micrograph(scenes.scene(5, faintest=0.05).micrograph, scenes.uncertain(), DIAMETER)
    assert len(np.unique(picks.scores)) > 5
    assert (np.diff(picks.scores) <= 0).all()
    assert (picks.scores > PeaksConfig().floor).all()
    assert (picks.scores < 1).all()


def test_picking_twice_gives_the_same_picks():
    first, second = (pick_micrograph(crowd(3), scenes.uncertain(), DIAMETER) for _ in range(2))
    assert (first.positions == second.positions).all()
    assert (first.scores == second.scores).all()


@pytest.fixture
def threads():
    """A function that sets the number of threads, until the test is over."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["general", "deeppicker2016"])
@pytest.mark.parametrize(("shape", "number"), [((scenes.HEIGHT, scenes.WIDTH), 16), ((440, 530), 60)])
def test_picks_are_the_same_to_the_last_bit_for_any_number_of_threads_and_any_tile(
    name: str, shape: tuple[int, int], number: int, threads: Callable[[int], None]
):
    model = load_model(name)
    micrograph = scenes.scene(12, shape=shape, number=number).micrograph
    tiles = [None, None, None, *([208, 304] if number > 50 else [])]
    found = []
    for count, tile in zip([1, 2, 4, 1, 2], tiles, strict=False):
        threads(count)
        found.append(find(micrograph, model, DIAMETER, PickConfig(score=ScoreConfig(tile=tile))))
    assert len(found[0].candidates) > number / 2
    for other in found[1:]:
        for part in ("candidates", "rejected"):
            assert (getattr(other, part).positions == getattr(found[0], part).positions).all()
            assert (getattr(other, part).scores == getattr(found[0], part).scores).all()
        assert (other.candidates.contrast == found[0].candidates.contrast).all()
        assert (other.junk == found[0].junk).all()


@pytest.mark.parametrize(("dx", "dy"), [(9, 0), (0, 9), (18, 9)])
def test_a_moved_micrograph_gives_moved_picks(dx: int, dy: int):
    """9 px are 16 working pixels: four steps of the score map, two blocks of the local mean."""
    wide = scenes.scene(6, shape=(scenes.HEIGHT + 40, scenes.WIDTH + 40), number=20).micrograph
    model = replace(scenes.trained(), prepare=PrepareConfig(background=0.2))  # reaches no further than 30 px
    first, second = (
        pick_micrograph(replace(wide, image=wide.image[y : y + scenes.HEIGHT, x : x + scenes.WIDTH]), model, DIAMETER)
        for x, y in ((0, 0), (dx, dy))
    )
    margin = 50.0
    upper = np.array([scenes.WIDTH, scenes.HEIGHT]) - margin
    expected = first.positions - [dx, dy]
    inner = ((expected >= margin) & (expected <= upper)).all(axis=1)
    assert inner.sum() > 4
    for position in expected[inner]:
        assert np.hypot(*(second.positions - position).T).min() < 0.01


@pytest.mark.parametrize("factor", [0.5, 1.7])
def test_only_the_size_of_a_particle_in_pixels_matters(factor: float):
    micrograph = scenes.scene(7).micrograph
    first = pick_micrograph(micrograph, scenes.trained(), DIAMETER)
    second = pick_micrograph(replace(micrograph, pixel_size=factor * PIXEL_SIZE), scenes.trained(), factor * DIAMETER)
    assert second.positions == pytest.approx(first.positions, abs=1e-6)


def test_x_and_y_are_not_mixed_up():
    scene = scenes.scene(8)
    turned = replace(scene.micrograph, image=np.ascontiguousarray(scene.micrograph.image.T))
    picks = pick_micrograph(turned, scenes.trained(), DIAMETER)
    picks = picks.where(picks.scores > 0.5)
    assert len(match(picks.positions[:, ::-1], scene.positions, RADIUS)[0]) == len(scene.positions)


def test_bright_particles_are_found_in_the_inverted_micrograph_only():
    scene = scenes.scene(9)
    bright = scene.micrograph.inverted()
    as_it_is, inverted = (pick_micrograph(m, scenes.trained(), DIAMETER) for m in (bright, bright.inverted()))
    assert len(match(as_it_is.positions, scene.positions, RADIUS)[0]) < 4
    assert len(match(inverted.positions, scene.positions, RADIUS)[0]) == len(scene.positions)


def test_a_candidate_with_far_more_extreme_pixels_than_the_others_is_left_out():
    scene = scenes.scene(10)
    heap = scenes.blobs(scene.micrograph.image.shape, scene.positions[:1], np.array([60.0]))
    micrograph = replace(scene.micrograph, image=scene.micrograph.image - heap.astype(np.float32))
    strict, lenient = (
        pick_micrograph(micrograph, scenes.trained(), DIAMETER, PickConfig(peaks=PeaksConfig(max_extreme=limit)))
        for limit in (0.1, 1.0)
    )
    assert len(match(lenient.positions, scene.positions[:1], RADIUS)[0]) == 1
    assert len(match(strict.positions, scene.positions[:1], RADIUS)[0]) == 0
    assert len(strict) == len(lenient) - 1


def test_the_clean_step_uses_its_configuration():
    micrograph = scenes.scene(11).micrograph
    nothing = pick_micrograph(micrograph, scenes.trained(), DIAMETER, PickConfig(clean=CleanConfig(max_region=1e-6)))
    # A region of any size is too large, so only candidates below the threshold of connection are left.
    assert (nothing.scores <= 0.5).all()
    assert (pick_micrograph(micrograph, scenes.trained(), DIAMETER).scores > 0.5).any()


@pytest.mark.parametrize("shape", [(24, 25), (26, 31), (36, 30)])
def test_a_micrograph_smaller_than_a_box_can_be_picked(shape: tuple[int, int]):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    picks = pick_micrograph(Micrograph("small.mrc", image, PIXEL_SIZE), scenes.trained(), DIAMETER)
    assert len(picks) <= 1
    assert picks.positions.shape == (len(picks), 2)


def test_impossible_settings_are_refused():
    micrograph = scenes.scene(0).micrograph
    with pytest.raises(InputError, match=r"scene0\.mrc.*--diameter"):
        pick_micrograph(micrograph, scenes.trained(), 0.0)
    with pytest.raises(InputError, match="--step"):
        pick_micrograph(micrograph, scenes.trained(), DIAMETER, PickConfig(score=ScoreConfig(step=3)))
