"""F1 against the number of manual picks: `deeppicker adapt`, and Topaz trained on the same picks for as long.

    python benchmarks/few_labels.py [--data DIR] [--work DIR] [--only NAME ...]

Starts from the models of ``accuracy.py`` that have not seen the molecule. The labels are those of the first micrographs
of the first half; the other half tests. Topaz starts from its pretrained weights (resnet8, 64 units), as its command
does by default, and trains with its default settings on reduced micrographs until it has taken as much processor time
as `adapt` took, but two minutes at least; the last whole epoch counts. Both get the diameter. What has been measured is
kept in ``benchmarks/results/few-labels.json``. Writes ``few-labels.md`` and ``few-labels.png`` too.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from matplotlib.figure import Figure

from accuracy import MOLECULES, RESULTS, compare, parse_options
from deeppicker.config import LearnConfig
from deeppicker.core import Picks
from deeppicker.networks.model import Model, load_model
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.picking.threshold import choose_threshold
from deeppicker.training.data import Dataset, load_dataset
from deeppicker.training.few_labels import adapt_to_few
from setting import describe
from timing import topaz

NUMBERS = (50, 200, 1000)
SCALES = {"apoferritin-10146": 2, "trpv1-10059": 1, "ribosome-10028": 2}  # at which Topaz does best on these
TOPAZ = "0.2.5"  # 0.3.20 counts the pixels of each label many times, so most of the image would be particles
EPOCH = 20  # updates of Topaz after which it saves its weights
LEAST = 120.0  # seconds of processor time that Topaz gets, where `adapt` takes less
STARTING = 10.0  # seconds of processor time that Topaz takes to start, which do not count


@dataclass(frozen=True)
class Trial:
    """What labels there are, and on what they are tested."""

    labels: Dataset
    test: Dataset
    work: Path


def main() -> None:
    options = parse_options(__doc__, only=True)
    program = topaz.install(options.work, TOPAZ)
    path = RESULTS / "few-labels.json"
    result = json.loads(path.read_text()) if path.exists() else {"molecules": {}}
    result["setting"] = describe(f"{os.cpu_count()} cores")
    for name in MOLECULES if not options.only else options.only:
        dataset = load_dataset(options.data / "real" / name / "particles.star")
        half = len(dataset.micrographs) // 2
        first, test = (replace(dataset, micrographs=part) for part in halves(dataset, half))
        base = load_model(options.work / f"without-{name}.safetensors")
        known = result["molecules"].setdefault(name, {"total": len(first), "ours": {}, "topaz": {}})
        known["ours"].setdefault("0", {"labels": 0, **ours(base, test)})
        for number in NUMBERS:
            trial = Trial(few(first, number), test, options.work / "few" / f"{name}-{number}")
            trial.work.mkdir(parents=True, exist_ok=True)
            if str(number) not in known["ours"]:
                known["ours"][str(number)] = adapted(base, trial)
            if program and str(number) not in known["topaz"]:
                known["topaz"][str(number)] = by_topaz(
                    program, trial, SCALES[name], max(LEAST, known["ours"][str(number)]["seconds"])
                )
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(name, number, known["ours"][str(number)], known["topaz"].get(str(number)), flush=True)
    (RESULTS / "few-labels.md").write_text(report(result))
    draw(result, RESULTS / "few-labels.png")


def halves(dataset: Dataset, half: int) -> tuple[Sequence[Any], Sequence[Any]]:
    return dataset.micrographs[:half], dataset.micrographs[half:]


def few(dataset: Dataset, number: int) -> Dataset:
    """Return the first micrographs, all of whose particles are labelled, with about ``number`` of them in all.

    People pick whole micrographs, or parts of them; of the last one here only so many particles are labelled.
    """
    counts = np.cumsum([len(item.picks) for item in dataset.micrographs])
    last = min(int(np.searchsorted(counts, number)) + 1, len(counts))
    chosen = list(dataset.micrographs[:last])
    spare = max(0, int(counts[last - 1]) - number)
    keep = np.arange(len(chosen[-1].picks)) < len(chosen[-1].picks) - spare
    chosen[-1] = replace(chosen[-1], picks=chosen[-1].picks.where(keep))  # the others still keep negatives away
    return replace(dataset, micrographs=chosen)


def ours(model: Model, test: Dataset) -> dict[str, Any]:
    """Return F1 at the threshold that the model chooses, and at the best one."""
    micrographs = [item.load() for item in test.micrographs]
    picks = [pick_micrograph(micrograph, model, test.diameter) for micrograph in micrographs]
    scores = np.concatenate([item.scores for item in picks])
    threshold = choose_threshold(scores, model.calibration.caution)
    return rates(test, picks, threshold)


def rates(test: Dataset, picks: Sequence[Picks], threshold: float) -> dict[str, Any]:
    evaluation = compare(test, [item.load() for item in test.micrographs], picks, threshold)
    best = evaluation.best.f1 if evaluation.best else 0.0
    return {"f1": evaluation.macro.f1, "best": best, "average_precision": evaluation.macro.average_precision}


def adapted(base: Model, trial: Trial) -> dict[str, Any]:
    """Return what `deeppicker adapt` reaches, and its processor time."""
    began = time.process_time()
    model = adapt_to_few(base, trial.labels, LearnConfig(), trial.work / "ours.safetensors")
    seconds = time.process_time() - began
    return {"labels": len(trial.labels), "seconds": seconds, **ours(model, trial.test)}


# --- Topaz ----------------------------------------------------------------------------------------------------------


def by_topaz(program: list[str | Path], trial: Trial, scale: int, seconds: float) -> dict[str, Any]:
    """Return what Topaz reaches with so many seconds of processor time."""
    training, testing = (reduced(program, part, trial.work / name, scale) for part, name in parts(trial))
    radius = max(1, round(0.25 * trial.labels.diameter / pixel_size(trial.labels) / scale))
    targets = trial.work / "targets.txt"
    rows = [
        f"{path.stem}\t{round((x - 0.5) / scale)}\t{round((y - 0.5) / scale)}"
        for path, item in zip(training, trial.labels.micrographs, strict=True)
        for x, y in item.picks.positions
    ]
    targets.write_text("\n".join(["image_name\tx_coord\ty_coord", *rows]) + "\n")
    expected = np.mean([len(item.avoid) for item in trial.labels.micrographs])  # as a user would guess it
    train = [*program, "train", "-d", "-1", "-j", "1", "-m", "resnet8", "--units", "64", "-r", str(radius)]
    train += ["-n", f"{max(expected, 1):.0f}", "--num-epochs", "10000", "--epoch-size", str(EPOCH)]
    train += ["--train-images", training[0].parent, "--train-targets", targets, "--save-prefix", trial.work / "topaz"]
    limit = int(seconds + STARTING)
    subprocess.run(
        train,
        check=False,  # it is stopped
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5)),
    )
    weights = sorted(trial.work.glob("topaz_epoch*.sav"), key=lambda path: int(path.stem.rpartition("epoch")[2]))
    model = ["-m", weights[-1]] if weights else []
    extract = [*program, "extract", *model, "-d", "-1", "-r", str(2 * radius), "-x", str(scale)]
    environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}  # it stores whole objects
    subprocess.run([*extract, "-t", "-6", "-o", trial.work / "picks.txt", *testing], check=True, env=environment)
    picks = read_topaz(trial.work / "picks.txt", testing, trial.test)
    updates = EPOCH * len(weights)
    return {"labels": len(trial.labels), "updates": updates, **rates(trial.test, picks, threshold=0.0)}


def parts(trial: Trial) -> list[tuple[Dataset, str]]:
    return [(trial.labels, "training"), (trial.test, "testing")]


def pixel_size(dataset: Dataset) -> float:
    return dataset.micrographs[0].load().pixel_size


def reduced(program: list[str | Path], dataset: Dataset, folder: Path, scale: int) -> list[Path]:
    """Write the micrographs as Topaz prepares them; return their paths."""
    full, small = folder / "full", folder / "small"
    full.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, item in enumerate(dataset.micrographs):
        paths.append(full / f"m{index:03d}.mrc")
        mrcfile.write(paths[-1], item.load().image.astype(np.float32), overwrite=True)
    subprocess.run([*program, "preprocess", "-s", str(scale), "-d", "-1", "-o", f"{small}/", *paths], check=True)
    return [small / path.name for path in paths]


def read_topaz(path: Path, testing: Sequence[Path], test: Dataset) -> list[Picks]:
    """Return the picks of each micrograph, in its full pixels."""
    table = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    found = []
    for image, item in zip(testing, test.micrographs, strict=True):
        rows = np.array([[float(v) for v in row[1:4]] for row in table if row[0] == image.stem]).reshape(-1, 3)
        found.append(Picks(item.picks.micrograph, rows[:, :2] + 0.5, rows[:, 2]))
    return found


# --- report ---------------------------------------------------------------------------------------------------------


def report(result: dict[str, Any]) -> str:
    setting = result["setting"]
    rows = "\n".join(
        f"| {name} | {one['labels']} | {one['f1']:.3f} ({one['best']:.3f}) | {cell(known['topaz'].get(number))} "
        f"| {one.get('seconds', 0):.0f} s |"
        for name, known in result["molecules"].items()
        for number, one in known["ours"].items()
    )
    return f"""# A few manual picks

