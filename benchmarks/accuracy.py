"""Leave-one-molecule-out accuracy on the real data sets with nothing given, and picks where there are no particles.

    python benchmarks/accuracy.py [--data DIR] [--work DIR]

Needs the simulated micrographs and the base model of ``recipes/general.sh`` (the base has seen no real micrograph and
no simulated apoferritin, ribosome or TRPV1). Then, for each of three real molecules:

- ``left out``: the base is trained further on the other two, on half of the empty real micrographs and on simulated
  ones, like the shipped model; the other half of the empty micrographs tests it;
- ``simulation only``: the base is trained further for as long, on simulated micrographs alone.

Each model picks all micrographs of the molecule, with a diameter and a threshold estimated from them without the
reference, before learning from them (that is ``learning.py``). The models of ``recipes/together.py``, like the default
one of the package, have the same names and serve as well. Nothing is tuned on the tested molecule. Writes
``benchmarks/results/accuracy.json``, ``accuracy.md``, ``reliability.png``, ``noise.png`` and ``errors-*.png``. Reuses
finished models in the work folder.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from deeppicker.config import CropConfig, DiameterConfig, LearnConfig, SelectConfig, TrainConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.evaluation.agreement import agree
from deeppicker.evaluation.evaluate import evaluate_picks
from deeppicker.evaluation.overlays import overlay_agreement
from deeppicker.evaluation.results import EvaluateConfig, Evaluation, MicrographInfo
from deeppicker.imaging.noise import without_structure
from deeppicker.networks.model import Model, load_model
from deeppicker.picking.diameter import estimate_diameter
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.runs.selection import threshold_of
from deeppicker.training.calibrate import particles_among, reliability
from deeppicker.training.data import Dataset, load_background, load_dataset
from deeppicker.training.fit import train_model
from setting import describe

MOLECULES = ("apoferritin-10146", "trpv1-10059", "ribosome-10028")
RESULTS = Path(__file__).parent / "results"
FINE_TUNING = LearnConfig(train=TrainConfig(epochs=8, learning_rate=1e-3, seed=0), crops=CropConfig())
# The quality micrographs come without a pixel size. They are binned 7.5 times from cameras of about 1 Å per pixel, and
# the particles in the good ones are about 20 pixels across; the objects around the ice blob are about 40.
QUALITY_DIAMETER_PIXELS = {"ice-blob": 40.0}
QUALITY_DIAMETER_DEFAULT = 20.0
FEWEST = 20  # candidates in a tenth of the scores for it to be drawn
EMPTY = ("crystalline", "empty-ice", "no-ice")  # the 1st, 3rd, ... of these are for training, as in recipes/general.sh


def main() -> None:
    options = parse_options(__doc__)
    real = {name: load_dataset(options.data / "real" / name / "particles.star") for name in MOLECULES}
    base = load_model(options.work / "simulation-only.safetensors")
    result = {"setting": describe(f"{os.cpu_count()} cores"), "left out": {}, "simulation only": {}, "empty": {}}
    outcomes = {}
    for name in MOLECULES:
        model = without(name, real, base, options)
        for table, tested in (("left out", model), ("simulation only", base)):
            result[table][name], outcome = assess(tested, real[name])
            if table == "left out":
                outcomes[name] = outcome
            print(table, line(name, result[table][name]), flush=True)
        draw_errors(model, real[name], RESULTS / f"errors-{name}.png")
        result["empty"][f"without {name}"] = on_empty(model, options.data / "real" / "micrograph-quality")
    result["empty"]["simulation only"] = on_empty(base, options.data / "real" / "micrograph-quality")
    (RESULTS / "accuracy.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "accuracy.md").write_text(report(result))
    outcomes["simulated, left out"] = on_related(base, options.work)
    draw_reliability(outcomes, RESULTS / "reliability.png")
    draw_noise(base, real, RESULTS / "noise.png")
    print((RESULTS / "accuracy.md").read_text())


def parse_options(description: str, *, only: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DEEPPICKER_DATA"))
    parser.add_argument("--work", type=Path, default=Path("work"))
    if only:
        parser.add_argument("--only", nargs="*", default=(), choices=MOLECULES)
    options = parser.parse_args()
    if options.data is None:
        parser.error("set --data or DEEPPICKER_DATA to the development data")
    options.data = Path(options.data)
    if not (options.work / "simulation-only.safetensors").is_file():
        parser.error(f"{options.work}/simulation-only.safetensors is missing; run recipes/general.sh first")
    return options


def simulated(work: Path) -> list[Dataset]:
    """Return the simulated data sets, without those that are related to a tested molecule."""
    return [load_dataset(path) for path in sorted((work / "sim" / "gen").glob("*/particles.star"))]


def empty_files(folder: Path, kind: str, *, training: bool) -> list[Path]:
    """Return every second micrograph of a class without particles: one half is for training, the other for testing."""
    return sorted((folder / kind).glob("*.mrc"))[0 if training else 1 :: 2]


def without(name: str, real: dict[str, Dataset], base: Model, options: argparse.Namespace) -> Model:
    """Return the base after further training on all real molecules but one, and on empty real micrographs."""
    path = options.work / f"without-{name}.safetensors"
    if path.exists() and not path.with_name(path.name + ".checkpoint").exists():
        return load_model(path)
    start = time.perf_counter()

    def show(training) -> None:
        print(name, training.history[-1], f"{time.perf_counter() - start:.0f} s", flush=True)

    others = [dataset for key, dataset in real.items() if key != name]
    quality = options.data / "real" / "micrograph-quality"
    background = [str(path) for kind in EMPTY for path in empty_files(quality, kind, training=True)]
    return train_model(base, [*simulated(options.work), *others, *load_background(background)], FINE_TUNING, path, show)


def assess(model: Model, dataset: Dataset) -> tuple[dict, tuple[np.ndarray, np.ndarray]]:
    """Return the accuracy with estimated diameter and threshold, and all scores with their truth."""
    micrographs = [item.load() for item in dataset.micrographs]
    config = DiameterConfig()
    chosen = np.unique(np.linspace(0, len(micrographs) - 1, config.looked_at).round().astype(int))
    size = estimate_diameter(model, [micrographs[i] for i in chosen], config)
    picks = [pick_micrograph(micrograph, model, size.value) for micrograph in micrographs]
    threshold = threshold_of(picks, SelectConfig())
    evaluation = compare(dataset, micrographs, picks, threshold)
    given = [pick_micrograph(micrograph, model, dataset.diameter) for micrograph in micrographs]
    at_truth = compare(dataset, micrographs, given, threshold_of(given, SelectConfig()))
    scores, right = zip(*(truth(dataset, i, micrographs[i], picks[i]) for i in range(len(picks))), strict=True)
    summary = summarised(evaluation) | {
        "diameter": {
            "true": dataset.diameter,
            "estimate": size.value,
            "interval": [size.low, size.high],
            "confidence": size.confidence,
        },
        "threshold": threshold,
        "diameter_given": summarised(at_truth) | {"threshold": at_truth.config.threshold},
    }
    return summary, (np.concatenate(scores), np.concatenate(right))


def summarised(evaluation: Evaluation) -> dict:
    """Return the numbers of an evaluation without those of each micrograph and each cut."""
    return {key: value for key, value in evaluation.to_json().items() if key not in ("curve", "micrographs", "defocus")}


def draw_errors(model: Model, dataset: Dataset, path: Path) -> None:
    """Draw right, false and missed picks in the first micrograph, with nothing given."""
    micrograph = dataset.micrographs[0].load()
    found = pick_micrograph(
        micrograph, model, estimate_diameter(model, [item.load() for item in dataset.micrographs[:4]]).value
    )
    found = found.where(found.scores >= threshold_of([found], SelectConfig()))
    info = MicrographInfo(pixel_size=micrograph.pixel_size, size=micrograph.image.shape)
    config = EvaluateConfig(particle_diameter=dataset.diameter)
    agreement = agree(found, dataset.micrographs[0].picks, info, config)
    picture = Image.open(io.BytesIO(overlay_agreement(micrograph, agreement, dataset.diameter))).convert("RGB")
    picture.quantize(32).save(path, optimize=True)  # a third of the size


def on_related(model: Model, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return scores with their truth in simulated micrographs of structures that the model has not seen."""
    found = []
    for path in sorted((work / "sim" / "rel").glob("*/particles.star")):
        dataset = load_dataset(path)
        for index, item in enumerate(dataset.micrographs):
            micrograph = item.load()
            found.append(truth(dataset, index, micrograph, pick_micrograph(micrograph, model, dataset.diameter)))
    scores, right = zip(*found, strict=True)
    return np.concatenate(scores), np.concatenate(right)


