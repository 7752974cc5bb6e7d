"""The dense network: tiles, moves, files, and what it learns in a moment."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import scenes
from deeppicker.config import CropConfig, LearnConfig, ScoreConfig, TrainConfig
from deeppicker.core import Grid, Prepared
from deeppicker.evaluation.matching import match
from deeppicker.networks.batches import CropBatch
from deeppicker.networks.calibration import Calibration
from deeppicker.networks.dense import DenseNetwork, losses
from deeppicker.networks.model import Model, load_model, new_model, new_network, save_model
from deeppicker.networks.tensor_file import load_tensors, save_tensors
from deeppicker.picking.pipeline import EDGE, REGION, find, pick_micrograph
from deeppicker.picking.score import score
from deeppicker.training.crops import _centre_map, _presence_map, draw_batch, places, size_bin
from deeppicker.training.doubt import doubted
from deeppicker.training.fit import train_model
from deeppicker.training.plates import Plate, load_plates, open_plates, save_plates
from scenes import BOX, DIAMETER

SMALL = CropConfig(crop=96, wide=0.2)


def lively() -> Model:
    """Return a model whose maps vary: batch statistics as after training."""
    network = new_network(3, "dense")
    assert isinstance(network, DenseNetwork)
    network.train(True)
    with torch.no_grad():
        for seed in range(20):
            network(torch.randn((2, 96, 96), generator=torch.Generator().manual_seed(seed)))
    network.train(False)
    return Model(network, DenseNetwork.preparation)


def prepared(height: int, width: int) -> Prepared:
    image = np.random.default_rng(1).normal(size=(height, width)).astype(np.float32)
    return Prepared(image, Grid((3.0, -2.0), 1.5), image)


@pytest.mark.parametrize(("tile", "height", "width"), [(16, 420, 45), (16, 45, 420), (100, 420, 243), (208, 310, 437)])
@pytest.mark.parametrize("step", [None, 2, 8])
def test_tiles_give_the_scores_of_the_whole(tile: int, height: int, width: int, step: int | None):
    model, image = lively(), prepared(height, width)
    whole = score(model, image, ScoreConfig(step=step, tile=4096))
    tiled = score(model, image, ScoreConfig(step=step, tile=tile))
    assert tiled.grid == whole.grid
    assert np.ptp(whole.logits) > 0.1
    assert tiled.logits == pytest.approx(whole.logits, abs=1e-3)
    assert tiled.junk == pytest.approx(whole.junk, abs=1e-3)


def test_normalisation_within_the_convolutions_changes_nothing_but_rounding():
    network = lively().network
    images = torch.from_numpy(prepared(96, 80).image)[None]
    with torch.inference_mode():
        folded = network.fused()(images)
        plain = network(images)
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.fused().modules())
    for one, other in zip(folded, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
        assert one.std() > 0.01


def test_the_coarse_map_by_itself_is_that_of_both():
    network = lively().network
    assert isinstance(network, DenseNetwork)
    images = torch.from_numpy(prepared(96, 80).image)[None]
    with torch.inference_mode():
        present, logs = network.sizes(images[0])
        both = network(images)[1][0].double()
    assert torch.equal(present, torch.sigmoid(both[0]) * (1 - torch.sigmoid(both[1])))
    assert torch.equal(logs, torch.log_softmax(both[2:], dim=0))


@pytest.mark.parametrize("height", [48, 320, 336, 720])
def test_strips_give_the_centres_of_the_whole(height: int):
    network = lively().for_picking
    assert isinstance(network, DenseNetwork)
    image = torch.randn((height, 1024), generator=torch.Generator().manual_seed(height))
    with torch.inference_mode():
        centres, sizes = network.forward(image[None])
        drawn, junk = network.maps(image, 2)
    assert torch.allclose(drawn, centres[0], atol=1e-5)
    assert torch.allclose(junk, sizes[0, 1], atol=1e-5)


@pytest.mark.parametrize(("width", "depth"), [(8, 4), (5, 5)])
def test_width_and_depth_are_kept_in_the_file_and_tiles_fit_them(tmp_path: Path, width: int, depth: int):
    network = new_network(3, "dense", {"width": width, "depth": depth})
    save_model(Model(network, DenseNetwork.preparation), tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.network.arguments == {"width": width, "depth": depth}
    image = prepared(330, 290)
    whole, tiled = (score(again, image, ScoreConfig(tile=tile)).logits for tile in (4096, 32))
    assert np.ptp(whole) > 0
    assert tiled == pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize("depth", [4, 5])
def test_a_score_depends_on_nothing_beyond_the_halo(depth: int):
    network = new_network(3, "dense", {"width": 4, "depth": depth})
    assert isinstance(network, DenseNetwork)
    side = 2 * network.reach.halo + 3 * network.multiple
    image = torch.randn((1, side, side), generator=torch.Generator().manual_seed(0), requires_grad=True)
    middle = side // 4  # of the map of centres
    network(image)[0][0, middle, middle].backward()
    assert image.grad is not None
    rows = image.grad[0].abs().sum(dim=1).nonzero()
    assert rows.min() >= side // 2 - network.reach.halo
    assert rows.max() < side // 2 + network.multiple + network.reach.halo
    assert rows.max() - rows.min() > network.reach.halo


def test_the_reach_of_the_default_network():
    assert DenseNetwork().reach == (16, 128, 304)


def test_a_model_file_from_before_the_arguments_were_kept_is_loaded_with_defaults(tmp_path: Path):
    save_model(new_model(3, "dense"), tmp_path / "m")
    description, weights = load_tensors(tmp_path / "m", "deeppicker")
    assert description.pop("arguments") == {"width": 16, "depth": 4}
    save_tensors(tmp_path / "m", "deeppicker", description, weights)
    assert load_model(tmp_path / "m").network.arguments == {"width": 16, "depth": 4}


def test_a_coarser_step_gives_some_of_the_scores():
    model, image = lively(), prepared(130, 97)
    fine, coarse = (score(model, image, ScoreConfig(step=step)) for step in (2, 8))
    assert coarse.logits == pytest.approx(fine.logits[::4, ::4])
    assert coarse.grid.step == 4 * fine.grid.step


def test_a_saved_model_scores_the_same(tmp_path: Path):
    model = replace(lively(), calibration=Calibration(1.5, -0.25, 0.125))
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    image = prepared(80, 96)
    assert again.calibration == model.calibration
    assert score(again, image, ScoreConfig()).logits == pytest.approx(score(model, image, ScoreConfig()).logits)


def test_a_known_particle_is_no_contamination_and_the_rest_is_unknown_where_no_mask_says():
    image = np.random.default_rng(0).normal(size=(200, 230)).astype(np.float16)
    plate = Plate(image, np.array([[100.0, 90.0], [60.0, 50.0]]), np.zeros((0, 2)), 24.0, 0.0)
    config = CropConfig(crop=96, wide=0.0, noise_crops=0.0)
    batch = draw_batch([plate], 6, config, DenseNetwork.preparation, np.random.default_rng(1))
    covered = batch.presence == 1
    assert covered.any()
    assert (batch.junk[covered] == 0).all()
    assert batch.junk[~covered].isnan().all()


@hypothesis_settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0, 1, 5, 40, 300]), st.sampled_from([2, 8]), st.floats(1, 30))
def test_maps_of_centres_and_presence_are_those_of_the_nearest_particle(seed: int, number: int, step: int, size: float):
    centres = np.random.default_rng(seed).uniform(-20, 84, size=(number, 2))
    line = places(64, step)
    squared = np.full((len(line), len(line)), np.inf)
    for x, y in centres:
        squared = np.minimum(squared, (line[:, None] - y) ** 2 + (line[None, :] - x) ** 2)
    assert (_presence_map(centres, 64, step, size) == (squared <= size**2)).all()
    if step == 2:
        assert _centre_map(centres, 64, size / 5) == pytest.approx(np.exp(-0.5 * squared / (size / 5) ** 2), abs=1e-7)


def test_the_bins_of_size_are_those_of_the_logarithm():
    assert size_bin(0.0) == 11
    assert size_bin(0.3) == 14
    assert size_bin(-9.0) == 0
    assert size_bin(9.0) == 22


def test_what_is_unknown_does_not_count():
    network = new_network(0, "dense")
    assert isinstance(network, DenseNetwork)
    plates = list(load_plates(scenes.dataset(scenes.scene(0)), DenseNetwork.preparation))
    batch = draw_batch(plates, 4, SMALL, DenseNetwork.preparation, np.random.default_rng(0))
    hidden = CropBatch(
        batch.images,
        torch.full_like(batch.centres, torch.nan),
        torch.full_like(batch.presence, torch.nan),
        torch.full_like(batch.junk, torch.nan),
        torch.full_like(batch.sizes, -1),
    )
    parts = losses(network(hidden.images), hidden)
    assert [float(part.detach()) for part in parts] == [0, 0, 0, 0]
    parts = losses(network(batch.images), batch)
    assert all(bool(part.isfinite()) for part in parts)
    assert float(parts[0].detach()) > 0


def test_the_same_generator_gives_the_same_crops():
    plates = list(load_plates(scenes.dataset(scenes.scene(0), scenes.scene(1)), DenseNetwork.preparation))
    first, second = (draw_batch(plates, 3, SMALL, DenseNetwork.preparation, np.random.default_rng(7)) for _ in range(2))
    assert (first.images == second.images).all()
    assert (first.centres.nan_to_num(-1) == second.centres.nan_to_num(-1)).all()


def test_plates_in_files_are_those_that_were_saved(tmp_path: Path):
    some = list(load_plates(scenes.dataset(scenes.scene(0), scenes.scene(1)), DenseNetwork.preparation))
    junk = np.random.default_rng(0).random(some[0].image.shape) > 0.5
    nothing = np.zeros((0, 2))
    small = Plate(some[1].image[:31, :17], nothing, np.array([[1.5, 2.5]]), 12.25, 3.5, junk[:31, :17])
    plates = [replace(some[0], junk=junk), some[1], small]
    save_plates(plates, tmp_path)
    for before, after in zip(plates, open_plates(tmp_path), strict=True):
        assert isinstance(after.image, np.memmap)
        assert (after.image == before.image).all()
        assert (after.centres == before.centres).all()
        assert (after.doubtful == before.doubtful).all()
        assert (after.diameter, after.frame) == (before.diameter, before.frame)
        assert (after.junk is None) == (before.junk is None)
        assert after.junk is None or before.junk is None or (after.junk == before.junk).all()


def test_no_plates_are_saved_too(tmp_path: Path):
    save_plates([], tmp_path)
    assert open_plates(tmp_path) == []


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A dense model that finds discs, trained for a moment, and its file."""
    path = tmp_path_factory.mktemp("dense") / "m.safetensors"
    config = LearnConfig(crops=SMALL, train=TrainConfig(epochs=2, batch_size=4, learning_rate=3e-3))
    data = scenes.dataset(*(scenes.scene(seed) for seed in range(100, 105)))
    return train_model(new_model(0, "dense"), [data], config, path), path


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_particles_of_a_scene_are_found_with_honest_scores(learnt: tuple[Model, Path], seed: int):
    scene = scenes.scene(seed)
    picks = pick_micrograph(scene.micrograph, learnt[0], DIAMETER)
    picks = picks.where(picks.scores > 0.5)
    assert len(match(picks.positions, scene.positions, 0.2 * BOX)[0]) >= 0.9 * len(scene.positions)
    assert len(picks) <= 1.2 * len(scene.positions)


