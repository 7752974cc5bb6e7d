"""Accuracy gained by adapting to the target: the paper's iteration, and a few manual picks (Sections 2.1 and 2.3).

    python benchmarks/adaptation.py [--data DIR] [--work DIR]

Starts from the models of ``accuracy.py`` that have not seen the molecule. *Iteration* trains a model further on its own
best picks, above the threshold chosen for them, without labels. *Manual* trains it on 400 reference particles of the
first micrographs. The comparison uses the micrographs without manual picks.
Writes ``benchmarks/results/adaptation.json`` and ``adaptation.md``.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from accuracy import MOLECULES, RESULTS, compare, parse_options, summarised
from deeppicker.config import LearnConfig, PickConfig, SelectConfig, TrainConfig
from deeppicker.evaluation.results import Evaluation
from deeppicker.networks.dense import DenseNetwork
from deeppicker.networks.model import Model, load_model
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.runs.selection import threshold_of
from deeppicker.training.adapt import adapt_model, pick_again
from deeppicker.training.data import Dataset, load_dataset
from setting import describe

MANUAL_PICKS = 400  # enough in the paper (Section 2.3)


def main() -> None:
    options = parse_options(__doc__)
    config = LearnConfig(train=TrainConfig(epochs=DenseNetwork.adapt_epochs))
    result = {"setting": describe(f"{os.cpu_count()} cores"), "molecules": {}}
    for name in MOLECULES:
        base = load_model(options.work / f"without-{name}.safetensors")
        dataset = load_dataset(options.data / "real" / name / "particles.star")
        manual, rest = few(dataset, MANUAL_PICKS)
        found = [pick_micrograph(item.load(), base, dataset.diameter) for item in dataset.micrographs]
        threshold = threshold_of(found, SelectConfig())
        again = [pick_again(base, item, dataset.diameter, PickConfig(), threshold) for item in dataset.micrographs]
        models = {
            "without": base,
            "iteration": cached(base, replace(dataset, micrographs=again), config, options.work / f"iterated-{name}"),
            "manual": cached(base, manual, config, options.work / f"manual-{name}"),
        }
        result["molecules"][name] = {
            key: summarised(evaluated(model, rest)) | {"number": len(rest.micrographs)} for key, model in models.items()
        }
        print(
            name, {key: round(value["macro"]["f1"], 3) for key, value in result["molecules"][name].items()}, flush=True
        )
    (RESULTS / "adaptation.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "adaptation.md").write_text(report(result))
    print(report(result))


def few(dataset: Dataset, number: int) -> tuple[Dataset, Dataset]:
    """Return the first micrographs with ``number`` particles in all, and the other micrographs."""
    counts = np.cumsum([len(item.picks) for item in dataset.micrographs])
    last = int(np.searchsorted(counts, number)) + 1
    chosen = list(dataset.micrographs[:last])
    spare = int(counts[last - 1]) - number
    keep = np.arange(len(chosen[-1].picks)) < len(chosen[-1].picks) - spare
    chosen[-1] = replace(chosen[-1], picks=chosen[-1].picks.where(keep))  # the others still keep negatives away
    return replace(dataset, micrographs=chosen), replace(dataset, micrographs=dataset.micrographs[last:])


def cached(base: Model, dataset: Dataset, config: LearnConfig, stem: Path) -> Model:
    path = stem.with_suffix(".safetensors")
    return load_model(path) if path.exists() else adapt_model(base, dataset, config, path)


def evaluated(model: Model, dataset: Dataset) -> Evaluation:
    micrographs = [item.load() for item in dataset.micrographs]
    picks = [pick_micrograph(micrograph, model, dataset.diameter) for micrograph in micrographs]
    return compare(dataset, micrographs, picks, threshold_of(picks, SelectConfig()))


def report(result: dict) -> str:
    setting = result["setting"]
    rows = "\n".join(
        f"| {name} | {kinds['without']['number']} | "
        + " | ".join(f"{kind['macro']['f1']:.3f} / {kind['best']['f1']:.3f}" for kind in kinds.values())
        + " |"
        for name, kinds in result["molecules"].items()
    )
    return f"""# Adapting to the target

`make benchmark-adaptation` after `make benchmark-accuracy`, {setting["date"]}, commit {setting["commit"]},
{setting["machine"]}, torch {setting["torch"]}. F1 at the automatic threshold / at the best one, diameter given, on
the micrographs without manual picks. "Iteration" uses no labels; "manual" trains on {MANUAL_PICKS} reference
particles.

| molecule | micrographs | without | iteration | {MANUAL_PICKS} manual picks |
|---|---|---|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