def truth(dataset: Dataset, index: int, micrograph: Micrograph, picks: Picks) -> tuple[np.ndarray, np.ndarray]:
    radius = 0.3 * dataset.diameter / micrograph.pixel_size
    return picks.scores, particles_among(picks, dataset.micrographs[index], radius)


def compare(
    dataset: Dataset, micrographs: Sequence[Micrograph], picks: Sequence[Picks], threshold: float
) -> Evaluation:
    info = {m.key: MicrographInfo(pixel_size=m.pixel_size, size=m.image.shape) for m in micrographs}
    config = EvaluateConfig(particle_diameter=dataset.diameter, threshold=threshold)
    return evaluate_picks(picks, [item.picks for item in dataset.micrographs], config, info)


def on_empty(model: Model, folder: Path) -> dict[str, dict[str, float]]:
    """Return the mean number of picks in each class of micrographs, at the threshold chosen for it, and on the blob."""
    counts: dict[str, dict[str, float]] = {}
    for kind in sorted(folder.iterdir()):
        diameter = QUALITY_DIAMETER_PIXELS.get(kind.name, QUALITY_DIAMETER_DEFAULT)
        paths = [path for path in sorted(kind.glob("*.mrc")) if path.name != "masks.mrc"]
        if kind.name in EMPTY:
            paths = empty_files(folder, kind.name, training=False)
        picks = [
            pick_micrograph(Micrograph(str(path), mrcfile.read(path).astype(np.float32), 1.0), model, diameter)
            for path in paths
        ]
        threshold = threshold_of(picks, SelectConfig())
        kept = [found.where(found.scores >= threshold) for found in picks]
        counts[kind.name] = {"picks": float(np.mean([len(found) for found in kept])), "threshold": threshold}
        if (kind / "masks.mrc").exists():
            mask = mrcfile.read(kind / "masks.mrc")
            x, y = np.rint(kept[0].positions).astype(int).T
            labels, number = ndimage.label(mask > 127)
            largest = 1 + int(np.argmax(ndimage.sum_labels(mask > 127, labels, range(1, number + 1))))
            counts[kind.name]["on_blob"] = int((labels[y, x] == largest).sum())
            counts[kind.name]["on_mask"] = int((labels[y, x] > 0).sum())
    return counts


