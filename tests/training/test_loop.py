"""The training loop: it learns, repeats itself, and continues where it was interrupted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import scenes  # noqa: F401 - limits the number of threads
from deeppicker.config import TrainConfig
from deeppicker.networks.batches import WindowBatch
from deeppicker.networks.model import new_network
from deeppicker.training.checkpoint import resume_checkpoint, save_checkpoint
from deeppicker.training.loop import Epoch, Training, learning_rate, measure, train
from deeppicker.training.window_feed import WindowFeed, _turn, _ways
from deeppicker.training.windows import Examples, new_examples, open_examples

CONFIG = TrainConfig(epochs=4, batch_size=8, learning_rate=0.02, seed=3)


def easy_examples(number: int, seed: int) -> Examples:
    """Return windows of noise, half of them with a dark disc in the middle."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((64, 64))
    disc = np.hypot(rows - 31.5, columns - 31.5) < 20
    labels = (np.arange(number) % 2).astype(np.float32)
    windows = rng.normal(size=(number, 64, 64)) - 3 * disc * labels[:, None, None]
    return Examples(windows.astype(np.float16), labels)


def fit(
    training: Training,
    examples: Examples,
    validation: Examples,
    after_epoch: Callable[[Training], None] = lambda _: None,
) -> Training:
    return train(training, WindowFeed(examples, validation, training.settings, training.ranks), after_epoch)


def measured(network, examples: Examples, at_once: int = 1024) -> tuple[float, float]:
    training = Training(network, CONFIG)
    (batch,) = WindowFeed(examples, examples, training.settings, training.ranks).held()
    parts = zip(batch.images.split(at_once), batch.labels.split(at_once), strict=True)
    return measure(network, [WindowBatch(*part) for part in parts])


@pytest.fixture(scope="module")
def examples() -> Examples:
    return easy_examples(80, 0)


@pytest.fixture(scope="module")
def validation() -> Examples:
    return easy_examples(24, 1)


def weights_of(training: Training) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in training.network.state_dict().items()}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)


@pytest.fixture(scope="module")
def finished(examples: Examples, validation: Examples) -> Training:
    return fit(Training(new_network(3), CONFIG), examples, validation)


def test_an_easy_problem_is_learnt(finished: Training, validation: Examples):
    losses = [epoch.train_loss for epoch in finished.history]
    assert losses[-1] < 0.3 * losses[0]
    assert measured(finished.network, validation)[1] > 0.9


def test_the_history_counts_epochs_and_the_learning_rate_falls(finished: Training):
    assert [epoch.epoch for epoch in finished.history] == [1, 2, 3, 4]
    rates = [epoch.learning_rate for epoch in finished.history]
    assert rates == pytest.approx([0.02, 0.02 * 0.853553, 0.01, 0.02 * 0.146447], rel=1e-4)


def test_the_learning_rate_falls_from_its_start_to_zero():
    training = Training(new_network(3), replace(CONFIG, epochs=5))
    schedule, rates = learning_rate(training, 10), [training.optimizer.param_groups[0]["lr"]]
    for _ in range(50):
        training.optimizer.step()
        schedule.step()
        rates.append(training.optimizer.param_groups[0]["lr"])
    assert rates[0] == 0.02
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(rates) < 0).all()


def test_the_rate_of_the_dense_network_rises_first():
    training = Training(new_network(3, "dense"), TrainConfig(epochs=4, learning_rate=0.5))
    schedule, rates = learning_rate(training, 100), []
    for _ in range(400):
        rates.append(training.optimizer.param_groups[0]["lr"])
        training.optimizer.step()
        schedule.step()
    expected = [0.5 * min(1, (i + 1) / 100) * 0.5 * (1 + np.cos(np.pi * i / 400)) for i in range(400)]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_the_same_seed_gives_the_same_weights(finished: Training, examples: Examples, validation: Examples):
    torch.manual_seed(99)  # what else is random must not matter
    again = fit(Training(new_network(3), CONFIG), examples, validation)
    assert same(weights_of(again), weights_of(finished))
    assert again.history == finished.history


def test_another_seed_gives_other_weights(finished: Training, examples: Examples, validation: Examples):
    other = fit(Training(new_network(3), replace(CONFIG, seed=4)), examples, validation)
    assert not same(weights_of(other), weights_of(finished))


def test_training_leaves_the_random_state_of_the_program_alone(examples: Examples, validation: Examples):
    before = torch.random.get_rng_state()
    fit(Training(new_network(3), replace(CONFIG, epochs=1)), examples, validation)
    assert (torch.random.get_rng_state() == before).all()


class StopTrainingError(Exception):
    """What ends a run in these tests."""


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_an_interrupted_run_that_is_continued_equals_an_uninterrupted_one(
    tmp_path: Path, examples: Examples, validation: Examples, epochs: int, momentum: float
):
    config = replace(CONFIG, momentum=momentum)
    path = tmp_path / "state"

    def stop(state: Training) -> None:
        save_checkpoint(state, path)
        if len(state.history) == epochs:
            raise StopTrainingError

    whole = fit(Training(new_network(3), config, "mine"), examples, validation)
    with pytest.raises(StopTrainingError):
        fit(Training(new_network(3), config, "mine"), examples, validation, stop)
    resumed = Training(new_network(8), config, "mine")
    assert resume_checkpoint(resumed, path)
    assert len(resumed.history) == epochs
    fit(resumed, examples, validation)
    assert same(weights_of(resumed), weights_of(whole))
    assert resumed.history == whole.history


