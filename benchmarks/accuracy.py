"""Leave-one-molecule-out accuracy on the real data sets, and picks where there are no particles.

    python benchmarks/accuracy.py [--data DIR] [--work DIR]

For each of three molecules a model is trained on the other two with the default settings (nothing is chosen on the
tested molecule), picks all micrographs of the third with the default settings, and is compared with the reference.
Writes ``benchmarks/results/accuracy.json`` and ``accuracy.md``. Finished models in the work folder are used again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import mrcfile
import numpy as np

from deeppicker.config import PickConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.dataset import Dataset, load_dataset
from deeppicker.evaluate import EvaluateConfig, Evaluation, MicrographInfo, evaluate
from deeppicker.learn import LearnConfig, learn
from deeppicker.model import Model, load_model, new_network
from deeppicker.pick import pick
from setting import describe

MOLECULES = ("apoferritin-10146", "trpv1-10059", "ribosome-10028")
RESULTS = Path(__file__).parent / "results"
THRESHOLD = 0.5
# The quality micrographs come without a pixel size. They are binned 7.5 times from cameras of about 1 Å per pixel, and
# the particles in the good ones are about 20 pixels across; the objects around the ice blob are about 40.
QUALITY_DIAMETER_PIXELS = {"ice-blob": 40.0}
QUALITY_DIAMETER_DEFAULT = 20.0


def main() -> None:
    options = parse_options(__doc__)
    datasets = datasets_of(options.data)
    config = LearnConfig()
    result = {"setting": learning(config), "molecules": {}, "empty": {}}
    for name in MOLECULES:
        model = trained(name, datasets, config, options.work)
        picks = [pick(item.load(), model, datasets[name].diameter) for item in datasets[name].micrographs]
        evaluation = compare(datasets[name], picks)
        result["molecules"][name] = evaluation.to_json() | {"model": dict(model.info)}
        result["empty"][name] = on_empty(model, options.data / "real" / "micrograph-quality")
        result["molecules"][name]["row"] = line(name, evaluation)
        print(line(name, evaluation), flush=True)
    (RESULTS / "accuracy.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "accuracy.md").write_text(report(result))
    print((RESULTS / "accuracy.md").read_text())


def parse_options(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DEEPPICKER_DATA"))
    parser.add_argument("--work", type=Path, default=Path("work/accuracy"))
    options = parser.parse_args()
    if options.data is None:
        parser.error("set --data or DEEPPICKER_DATA to the development data")
    options.data = Path(options.data)
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def datasets_of(data: Path) -> dict[str, Dataset]:
    return {name: load_dataset(data / "real" / name / "particles.star") for name in MOLECULES}


def trained(name: str, datasets: dict[str, Dataset], config: LearnConfig, work: Path) -> Model:
    """Return a model that was trained on all molecules but one."""
    path = work / f"without-{name}.safetensors"
    if path.exists() and not path.with_name(path.name + ".checkpoint").exists():
        return load_model(path)
    start = time.perf_counter()
    others = [dataset for key, dataset in datasets.items() if key != name]

    def show(training) -> None:
        print(name, training.history[-1], f"{time.perf_counter() - start:.0f} s", flush=True)

    return learn(Model(new_network(config.train.seed)), others, config, path, show)


def compare(dataset: Dataset, picks: list[Picks]) -> Evaluation:
    reference, info = [], {}
    for item in dataset.micrographs:
        micrograph = item.load()
        reference.append(item.picks)
        info[micrograph.key] = MicrographInfo(pixel_size=micrograph.pixel_size, size=micrograph.image.shape)
    config = EvaluateConfig(particle_diameter=dataset.diameter, threshold=THRESHOLD)
    return evaluate(picks, reference, config, info)


def on_empty(model: Model, folder: Path) -> dict[str, dict[str, float]]:
    """Return the mean number of picks at the default threshold in each class of micrographs, and on the ice blob."""
    counts: dict[str, dict[str, float]] = {}
    for kind in sorted(folder.iterdir()):
        diameter = QUALITY_DIAMETER_PIXELS.get(kind.name, QUALITY_DIAMETER_DEFAULT)
        numbers, on_blob = [], 0
        for path in sorted(kind.glob("*.mrc")):
            if path.name == "masks.mrc":
                continue
            image = mrcfile.read(path).astype(np.float32)
            found = pick(Micrograph(str(path), image, 1.0), model, diameter, PickConfig())
            found = found.where(found.scores >= THRESHOLD)
            numbers.append(len(found))
            if (kind / "masks.mrc").exists():
                mask = mrcfile.read(kind / "masks.mrc")
                x, y = np.rint(found.positions).astype(int).T
                on_blob += int((mask[y, x] > 127).sum())
        counts[kind.name] = {"micrographs": len(numbers), "picks": float(np.mean(numbers))}
        if (kind / "masks.mrc").exists():
            counts[kind.name]["on_blob"] = on_blob
    return counts


def line(name: str, evaluation: Evaluation) -> str:
    """Return a row of the table."""
    macro, best = evaluation.macro, evaluation.best
    low, high = evaluation.intervals["f1"] or (float("nan"), float("nan"))
    return (
        f"| {name} | {macro.precision:.2f} / {macro.recall:.2f} | **{macro.f1:.3f}** ({low:.3f}–{high:.3f}) "
        f"| {best.f1:.3f} at {best.threshold:.2f} | {macro.average_precision:.3f} | {macro.centre_error:.3f} "
        f"| {evaluation.chance.f1:.2f} |"
    )


def learning(config: LearnConfig) -> dict[str, object]:
    """Return what decides the result, besides the data."""
    return describe(f"{os.cpu_count()} cores") | {"learn": asdict(config), "pick": asdict(PickConfig())}


def report(result: dict) -> str:
    """Return the tables as Markdown."""
    setting = result["setting"]
    rows = "\n".join(molecule["row"] for molecule in result["molecules"].values())
    kinds = list(next(iter(result["empty"].values())))
    empty = "\n".join(
        f"| without {name} | "
        + " | ".join(f"{counts[kind]['picks']:.1f}" for kind in kinds)
        + " |"
        + f" {counts['ice-blob']['on_blob']} |"
        for name, counts in result["empty"].items()
    )
    return f"""# Leave-one-molecule-out accuracy

`make benchmark-accuracy`, {setting["date"]}, commit {setting["commit"]}, {setting["machine"]},
torch {setting["torch"]}, {setting["learn"]["train"]["epochs"]} epochs,
seed {setting["learn"]["train"]["seed"]}. Each row: the paper's network,
trained on the other two molecules with the default settings, picks all micrographs of this one, given its diameter.
Scored as `deeppicker evaluate` does: one-to-one within 0.2 box (0.3 diameters), half a diameter along the edge
left out, means over micrographs, 95 % bootstrap intervals. "Best" is the threshold chosen with the reference in hand.

| molecule | precision / recall at {THRESHOLD} | F1 at {THRESHOLD} | best F1 | AP | centre error / box | chance F1 |
|---|---|---|---|---|---|---|
{rows}

Picks per micrograph at the default threshold on `micrograph-quality` (no reference; particles assumed 20 pixels across,
40 beside the ice blob). A good picker returns almost nothing on crystalline, empty-ice and no-ice, and
nothing on the blob.

| model | {" | ".join(kinds)} | on the blob |
|---|{"---|" * len(kinds)}---|
{empty}
"""


if __name__ == "__main__":
    main()