`make benchmark-few-labels` after `make benchmark-accuracy`, {setting["date"]}, commit {setting["commit"]},
{setting["machine"]}, torch {setting["torch"]}. The model that has not seen the molecule is adapted to manual picks in
the first micrographs; the second half of the micrographs tests. F1 at the automatic threshold, and the best that any
threshold gives in brackets. Topaz {TOPAZ} (resnet8, 64 units, pretrained, default settings) learns the same
picks for the same processor time, but two minutes at least; of it only the best F1 is given, because its scores have no
natural threshold. With 0 updates it had not finished its first 20 in that time, so its pretrained weights pick as they
are. Both get the diameter.

| molecule | manual picks | `deeppicker adapt` | Topaz, best | processor time |
|---|---|---|---|---|
{rows}

[few-labels.png](few-labels.png) shows the same: F1 at the best threshold.
"""


def cell(one: dict[str, Any] | None) -> str:
    return "not measured" if one is None else f"{one['best']:.3f} ({one['updates']} updates)"


def draw(result: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(9, 3), dpi=100, layout="constrained")
    for place, (name, known) in enumerate(result["molecules"].items()):
        axes = figure.add_subplot(1, len(result["molecules"]), place + 1)
        for label, marker in (("ours", "o"), ("topaz", "s")):
            points = sorted((max(one["labels"], 10), one["best"]) for one in known[label].values())
            axes.plot(*zip(*points, strict=True), marker=marker, label="adapt" if label == "ours" else "Topaz")
        axes.set(title=name, xscale="log", xlabel="manual picks (10: none)", ylabel="best F1")
        axes.legend()
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main()
