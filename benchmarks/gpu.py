"""Picking and learning on a graphics card.

    python benchmarks/gpu.py [--device cuda:0] [--only PART ...] [--numbers 1,10,100,1000] [--output gpu.json] [--toy]

Prints each target as hit or missed, and writes all numbers as JSON, after each part. With ``--only``, the other parts
are taken from the file if they are there. Timers wait for the card.
Micrographs are in the system's page cache; learning before picking is timed by itself. ``--device cpu`` runs to the end
without a card, ``--toy`` in a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deeppicker import LearnConfig, load_model, pick_micrograph, read_micrograph
from deeppicker.config import ScoreConfig, SelfTrainConfig, TrainConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.device import settle
from deeppicker.networks.model import Model
from deeppicker.picking.prepare import prepare
from deeppicker.picking.score import score
from deeppicker.training import crop_feed
from deeppicker.training.data import Dataset, Labelled
from deeppicker.training.fit import train_model
from deeppicker.training.self_train import learn_from_picks
from setting import describe
from timing.bench import DIAMETER, USUAL, Bench
from timing.measure import DEEPPICKER, run
from timing.targets import Target, rows_of

SIZES = (USUAL, (5760, 4092), (11520, 8184))
PARTS = ("steps", "agreement", "learning", "training", "runs", "large runs")
TOY = (1024, 1024)
LARGE_RUN = 100
"""Most micrographs of the largest size in a run."""
THRESHOLD = 0.3
TARGETS = (
    Target(
        "micrographs of 4096² a second, in the longest run", 20, "/s", lambda r: 1 / r["runs"][-1]["each more"], True
    ),
    Target("learning the data set before picking", 30, "s", lambda r: r["learning"]["seconds"]),
    Target("training the general model: 40 epochs of 100 steps", 600, "s", lambda r: r["training"]["whole"]),
    Target("positions of the same picks, largest difference", 0.1, "px", lambda r: r["agreement"]["position"]),
    Target("scores of the same picks, largest difference", 1e-3, "", lambda r: r["agreement"]["score"]),
    Target("picks that only one of both has", 0, "", lambda r: r["agreement"]["unmatched"]),
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    place = settle(options.device, one=True)
    print(f"computing {place}", flush=True)
    sizes, numbers = ((TOY,), [1, 3]) if options.toy else (SIZES, options.numbers)
    if options.toy:
        crop_feed.EPOCH_STEPS = 2
    setting = {"device": str(place), **describe(f"{len(os.sched_getaffinity(0))} cores")}
    result: dict[str, Any] = json.loads(options.output.read_text()) if options.only and options.output.exists() else {}
    with tempfile.TemporaryDirectory(prefix="deeppicker-gpu-") as folder:
        bench = Bench(Path(folder), Path("work"), len(os.sched_getaffinity(0)))
        model = load_model().on(place.device)
        measure: dict[str, Callable[[], Any]] = {
            "steps": lambda: steps(bench, model, sizes),
            "agreement": lambda: agreement(bench, model, sizes),
            "learning": lambda: learning(bench, model, sizes[0], options.toy),
            "training": lambda: training(bench, model, sizes[0], options.toy),
            "runs": lambda: runs(bench, options.device, sizes[0], numbers),
            "large runs": lambda: runs(bench, options.device, sizes[-1], [n for n in numbers if n <= LARGE_RUN]),
        }
        for name in options.only or PARTS:
            result[name] = measure[name]()
            result.setdefault("settings", {})[name] = setting
            print(name, json.dumps(result[name], ensure_ascii=False), flush=True)
            options.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(rows_of(TARGETS, result))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="as that of deeppicker pick (default: cuda)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[], help="measure these parts again (default: all)")
    parser.add_argument("--numbers", type=lambda text: [int(n) for n in text.split(",")], default=[1, 10, 100, 1000])
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="file for all numbers")
    parser.add_argument("--toy", action="store_true", help="small micrographs and short training, to try this out")
    return parser.parse_args(arguments)


def timed(action: Callable[[], Any], repeats: int = 1) -> float:
    """Return the shortest time of an action, in seconds, until the card has done it."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def steps(bench: Bench, model: Model, sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Time the steps of one micrograph; scoring on the device and on one thread of the processor."""
    torch.set_num_threads(1)
    result = {}
    for size in sizes:
        path = bench.micrograph(size)
        micrograph = read_micrograph(path)
        prepared = prepare(micrograph, DIAMETER, model.prepare)
        first = timed(lambda: score(model, prepared, ScoreConfig()))  # noqa: B023 - called at once
        result[f"{size[0]}×{size[1]}"] = {
            "read": timed(lambda: read_micrograph(path), 3),  # noqa: B023
            "prepare": timed(lambda: prepare(micrograph, DIAMETER, model.prepare), 3),  # noqa: B023
            "first score": first,
            "score": timed(lambda: score(model, prepared, ScoreConfig()), 5),  # noqa: B023
            "score, one core": timed(lambda: score(model.on("cpu"), prepared, ScoreConfig())),  # noqa: B023
            "all": timed(lambda: pick_micrograph(read_micrograph(path), model, DIAMETER), 3),  # noqa: B023
        }
    return result


