"""Speed and memory of picking and training, each against something in the same run.

    python benchmarks/speed.py [--threads N]

Writes ``benchmarks/results/speed.json`` and ``speed.md``:

- dense scoring against scoring the same grid patch by patch in batches, same weights;
- all steps on one 4096×4096 float32 micrograph with 180 Å particles at 1.77 Å per pixel, warm, with peak memory;
- training on 10,000 particles with the default settings.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from deeppicker.config import DEFAULT_MODEL, TRAIN_DEFAULTS, DiameterConfig, ExampleConfig, ScoreConfig, TrainConfig
from deeppicker.core import Micrograph, Prepared
from deeppicker.diameter import can_estimate, gather
from deeppicker.examples import Examples
from deeppicker.formats import read_micrograph
from deeppicker.model import Model, load_model
from deeppicker.networks import new_network
from deeppicker.pick import pick
from deeppicker.prepare import prepare
from deeppicker.score import score
from deeppicker.train import Training, train
from setting import describe

RESULTS = Path(__file__).parent / "results"
PAPER = "deeppicker2016"
SIDE, PIXEL_SIZE, DIAMETER = 4096, 1.77, 180.0
PATCH_ROWS = 12  # rows of the score grid that are scored patch by patch; the rest is extrapolated
BATCH = 1024
REPEATS = 5
TRAINED_EPOCHS = 3  # measured; the rest is extrapolated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", default=DEFAULT_MODEL, help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of is not None:  # the child process of `peak_memory`
        pick(read_micrograph(options.memory_of), load_model(options.model), DIAMETER)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    model = load_model(PAPER)
    micrograph = make_micrograph()
    prepared = prepare(micrograph, DIAMETER, model.prepare)
    result = {"setting": describe(f"{options.threads} threads")}
    result |= against_patches(model, prepared)
    result["models"] = {name: one_micrograph(name, micrograph) for name in (DEFAULT_MODEL, PAPER)}
    result |= training()
    (RESULTS / "speed.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "speed.md").write_text(report(result))
    print(report(result))


def make_micrograph() -> Micrograph:
    rng = np.random.default_rng(0)
    return Micrograph("noise.mrc", rng.normal(size=(SIDE, SIDE)).astype(np.float32), PIXEL_SIZE)


def against_patches(model: Model, prepared: Prepared) -> dict[str, float]:
    """Time dense scoring, and the same network on the same windows one batch after the other."""
    dense = median_time(lambda: score(model, prepared, ScoreConfig()))
    step, window = model.network.stride, model.network.window
    patches = torch.from_numpy(prepared.image).unfold(0, window, step).unfold(1, window, step)
    rows = patches[:: max(1, len(patches) // PATCH_ROWS)].reshape(-1, window, window)
    with torch.inference_mode():
        model.network.windows(rows[:BATCH])
        start = time.perf_counter()
        for first in range(0, len(rows), BATCH):
            model.network.windows(rows[first : first + BATCH])
        seconds = (time.perf_counter() - start) / len(rows) * patches.shape[0] * patches.shape[1]
    return {
        "positions": patches.shape[0] * patches.shape[1],
        "dense_seconds": dense,
        "patches_seconds": seconds,
        "ratio": seconds / dense,
    }


def one_micrograph(name: str, micrograph: Micrograph) -> dict[str, object]:
    """Time all steps from the file on, warm, and measure the peak memory of a fresh process that takes them."""
    import mrcfile

    model = load_model(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.mrc"
        with mrcfile.new(path, micrograph.image) as file:
            file.voxel_size = PIXEL_SIZE
        read = median_time(lambda: read_micrograph(path))
        everything = median_time(lambda: pick(read_micrograph(path), model, DIAMETER))
        command = [sys.executable, __file__, "--threads", str(torch.get_num_threads())]
        command += ["--model", name, "--memory-of", str(path)]
        peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    prepared = prepare(micrograph, DIAMETER, model.prepare)
    stages = {
        "read": read,
        "prepare": median_time(lambda: prepare(micrograph, DIAMETER, model.prepare)),
        "score": median_time(lambda: score(model, prepared, ScoreConfig())),
        "estimate the diameter": median_time(lambda: gather_size(model, micrograph)) if can_estimate(model) else None,
    }
    return {"all_steps_seconds": everything, "peak_megabytes": peak, "stages": stages}


def gather_size(model: Model, micrograph: Micrograph) -> None:
    gather(model, micrograph, DiameterConfig())


def training() -> dict[str, float]:
    """Time the default training on 10,000 particles and as many negatives (of noise: speed does not depend on it)."""
    number = 2 * ExampleConfig().num_particles
    rng = np.random.default_rng(0)
    windows = rng.normal(size=(number, 64, 64)).astype(np.float16)
    examples = Examples(windows, np.arange(number, dtype=np.float32) % 2)
    held = Examples(windows[: number // 9], examples.labels[: number // 9])
    run = Training(new_network(0), TrainConfig(epochs=TRAINED_EPOCHS))
    start = time.perf_counter()
    train(run, examples, held)
    seconds = (time.perf_counter() - start) / TRAINED_EPOCHS
    return {"epoch_seconds": seconds, "training_minutes": seconds * run.settings.epochs / 60}


def median_time(action: Callable[[], object]) -> float:
    """Return the median time of several runs after one that does not count."""
    action()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def row(name: str, one: dict) -> str:
    stages = [f"{value:.2f} s" if value is not None else "–" for value in one["stages"].values()]
    return f"| {name} | **{one['all_steps_seconds']:.2f} s** | {' | '.join(stages)} | {one['peak_megabytes']:,.0f} MB |"


def report(result: dict) -> str:
    setting = result["setting"]
    epochs = TRAIN_DEFAULTS["paper"]["epochs"]
    rows = "\n".join(row(name, one) for name, one in result["models"].items())
    return f"""# Speed and memory

`make benchmark-speed`, {setting["date"]}, commit {setting["commit"]}, {setting["machine"]}, torch {setting["torch"]}.
One {SIDE}×{SIDE} float32 micrograph, {DIAMETER:g} Å particles at {PIXEL_SIZE} Å per pixel; medians of
{REPEATS} warm runs.

The paper's network:

| what | measured |
|---|---|
| dense scoring of {result["positions"]:,} positions | {result["dense_seconds"]:.2f} s |
| the same positions patch by patch, batches of {BATCH} | {result["patches_seconds"]:.1f} s |
| ratio | **{result["ratio"]:.0f}** |
| gradient descent on 10,000 particles, {epochs} epochs | {result["training_minutes"]:.1f} min |

All steps, by model:

| model | file to picks | reading | preparing | scoring | diameter (one micrograph) | peak memory of a process |
|---|---|---|---|---|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