def test_a_checkpoint_of_other_settings_is_ignored(tmp_path: Path, finished: Training):
    save_checkpoint(replace_fingerprint(finished, "theirs"), tmp_path / "state")
    mine = Training(new_network(3), CONFIG, "mine")
    assert not resume_checkpoint(mine, tmp_path / "state")
    assert same(weights_of(mine), weights_of(Training(new_network(3), CONFIG)))
    assert mine.history == []


def replace_fingerprint(training: Training, fingerprint: str) -> Training:
    other = Training(training.network, training.config, fingerprint)
    other.best, other.history, other.optimizer = training.best, training.history, training.optimizer
    return other


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "cut short", "foreign"])
def test_a_damaged_checkpoint_is_ignored(tmp_path: Path, finished: Training, kind: str):
    path = tmp_path / "state"
    save_checkpoint(finished, path)
    whole = path.read_bytes()
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "empty":
            path.write_bytes(b"")
        case "cut short":
            path.write_bytes(whole[: len(whole) // 2])
        case "foreign":
            path.write_bytes(whole.replace(b"deeppicker-training", b"deeppicker-guessing"))
    mine = Training(new_network(3), CONFIG)
    assert not resume_checkpoint(mine, path)
    assert mine.history == []


def test_the_weights_of_the_best_epoch_are_kept(examples: Examples, validation: Examples):
    seen = []

    def note(state: Training) -> None:
        seen.append((weights_of(state), state.history[-1].validation_loss))

    config = replace(CONFIG, learning_rate=0.1, epochs=5)
    training = fit(Training(new_network(3), config), examples, validation, note)
    losses = [loss for _, loss in seen]
    best = int(np.argmin(losses))
    assert training.best_epoch.epoch == best + 1
    assert same(weights_of(training), seen[best][0])
    assert measured(training.network, validation)[0] == pytest.approx(losses[best])


def test_a_later_epoch_that_is_worse_does_not_replace_the_best(examples: Examples, validation: Examples):
    # The labels of the validation windows are wrong, so each epoch is worse than the one before.
    wrong = replace(validation, labels=1 - validation.labels)
    seen = []
    config = replace(CONFIG, epochs=3)
    training = fit(Training(new_network(3), config), examples, wrong, lambda state: seen.append(weights_of(state)))
    assert training.best_epoch.epoch == 1
    assert same(weights_of(training), seen[0])
    assert not same(seen[0], seen[-1])


def test_of_equally_good_epochs_the_first_is_the_best():
    training = Training(new_network(0), CONFIG)
    training.history = [Epoch(number, 0.1, 1.0, 0.5, loss, 0.5) for number, loss in ((1, 0.7), (2, 0.5), (3, 0.5))]
    assert training.best_epoch.epoch == 2


def test_measuring_gives_cross_entropy_and_accuracy_whatever_the_batches(finished: Training, validation: Examples):
    with torch.inference_mode():
        odds = finished.network.windows(torch.from_numpy(validation.windows.astype(np.float32))).numpy()
    loss = np.logaddexp(0, np.where(validation.labels == 1, -odds, odds)).mean()
    accuracy = ((odds > 0) == (validation.labels == 1)).mean()
    for size in (1, 7, 24, 1000):
        assert measured(finished.network, validation, size) == pytest.approx((loss, accuracy), rel=1e-4)


def test_windows_are_turned_and_mirrored_in_all_eight_ways():
    window = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32)
    turned = _turn(np.broadcast_to(window, (8, 9, 9)), _ways(8, torch.Generator().manual_seed(0)))
    ways = [np.rot90(flip, turns) for flip in (window, window[::-1]) for turns in range(4)]
    assert len({t.tobytes() for t in turned}) == 8
    assert {t.tobytes() for t in turned} == {np.ascontiguousarray(way).tobytes() for way in ways}


@pytest.mark.parametrize("number", [0, 1, 3, 8, 13, 64])
def test_turning_keeps_the_order_and_the_content_of_windows(number: int):
    windows = np.random.default_rng(number).normal(size=(number, 6, 6)).astype(np.float16)
    turned = _turn(windows, _ways(number, torch.Generator().manual_seed(1)))
    assert turned.shape == windows.shape
    for before, after in zip(windows, turned, strict=True):
        assert np.sort(before.ravel()).tolist() == np.sort(after.ravel()).tolist()


@pytest.mark.parametrize("number", [1, 7, 8, 13, 64])
def test_an_eighth_of_a_batch_is_turned_in_each_way(number: int):
    ways = _ways(number, torch.Generator().manual_seed(number))
    assert len(ways) == number
    assert np.bincount(ways).max() == -(-number // 8)


def test_windows_in_a_file_are_learnt_like_those_in_memory(
    tmp_path: Path, finished: Training, examples: Examples, validation: Examples
):
    stored = []
    for name, part in (("training", examples), ("validation", validation)):
        blank = new_examples(tmp_path / name, len(part), 64)
        blank.windows[:], blank.labels[:] = part.windows, part.labels
        stored.append(open_examples(tmp_path / name))
    again = fit(Training(new_network(3), CONFIG), *stored)
    assert same(weights_of(again), weights_of(finished))


def test_the_labels_stay_with_their_windows(finished: Training):
    """A network that is trained on shuffled, turned windows would know nothing if labels were mixed up."""
    fresh = easy_examples(60, 9)
    assert measured(finished.network, fresh)[1] > 0.9