@pytest.mark.slow
def test_positions_are_finer_than_the_grid(learnt: tuple[Model, Path]):
    scene = scenes.scene(2)
    picks = pick_micrograph(scene.micrograph, learnt[0], DIAMETER)
    mine, theirs = match(picks.positions, scene.positions, 0.2 * BOX)
    errors = np.hypot(*(picks.positions[mine] - scene.positions[theirs]).T)
    assert errors.mean() < 0.08 * BOX


@pytest.mark.slow
def test_rejected_candidates_have_reasons(learnt: tuple[Model, Path]):
    rng = np.random.default_rng(0)
    positions = rng.uniform((0, 0), (scenes.WIDTH, scenes.HEIGHT), size=(60, 2))
    image = rng.normal(100, 8, (scenes.HEIGHT, scenes.WIDTH))
    image -= 12 * scenes.blobs(image.shape, positions, np.ones(60))
    micrograph = replace(scenes.scene(0).micrograph, image=image.astype(np.float32))
    found = find(micrograph, learnt[0], DIAMETER)
    assert len(found.reasons) == len(found.rejected) > 0
    assert EDGE in found.reasons
    assert set(found.reasons) <= {EDGE, REGION, "contamination", "extreme pixels"}
    mask = found.junk_image(micrograph.image.shape)
    factor = max(1, int(found.grid.step))
    assert mask.shape == tuple(-(-side // factor) for side in micrograph.image.shape)


@pytest.mark.slow
def test_an_interrupted_training_ends_like_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("deeppicker.training.crop_feed.EPOCH_STEPS", 10)
    config = LearnConfig(crops=SMALL, train=TrainConfig(epochs=2, batch_size=2))
    data = [scenes.dataset(scenes.scene(100), scenes.scene(101))]

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(new_model(0, "dense"), data, config, tmp_path / "m.safetensors", stop)
    again = train_model(new_model(0, "dense"), data, config, tmp_path / "m.safetensors")
    whole = train_model(new_model(0, "dense"), data, config, tmp_path / "whole.safetensors")
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], weight), name


@pytest.mark.slow
def test_confident_picks_without_a_label_are_no_background(learnt: tuple[Model, Path]):
    scene = scenes.scene(5)
    data = scenes.dataset(replace(scene, positions=scene.positions[:4]))
    (item,) = doubted(learnt[0], data, 0.5).micrographs
    assert len(item.picks) == 4
    assert len(item.avoid) > 0.8 * len(scene.positions)
    (plate,) = load_plates(doubted(learnt[0], data, 0.5), DenseNetwork.preparation)
    assert len(plate.centres) == 4
    assert len(plate.doubtful) == len(item.avoid) - 4
