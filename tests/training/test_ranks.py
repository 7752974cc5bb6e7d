"""Two processes train like one: the same losses and weights, and one set of files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import scenes
from deeppicker.config import TrainConfig
from deeppicker.errors import InputError
from deeppicker.networks.model import load_model, new_network
from deeppicker.networks.paper import PaperNetwork
from deeppicker.training.loop import Training, measure, train
from deeppicker.training.ranks import Ranks, current, joined
from deeppicker.training.window_feed import WindowFeed
from deeppicker.training.windows import Examples, new_examples, open_examples

# 83 windows in batches of 10: shares are unequal, and of the last batch, of 3, one process has a single window.
TRAIN = """
import json, sys
from pathlib import Path
import torch
from deeppicker.config import TrainConfig
from deeppicker.training.ranks import current, joined
from deeppicker.training.windows import open_examples
from deeppicker.networks.model import new_network
from deeppicker.training.loop import Training, train
from deeppicker.training.window_feed import WindowFeed

torch.set_num_threads(1)
folder = Path(sys.argv[1])
network = new_network(3).double()  # in which rounding does not grow to anything that matters
forward = network.forward
network.forward = lambda windows: forward(windows.double())
network.dropout.p = 0.0  # whose choices differ between the processes
config = TrainConfig(epochs=3, batch_size=10, learning_rate=0.02, seed=3)
with joined():
    training = Training(network, config, "", current())
    parts = [open_examples(folder / name) for name in ("training", "validation")]
    train(training, WindowFeed(*parts, training.settings, training.ranks))
history = [[e.train_loss, e.train_accuracy, e.validation_loss, e.validation_accuracy] for e in training.history]
weights = {name: value.flatten().tolist() for name, value in training.best.items()}
name = f"{training.ranks.rank} of {training.ranks.size}"
(folder / name).write_text(json.dumps({"history": history, "weights": weights}))
"""

COMMAND = """
import torch
from deeppicker.cli.main import main
from deeppicker.training import crop_feed

torch.set_num_threads(1)
crop_feed.EPOCH_STEPS = 5
raise SystemExit(main())
"""


def in_processes(number: int, *arguments: str, folder: Path) -> list[tuple[int, str, str]]:
    """Run Python in several processes that find each other as under ``torchrun``; return status, stdout and stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(number)}
    world |= {"LOCAL_WORLD_SIZE": str(number), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        for rank in range(number)
    ]
    outputs = [process.communicate() for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def write_examples(folder: Path) -> None:
    """Write windows of noise, half of them with a dark disc, as a training run reads them."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((64, 64))
    disc = np.hypot(rows - 31.5, columns - 31.5) < 20
    for name, number in (("training", 83), ("validation", 25)):
        examples = new_examples(folder / name, number, 64)
        examples.labels[:] = np.arange(number) % 2
        examples.windows[:] = rng.normal(size=(number, 64, 64)) - disc * examples.labels[:, None, None]


@pytest.mark.slow
def test_two_processes_have_the_losses_and_the_weights_of_one(tmp_path: Path):
    write_examples(tmp_path)
    for number in (1, 2):
        for status, _, complaint in in_processes(number, "-c", TRAIN, str(tmp_path), folder=tmp_path):
            assert status == 0, complaint
    alone, *together = (
        json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("0 of 1", "0 of 2", "1 of 2")
    )
    for result in together:
        assert np.array(result["history"]) == pytest.approx(np.array(alone["history"]), abs=1e-6)
        for name, weight in alone["weights"].items():
            assert result["weights"][name] == pytest.approx(weight, abs=1e-6), name
    assert alone["history"][-1][0] < alone["history"][0][0] - 0.03


@pytest.mark.slow
@pytest.mark.parametrize("start", [["--network", "paper"], ["--model", "general-small"]], ids=["paper", "dense"])
def test_the_command_trains_one_model_in_two_processes(tmp_path: Path, start: list[str]):
    scenes.write_project(tmp_path, [scenes.scene(seed, number=8) for seed in (60, 61, 62)])
    words = ["train", "particles.star", "--output", "m.safetensors", *start]
    words += ["--epochs", "1", "--num-particles", "24", "--batch-size", "4", "--crop", "64"]
    results = in_processes(2, "-c", COMMAND, *words, folder=tmp_path)
    for status, _, complaint in results:
        assert status == 0, complaint
    assert "epoch  1/1" in results[0][1]
    assert results[1][1] == ""
    kept = {"micrographs", "particles.star", "dataset.json", "m.safetensors", "m.curves.png", "m.history.json"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    epoch = load_model(tmp_path / "m.safetensors").info["best_epoch"]
    assert 0 < epoch["train_loss"] < 40
    assert epoch["epoch"] == 1


@pytest.mark.slow
def test_the_error_of_one_process_is_said_once_and_ends_all(tmp_path: Path):
    scenes.write_project(tmp_path, [scenes.scene(seed, number=8) for seed in (60, 61)])
    broken = next((tmp_path / "micrographs").iterdir())
    broken.write_bytes(broken.read_bytes()[:5000])
    words = ["train", "particles.star", "--output", "m.safetensors", "--network", "paper"]
    first, second = in_processes(2, "-c", COMMAND, *words, folder=tmp_path)
    assert first[0] == second[0] == 2
    assert f"{broken.name} is cut short" in first[2]
    assert "another process of this training has ended" in second[2]
    assert "Traceback" not in first[2] + second[2]


@given(st.integers(0, 100), st.integers(1, 9))
def test_shares_are_all_of_a_batch_and_differ_by_one_at_most(number: int, size: int):
    shares = [np.arange(number)[Ranks(rank, size).share(number)] for rank in range(size)]
    assert np.concatenate(shares).tolist() == list(range(number))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_by_itself_is_the_first_of_one(monkeypatch: pytest.MonkeyPatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined():
        assert current() == Ranks(0, 1, torch.device("cpu"))
    network = torch.nn.Linear(2, 2)
    assert current().wrap(network) is network
    assert current().sum(torch.tensor([1.5, 2.0])).tolist() == [1.5, 2.0]


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_a_device_that_all_processes_would_share_is_refused(device: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **__: pytest.fail("it is joined"))
    with pytest.raises(InputError, match=f"--device {device}: .*; leave --device out"), joined(device):
        pass


def test_more_processes_than_windows_in_a_step_are_refused():
    nothing = Examples(np.zeros((8, 64, 64), np.float16), np.zeros(8, np.float32))
    training = Training(new_network(0), TrainConfig(batch_size=4), "", Ranks(0, 5))
    with pytest.raises(InputError, match="--batch-size 4 is too few for 5 processes"):
        train(training, WindowFeed(nothing, nothing, training.settings, training.ranks))


def test_the_shares_of_a_measurement_add_up_to_the_whole(tmp_path: Path):
    class Alone(Ranks):
        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return values

    write_examples(tmp_path)
    validation = open_examples(tmp_path / "validation")
    network, settings = new_network(3), TrainConfig().resolved(PaperNetwork.defaults)
    number = len(validation)
    parts = np.zeros(2)
    for ranks in (Alone(rank, 3) for rank in range(3)):
        share = ranks.share(number)
        held = WindowFeed(validation, validation, settings, ranks).held()
        parts += np.array(measure(network, held, ranks)) * (share.stop - share.start) / number
    assert parts == pytest.approx(measure(network, WindowFeed(validation, validation, settings, Ranks()).held()))