def line(name: str, one: dict) -> str:
    """Return a row of the table."""
    macro, best, size = one["macro"], one["best"], one["diameter"]
    low, high = one["intervals"]["f1"]
    return (
        f"| {name} | {size['estimate']:.0f} ({size['true']:.0f}) | {one['threshold']:.2f} "
        f"| {macro['precision']:.2f} / {macro['recall']:.2f} | **{macro['f1']:.3f}** ({low:.3f}–{high:.3f}) "
        f"| {best['f1']:.3f} at {best['threshold']:.2f} | {macro['average_precision']:.3f} "
        f"| {macro['centre_error']:.3f} | {one['chance']['f1']:.2f} | {one['diameter_given']['macro']['f1']:.3f} |"
    )


def report(result: dict) -> str:
    """Return the tables as Markdown."""
    setting = result["setting"]
    head = (
        "| molecule | diameter, Å (true) | threshold | precision / recall | F1 | best F1 | AP | centre error / box "
        "| chance F1 | F1, diameter given |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    tables = {
        table: "\n".join(line(name, one) for name, one in result[table].items())
        for table in ("left out", "simulation only")
    }
    kinds = list(next(iter(result["empty"].values())))
    empty = "\n".join(
        f"| {name} | "
        + " | ".join(f"{counts[kind]['picks']:.1f}" for kind in kinds)
        + f" | {counts['ice-blob']['on_blob']} / {counts['ice-blob']['on_mask']} |"
        for name, counts in result["empty"].items()
    )
    return f"""# Accuracy on molecules that were left out

`make benchmark-accuracy`, {setting["date"]}, commit {setting["commit"]}, {setting["machine"]},
torch {setting["torch"]}.
Nothing is given: diameter and threshold are estimated from the tested micrographs without their reference. Scoring is
that of `deeppicker evaluate`: one-to-one within 0.2 box (0.3 diameters), half a diameter along the edge left out, means
over micrographs, 95 % bootstrap intervals. "Best" is at the threshold chosen with the reference.

Trained on simulated micrographs and the other two real molecules:

{head}
{tables["left out"]}

Trained on simulated micrographs only:

{head}
{tables["simulation only"]}

The structures of all three molecules and of their relatives are left out of the simulation in both.

{taught()}
Picks per micrograph on `micrograph-quality` at the threshold chosen for each class (no reference; assumed particle size
20 pixels, 40 beside the ice blob). A good picker returns almost nothing on crystalline, empty-ice and
no-ice, and nothing on the blob. (The published mask holds some small dark objects besides the blob.)

| model | {" | ".join(kinds)} | on the blob / anywhere on its mask |
|---|{"---|" * len(kinds)}---|
{empty}

[reliability.png](reliability.png): fraction of right candidates against the score, for the molecules above and for
nine simulated ones that were left out (tenths with fewer than 20 candidates are not drawn). [noise.png](noise.png):
scores in micrographs and in noise of the same spectrum. [errors-trpv1-10059.png](errors-trpv1-10059.png),
[errors-ribosome-10028.png](errors-ribosome-10028.png), [errors-apoferritin-10146.png](errors-apoferritin-10146.png):
right, false and missed picks in the first micrograph of each.
"""


