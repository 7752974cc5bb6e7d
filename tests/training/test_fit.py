"""From data sets to saved models: learning, interruption, and adaptation to a target."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scenes
from deeppicker.config import CropConfig, ExampleConfig, LearnConfig, PickConfig, PrepareConfig, TrainConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.errors import DeepPickerError, InputError, OutputError
from deeppicker.evaluation.matching import match
from deeppicker.networks.model import Model, load_model, new_model, new_network
from deeppicker.training.adapt import adapt_model, best_picks, judge, pick_again
from deeppicker.training.cache import ensure
from deeppicker.training.data import Dataset, Labelled, split
from deeppicker.training.feed import Lesson
from deeppicker.training.fit import train_model
from deeppicker.training.loop import Training
from deeppicker.training.window_feed import fill_windows
from deeppicker.training.windows import open_examples
from scenes import BOX, DIAMETER

TINY = LearnConfig(
    examples=ExampleConfig(num_particles=24, versions=1),
    train=TrainConfig(epochs=2, batch_size=8, seed=5),
)


def start() -> Model:
    return Model(new_network(5), PrepareConfig(lowpass=0.5))


def two_sets() -> list[Dataset]:
    return [
        scenes.dataset(*(scenes.scene(seed, number=8) for seed in (60, 61)), name="first"),
        replace(scenes.dataset(*(scenes.scene(seed, number=9) for seed in (62, 63)), name="second"), diameter=80.0),
    ]


def same_weights(first: Model, second: Model) -> bool:
    one, other = first.network.state_dict(), second.network.state_dict()
    return all((one[name] == other[name]).all() for name in one)


def test_learning_leaves_a_model_that_picking_can_load(tmp_path: Path):
    output = tmp_path / "new folder" / "model.safetensors"
    epochs: list[int] = []
    model = train_model(start(), two_sets(), TINY, output, lambda state: epochs.append(len(state.history)))
    loaded = load_model(output)
    assert epochs == [1, 2]
    assert same_weights(model, loaded)
    assert not same_weights(model, start())
    assert loaded.prepare == start().prepare
    assert loaded.diameter is None
    assert [item["name"] for item in loaded.info["datasets"]] == ["first", "second"]
    assert [item["particles"] for item in loaded.info["datasets"]] == [16, 18]
    assert loaded.info["settings"]["train"]["epochs"] == 2
    assert loaded.info["best_epoch"]["epoch"] in (1, 2)
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_a_model_of_one_molecule_knows_its_diameter(tmp_path: Path):
    train_model(start(), two_sets()[1:], TINY, tmp_path / "m")
    assert load_model(tmp_path / "m").diameter == 80.0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_run_leaves_a_model_and_is_completed_by_the_same_call(
    tmp_path: Path, error: type[BaseException], epoch: int
):
    def stop(state: Training) -> None:
        if len(state.history) == epoch:
            raise error

    with pytest.raises(error):
        train_model(start(), two_sets(), TINY, tmp_path / "cut", stop)
    assert load_model(tmp_path / "cut").info["best_epoch"]["epoch"] <= epoch
    seen: list[int] = []
    train_model(start(), two_sets(), TINY, tmp_path / "cut", lambda state: seen.append(len(state.history)))
    train_model(start(), two_sets(), TINY, tmp_path / "whole")
    assert seen == list(range(epoch + 1, 3))
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"]


@pytest.mark.parametrize("kind", ["paper", "dense"])
def test_a_run_that_is_continued_reads_no_micrograph_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    def stop(_: Training) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deeppicker.training.crop_feed.EPOCH_STEPS", 2)
    config = replace(TINY, crops=CropConfig(crop=64))
    model = start() if kind == "paper" else new_model(5, "dense")
    data = scenes.dataset(*(scenes.scene(seed, number=8) for seed in (60, 61)))
    with pytest.raises(KeyboardInterrupt):
        train_model(model, [data], config, tmp_path / "m", stop)
    assert (tmp_path / "m.cache").is_dir()
    unread = [replace(item, load=lambda: pytest.fail("a micrograph was read")) for item in data.micrographs]
    monkeypatch.setattr("deeppicker.training.fit.calibrate", lambda model, _: model.calibration)
    train_model(model, [replace(data, micrographs=unread)], config, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_cache_is_whole_or_not_there(tmp_path: Path):
    data = scenes.dataset(scenes.scene(60, number=8), scenes.scene(61, number=8))

    def interrupt() -> Micrograph:
        raise KeyboardInterrupt

    broken = replace(data, micrographs=[data.micrographs[0], replace(data.micrographs[1], load=interrupt)])
    with pytest.raises(KeyboardInterrupt):
        train_model(start(), [broken], TINY, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_cache_is_left_alone(tmp_path: Path):
    (tmp_path / "m.cache").mkdir()
    (tmp_path / "m.cache" / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match=r"m\.cache is in the way"):
        train_model(start(), two_sets(), TINY, tmp_path / "m")
    assert (tmp_path / "m.cache" / "thesis.tex").read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("what", ["seed", "start", "positions", "diameter"])
def test_a_checkpoint_of_another_run_is_not_continued(tmp_path: Path, what: str):
    def stop(_: Training) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(start(), two_sets(), TINY, tmp_path / "m", stop)
    model, data, config = start(), two_sets(), TINY
    match what:
        case "seed":
            config = replace(TINY, train=replace(TINY.train, seed=6))
        case "start":
            model = Model(new_network(6), PrepareConfig(lowpass=0.5))
        case "positions":
            data[0] = scenes.dataset(scenes.scene(60, number=8), scenes.scene(64, number=8))
        case "diameter":
            data[0] = replace(data[0], diameter=75.0)
    seen: list[int] = []
    train_model(model, data, config, tmp_path / "m", lambda state: seen.append(len(state.history)))
    assert seen == [1, 2]


def test_data_sets_contribute_equally_whatever_their_size(tmp_path: Path):
    small = scenes.dataset(scenes.scene(60, number=3), scenes.scene(61, number=3))
    large = scenes.dataset(*(scenes.scene(seed, number=12) for seed in (62, 63, 64)))
    halves = [split(data, 1 / 9, np.random.default_rng(0)) for data in (small, large)]
    fill_windows(Lesson(start(), halves, TINY), tmp_path)
    training, validation = (open_examples(tmp_path / name) for name in ("training", "validation"))
    assert training.labels.tolist() == 2 * (12 * [1.0] + 12 * [0.0])
    assert len(validation) == 2 * 2 * round(12 / 9)


def test_learning_that_cannot_write_fails_before_it_starts(tmp_path: Path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match="file"):
        train_model(start(), two_sets(), TINY, tmp_path / "file" / "model", lambda _: pytest.fail("an epoch was run"))


def test_a_learnt_model_finds_the_particles_of_new_micrographs(tmp_path: Path):
    known = scenes.dataset(*(scenes.scene(seed) for seed in range(70, 74)))
    examples = ExampleConfig(num_particles=120, versions=2, max_lowpass=1.0)
    config = LearnConfig(examples=examples, train=TrainConfig(epochs=4, learning_rate=0.03, batch_size=16))
    model = train_model(Model(new_network(0)), [known], config, tmp_path / "m")
    fresh = scenes.scene(80)
    found = pick_again(model, scenes.dataset(fresh).micrographs[0], DIAMETER, PickConfig(), 0.5)
    right = len(match_positions(found.picks.positions, fresh.positions))
    assert right >= 14
    assert len(found.picks) <= 18


def match_positions(found: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return match(found, reference, 0.2 * BOX)[0]


def scored(parts: list[list[float]]) -> Dataset:
    items = []
    for index, scores in enumerate(parts):
        positions = np.stack([np.arange(len(scores)), np.full(len(scores), index)], axis=1).astype(float)
        picks = Picks(f"m{index}", positions, np.array(scores, dtype=float))
        items.append(Labelled(lambda: pytest.fail("no image is needed"), picks, positions))
    return Dataset("scored", DIAMETER, items)


scores_of_parts = st.lists(
    st.lists(st.sampled_from([0.1, 0.5, 0.9, 0.95, float("nan")]), max_size=6), min_size=1, max_size=5
)


@given(scores_of_parts, st.integers(1, 20))
def test_the_best_picks_of_all_micrographs_are_chosen_and_those_without_score_are_certain(parts, number):
    chosen = best_picks(scored(parts), number)
    certain = [2.0 if np.isnan(score) else score for part in parts for score in part]
    kept = [2.0 if np.isnan(score) else score for item in chosen.micrographs for score in item.picks.scores]
    assert sorted(kept) == sorted(certain, reverse=True)[:number][::-1]
    assert all(len(item.picks) for item in chosen.micrographs)


@given(scores_of_parts, st.integers(1, 20))
def test_picks_that_are_not_chosen_still_keep_background_away(parts, number):
    whole = {item.picks.micrograph: item for item in scored(parts).micrographs}
    for item in best_picks(scored(parts), number).micrographs:
        before = whole[item.picks.micrograph]
        assert (item.avoid == before.avoid).all()
        assert {tuple(p) for p in item.picks.positions} <= {tuple(p) for p in before.picks.positions}


def test_adaptation_starts_from_the_given_weights_and_keeps_the_preparation(tmp_path: Path):
    model = replace(scenes.trained(), prepare=PrepareConfig(lowpass=0.3))
    still = replace(TINY, train=replace(TINY.train, learning_rate=1e-12, epochs=1))
    adapted = adapt_model(model, scenes.dataset(scenes.scene(90), scenes.scene(91)), still, tmp_path / "m")
    for name, value in model.network.state_dict().items():
        assert adapted.network.state_dict()[name].numpy() == pytest.approx(value.numpy(), abs=1e-9)
    assert adapted.prepare == model.prepare
    assert adapted.diameter == DIAMETER
    assert load_model(tmp_path / "m").prepare == model.prepare


def test_adaptation_changes_a_copy(tmp_path: Path):
    model = scenes.trained()
    before = {name: value.numpy().copy() for name, value in model.network.state_dict().items()}
    adapted = adapt_model(model, scenes.dataset(scenes.scene(90), scenes.scene(91)), TINY, tmp_path / "m")
    assert all((value.numpy() == before[name]).all() for name, value in model.network.state_dict().items())
    assert not same_weights(adapted, model)


def test_manual_picks_that_were_not_learnt_from_judge_a_model():
    data = scenes.dataset(scenes.scene(90), scenes.scene(91), scenes.scene(92))
    verdict = judge(new_model(0, "paper"), scenes.trained(), data, TINY)
    assert verdict is not None
    assert verdict.better
    assert verdict.after.f1 is not None
    assert verdict.after.f1 > 0.8
    assert 0 < verdict.particles < len(data)
    again = judge(scenes.trained(), scenes.trained(), data, TINY)
    assert again is not None
    assert again.before == again.after
    assert not again.better


def test_a_single_micrograph_or_picks_of_a_program_judge_no_model():
    one = scenes.dataset(scenes.scene(90))
    picked = scenes.dataset(scenes.scene(90), scenes.scene(91), scores=[np.linspace(1, 0.5, 16)] * 2)
    for data in (one, picked):
        assert judge(scenes.trained(), scenes.trained(), data, TINY) is None


def test_adaptation_learns_from_as_many_picks_as_asked_for(tmp_path: Path):
    scores = [np.linspace(1, 0.5, 16), np.linspace(0.9, 0.4, 16)]
    data = scenes.dataset(scenes.scene(90), scenes.scene(91), scores=scores)
    config = replace(TINY, examples=replace(TINY.examples, num_particles=10))
    adapt_model(scenes.trained(), data, config, tmp_path / "m")
    assert load_model(tmp_path / "m").info["datasets"][0]["particles"] == 10


@pytest.mark.parametrize("number", [2, 3, 12])
def test_a_few_manual_picks_in_one_micrograph_are_enough(tmp_path: Path, number: int):
    scene = scenes.scene(92)
    few = replace(scene, positions=scene.positions[:number])
    adapt_model(scenes.trained(), scenes.dataset(few), TINY, tmp_path / "m")
    assert load_model(tmp_path / "m").info["datasets"][0]["particles"] == number


def test_a_single_pick_is_too_few(tmp_path: Path):
    scene = scenes.scene(92)
    with pytest.raises(InputError, match="scenes holds too few particles"):
        adapt_model(
            scenes.trained(), scenes.dataset(replace(scene, positions=scene.positions[:1])), TINY, tmp_path / "m"
        )


def test_no_pick_is_an_error(tmp_path: Path):
    scene = scenes.scene(92)
    with pytest.raises(InputError, match="scenes holds no pick"):
        adapt_model(scenes.trained(), scenes.dataset(replace(scene, positions=np.empty((0, 2)))), TINY, tmp_path / "m")


def test_a_further_round_starts_from_the_picks_of_the_model_before():
    scene = scenes.scene(93)
    item = scenes.dataset(replace(scene, positions=np.empty((0, 2)))).micrographs[0]
    again = pick_again(scenes.trained(), item, DIAMETER, PickConfig(), 0.5)
    assert len(match_positions(again.picks.positions, scene.positions)) == len(again.picks) == 16
    assert (again.avoid == again.picks.positions).all()
    assert (again.picks.scores >= 0.5).all()
    assert len(pick_again(scenes.trained(), item, DIAMETER, PickConfig(), 1.1).picks) == 0


def test_a_damaged_cache_is_made_again(tmp_path: Path):
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "a.npy").write_bytes(bytes(range(200)))

    cache = tmp_path / "m.cache"
    for _ in range(2):
        ensure(cache, "mine", make)
    assert len(made) == 1
    content = bytearray((cache / "a.npy").read_bytes())
    content[77] ^= 1
    (cache / "a.npy").write_bytes(content)
    ensure(cache, "mine", make)
    assert len(made) == 2
    assert (cache / "a.npy").read_bytes() == bytes(range(200))


@pytest.mark.parametrize("kind", ["paper", "dense"])
def test_training_that_learns_nothing_says_so_and_leaves_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setattr("deeppicker.training.crop_feed.EPOCH_STEPS", 2)
    model = start() if kind == "paper" else new_model(5, "dense")

    def damaged(folder: Path, *rest: object) -> None:
        ensure(folder, *rest)
        images = max(folder.rglob("*.npy"), key=lambda path: path.stat().st_size)
        np.load(images, mmap_mode="r+")[...] = 0

    monkeypatch.setattr("deeppicker.training.fit.ensure", damaged)
    with pytest.raises(DeepPickerError, match=r"training learnt nothing.*validation accuracy"):
        train_model(model, two_sets()[:1], replace(TINY, crops=CropConfig(crop=64)), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