def agreement(bench: Bench, model: Model, sizes: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Compare the picks of the device with those of the processor."""
    position, difference, unmatched, number = 0.0, 0.0, 0, 0
    for size in sizes:
        micrograph = read_micrograph(bench.micrograph(size))
        found = [pick_micrograph(micrograph, used, DIAMETER) for used in (model.on("cpu"), model)]
        for one, other in (found, found[::-1]):
            sure = one.where(one.scores > THRESHOLD + 1e-3)
            number += len(sure)
            if not len(sure) or not len(other):
                unmatched += len(sure)
                continue
            distances = np.hypot(*(sure.positions[:, None] - other.positions[None]).transpose(2, 0, 1))
            near = distances.min(axis=1) <= 1.0
            nearest = distances.argmin(axis=1)
            unmatched += int((~near).sum())
            if near.any():
                position = max(position, float(distances.min(axis=1)[near].max()))
                difference = max(difference, float(np.abs(sure.scores - other.scores[nearest])[near].max()))
    return {"picks": number / 2, "position": position, "score": difference, "unmatched": unmatched}


def micrographs(bench: Bench, size: tuple[int, int], number: int) -> list[Micrograph]:
    """Return different micrographs: the same one, turned and mirrored, with other noise."""
    image = read_micrograph(bench.micrograph(size))
    rng = np.random.default_rng(0)
    spread = float(image.image.std())
    return [
        replace(
            image,
            name=f"{index}.mrc",
            image=np.ascontiguousarray(image.image[:: 1 - 2 * (index % 2)])
            + rng.normal(0, 0.3 * spread, image.image.shape).astype(np.float32),
        )
        for index in range(number)
    ]


def learning(bench: Bench, model: Model, size: tuple[int, int], toy: bool) -> dict[str, Any]:
    """Time what a run learns before it picks."""
    method = SelfTrainConfig(steps=2, rounds=1, fewest=1, convincing=0.0) if toy else SelfTrainConfig()
    sample = micrographs(bench, size, 2 if toy else method.micrographs)
    learnt: list[Any] = []
    seconds = timed(lambda: learnt.append(learn_from_picks(replace(model, diameter=None), sample, DIAMETER, method)))
    return {"seconds": seconds, "micrographs": len(sample), "refusal": learnt[0].refusal}


def training(bench: Bench, model: Model, size: tuple[int, int], toy: bool) -> dict[str, float]:
    """Time epochs of training the dense network; 40 take as long as the general model does."""
    items = []
    for micrograph in micrographs(bench, size, 3):
        picks = pick_micrograph(micrograph, model, DIAMETER)
        best = Picks.unscored(micrograph.name, picks.positions[:50])
        items.append(Labelled(partial(_same, micrograph), best, best.positions))
    ends: list[float] = []
    crops = replace(LearnConfig().crops, crop=64) if toy else LearnConfig().crops
    config = LearnConfig(crops=crops, train=TrainConfig(epochs=3, batch_size=2 if toy else 8))
    data, output = Dataset("bench", DIAMETER, items), bench.folder / "model.safetensors"
    train_model(replace(model, info={}), [data], config, output, lambda _: ends.append(time.perf_counter()))
    epoch = min(np.diff(ends))
    return {"epoch": float(epoch), "whole": float(40 * epoch)}


def _same(micrograph: Micrograph) -> Micrograph:
    return micrograph


def runs(bench: Bench, device: str, size: tuple[int, int], numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Time whole commands over more and more micrographs."""
    found: list[dict[str, Any]] = []
    output = bench.folder / "runs"
    for number in numbers:
        shutil.rmtree(output, ignore_errors=True)
        options = ["--output", output, "--diameter", str(DIAMETER), "--learn", "off", "--device", device]
        cost = run([*DEEPPICKER, "pick", bench.copies(size, number), *options])
        before = found[-1] if found else {"wall": 0.0, "number": 0}
        more = (cost.wall - before["wall"]) / (number - before["number"])
        found.append({"number": number, **cost.to_json(), "each more": more})
    return found


if __name__ == "__main__":
    main()