def taught() -> str:
    """Return a table of F1 after learning, without labels (``learning.py``) and with few (``few_labels.py``)."""
    learnt, labelled = (RESULTS / name for name in ("learning.json", "few-labels.json"))
    if not (learnt.is_file() and labelled.is_file()):
        return ""
    sets = json.loads(learnt.read_text())["sets"]
    molecules = json.loads(labelled.read_text())["molecules"]
    rows = []
    for name in MOLECULES:
        few = [f"{one['f1']:.3f} ({one['labels']})" for one in molecules[name]["ours"].values() if one["labels"]]
        rows.append(
            f"| {name} | {sets[name]['before']['f1']:.3f} | **{sets[name]['after']['f1']:.3f}** | {' | '.join(few)} |"
        )
    return (
        """F1 after learning: without a label, as `pick` does by itself ([learning.md](learning.md)), and from manual
picks, their number in brackets, tested on the second half of the micrographs with the diameter given
([few-labels.md](few-labels.md), which also says what is reached there without any):

| molecule | before | after learning before picking | few | more | many manual picks |
|---|---|---|---|---|---|
"""
        + "\n".join(rows)
        + "\n"
    )


def draw_reliability(outcomes: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Draw the fraction of right candidates against their score, for molecules that were left out."""
    figure = Figure(figsize=(5, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name, (scores, right) in outcomes.items():
        rows = [row for row in reliability(scores, right) if row[2] >= FEWEST]
        axes.plot([r[0] for r in rows], [r[1] for r in rows], marker="o", label=name)
    axes.set(xlabel="score", ylabel="fraction that is right", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    figure.savefig(path, metadata={"Software": None})


def draw_noise(model: Model, real: dict[str, Dataset], path: Path) -> None:
    """Draw the scores of candidates in real micrographs and in noise of the same spectrum (the paper's Fig. 6d-e)."""
    figure = Figure(figsize=(12, 3.5), dpi=100, layout="constrained")
    for index, (name, dataset) in enumerate(real.items()):
        micrograph = dataset.micrographs[0].load()
        noise = without_structure(micrograph, np.random.default_rng(0))
        axes = figure.add_subplot(1, 3, index + 1)
        for label, image in (("micrograph", micrograph), ("noise", replace(micrograph, image=noise.image))):
            scores = pick_micrograph(image, model, dataset.diameter).scores
            axes.hist(scores, bins=np.linspace(0, 1, 41), histtype="step", label=label, log=True)
        axes.set(title=name, xlabel="score", ylabel="candidates")
        axes.legend()
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main()
