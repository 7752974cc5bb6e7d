"""Gradient descent of the paper's network with the default settings."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from deeppicker.config import ExampleConfig, TrainConfig
from deeppicker.networks.model import new_network
from deeppicker.training.loop import Training, train
from deeppicker.training.window_feed import WindowFeed
from deeppicker.training.windows import Examples
from timing.bench import Bench

_EPOCHS = 3  # measured; the rest is extrapolated


def measure(bench: Bench) -> dict[str, Any]:
    """Time the default training on particles and as many negatives (of noise: speed does not depend on it)."""
    torch.set_num_threads(bench.cores)
    number = 2 * ExampleConfig().num_particles
    rng = np.random.default_rng(0)
    windows = rng.normal(size=(number, 64, 64)).astype(np.float16)
    examples = Examples(windows, np.arange(number, dtype=np.float32) % 2)
    held = Examples(windows[: number // 9], examples.labels[: number // 9])
    run = Training(new_network(0), TrainConfig(epochs=_EPOCHS))
    start = time.perf_counter()
    train(run, WindowFeed(examples, held, run.settings, run.ranks))
    seconds = (time.perf_counter() - start) / _EPOCHS
    epochs = run.network.defaults.epochs
    return {"particles": number // 2, "epochs": epochs, "epoch": seconds, "minutes": seconds * epochs / 60}
