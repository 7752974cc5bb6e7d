"""Self-training, measured: every round on every data set, against the model that it starts from.

    python benchmarks/learning.py [--data DIR] [--work DIR] [--models DIR] [--only NAME ...] [--again]

Simulated sets (`selftraining.suite`) are made in the work folder if they are not there, and are learnt from with
``general.safetensors`` of the folder of models, or with that in the package. Real ones are learnt from with
``without-<name>.safetensors`` (of ``accuracy.py``), which has not seen the molecule; those without such a model are
left out. Nothing is given: diameter and threshold are the program's own. Scored as `deeppicker evaluate` does. What has
been measured is kept in ``benchmarks/results/learning.json`` and not measured again, unless ``--again`` is set; with
``--only``, the others stay.
Writes ``learning.json``, ``learning.md``, and ``learning-<name>.png`` for some: picks that came and went, and class
averages before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deeppicker.config import CAUTION, SelfTrainConfig
from deeppicker.core import Picks
from deeppicker.evaluation.evaluate import evaluate_picks as evaluate
from deeppicker.evaluation.results import EvaluateConfig, MicrographInfo
from deeppicker.networks.model import Model, load_model
from deeppicker.picking.pipeline import pick_micrograph as pick
from deeppicker.picking.threshold import choose_threshold
from deeppicker.training.self_train import State, learn_from_picks
from selftraining.pictures import draw
from selftraining.sample import Sample, evenly, read_sample
from selftraining.suite import RECIPES, simulate_set
from setting import describe

RESULTS = Path(__file__).parent / "results"
REAL = ("apoferritin-10146", "trpv1-10059", "ribosome-10028")
PICTURES = (
    *REAL,
    "crowded-asymmetric",
    "hollow-debris-2",
    "striped-bits",
    "ring-ethane",
    "two-species",
    "sparse-debris",
    "rods",
)
HARM = 0.01  # F1 that self-training may cost
HEADS = (
    "set",
    "F1 before (best)",
    "rounds",
    "after (best)",
    "change",
    "precision",
    "expected",
    "recall",
    "picks",
    "diameter / true",
    "CPU",
    "refused",
)


def main() -> None:
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    path = RESULTS / "learning.json"
    known = json.loads(path.read_text()) if path.exists() else {"sets": {}}
    if options.again:
        known["sets"] = {name: one for name, one in known["sets"].items() if options.only and name not in options.only}
    setting = describe(f"{os.cpu_count()} cores")
    names = [*REAL, *(recipe.name for recipe in RECIPES)]
    for name in names:
        if (options.only and name not in options.only) or name in known["sets"]:
            continue
        model = model_for(name, options.models)
        if model is None:
            print(f"{name}: no model that has not seen it", flush=True)
            continue
        known["sets"][name] = {"setting": setting, **measured(model, load_sample(name, options))}
        known["sets"] = {other: known["sets"][other] for other in names if other in known["sets"]}
        path.write_text(json.dumps(known, indent=1) + "\n")
        print(row(name, known["sets"][name]), flush=True)
    (RESULTS / "learning.md").write_text(report(known))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DEEPPICKER_DATA"))
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--models", type=Path, default=Path("work"))
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.data is None:
        parser.error("set --data or DEEPPICKER_DATA to the development data")
    options.data = Path(options.data)
    return options


def model_for(name: str, folder: Path) -> Model | None:
    """Return a model that has not seen the data set."""
    path = folder / (f"without-{name}.safetensors" if name in REAL else "general.safetensors")
    if path.exists():
        return load_model(path)
    return None if name in REAL else load_model()


def load_sample(name: str, options: argparse.Namespace) -> Sample:
    if name in REAL:
        folder = options.data / "real" / name
    else:
        recipe = next(recipe for recipe in RECIPES if recipe.name == name)
        folder = simulate_set(recipe, options.data / "structures" / "maps", options.work / "suite")
    return read_sample(name, folder)


def measured(model: Model, sample: Sample) -> dict[str, Any]:
    """Return what the model reaches before, after each round, and with what is taken in the end."""
    size = sample.estimated_diameter(model)
    before = [pick(micrograph, model, size) for micrograph in sample.micrographs]
    taught = evenly(len(sample.micrographs), SelfTrainConfig().micrographs)
    rounds: list[dict[str, Any]] = []

    def note(state: State) -> None:
        found = [pick(micrograph, state.model, size) for micrograph in sample.micrographs]
        rounds.append(scored(sample, found, state.model.calibration.caution))

    began, cpu = time.perf_counter(), time.process_time()
    learnt = learn_from_picks(model, [sample.micrographs[i] for i in taught], size, after_round=note)
    seconds = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    after = [pick(micrograph, learnt.model, size) for micrograph in sample.micrographs]
    caution = learnt.model.calibration.caution
    if sample.name in PICTURES:
        picks = kept(before, CAUTION), kept(after, caution)
        path = RESULTS / f"learning-{sample.name}.png"
        draw(sample.micrographs, sample.truth, sample.diameter, *picks, path)
    return {
        "diameter": {"true": sample.diameter, "estimate": size, "after": sample.estimated_diameter(learnt.model)},
        "before": scored(sample, before, CAUTION),
        "rounds": rounds,
        "after": scored(sample, after, caution),
        "refusal": learnt.refusal,
        "account": [asdict(item) for item in learnt.rounds],
        "seconds": seconds,
    }


def kept(found: Sequence[Picks], caution: float) -> list[Picks]:
    """Return the candidates above the automatic threshold."""
    threshold = choose_threshold(np.concatenate([item.scores for item in found]), caution)
    return [item.where(item.scores >= threshold) for item in found]


def scored(sample: Sample, found: Sequence[Picks], caution: float) -> dict[str, Any]:
    """Return rates at the automatic threshold, the best F1, and what the scores expect."""
    scores = np.concatenate([np.zeros(0), *(item.scores for item in found)])
    threshold = choose_threshold(scores, caution)
    kept = scores[scores >= threshold]
    summary = {
        "threshold": threshold,
        "picks": len(kept),
        "expected_precision": float(kept.mean()) if len(kept) else None,
        "expected_recall": float(kept.sum() / scores.sum()) if len(kept) else None,
    }
    if not any(len(item) for item in sample.truth):
        return {**summary, "f1": 1.0 if len(kept) == 0 else 0.0, "best": None, "precision": None, "recall": None}
    info = {m.key: MicrographInfo(pixel_size=m.pixel_size, size=m.image.shape) for m in sample.micrographs}
    config = EvaluateConfig(particle_diameter=sample.diameter, threshold=threshold, resamples=1, chance_repeats=1)
    result = evaluate(found, sample.truth, config, info)
    return {
        **summary,
        "f1": result.macro.f1,
        "precision": result.macro.precision,
        "recall": result.macro.recall,
        "best": result.best.f1 if result.best else None,
    }


def row(name: str, one: dict[str, Any]) -> str:
    """Return a row of the table."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    before, after, size = one["before"], one["after"], one["diameter"]
    rounds = " → ".join(number(item["f1"]) for item in one["rounds"]) or "–"
    changed = after["f1"] - before["f1"]
    return (
        f"| {name} | {number(before['f1'])} ({number(before['best'])}) | {rounds} "
        f"| **{number(after['f1'])}** ({number(after['best'])}) | {changed:+.3f} "
        f"| {number(before['precision'])} → {number(after['precision'])} | {number(after['expected_precision'])} "
        f"| {number(before['recall'])} → {number(after['recall'])} | {before['picks']} → {after['picks']} "
        f"| {size['estimate'] / size['true']:.2f} → {size['after'] / size['true']:.2f} | {one['seconds']['cpu']:.0f} s "
        f"| {one['refusal']} |"
    )


def report(result: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    sets = result["sets"]
    settings = Counter(
        "{date}, commit {commit}, {machine}, torch {torch}".format(**one["setting"]) for one in sets.values()
    )
    measured_on = "\n".join(f"{number} set{'s' * (number > 1)}: {setting}." for setting, number in settings.items())
    full = {name: one for name, one in sets.items() if one["before"]["best"] is not None}
    changes = {name: one["after"]["f1"] - one["before"]["f1"] for name, one in full.items()}
    harmed = sorted((name for name, change in changes.items() if change < -HARM), key=changes.__getitem__)
    off = [one["after"]["best"] - one["after"]["f1"] for one in full.values()]
    gains, mean = sum(change > HARM for change in changes.values()), np.mean(list(changes.values()))
    lost = ", ".join(f"{name} {changes[name]:+.3f}" for name in harmed) or "none"
    drawn = [name for name in PICTURES if (RESULTS / f"learning-{name}.png").is_file()]
    pictures = ", ".join(f"[{name}](learning-{name}.png)" for name in drawn)
    rows = "\n".join(row(name, one) for name, one in sets.items())
    return f"""# Self-training: every round on every data set

`python benchmarks/learning.py`. {measured_on}
Nothing is given. Real sets start from a model that has not seen the molecule, simulated
ones from the general one. F1 at the automatic threshold, and the best that any threshold gives in brackets; empty sets
count as 1 where nothing is picked.

Of {len(full)} sets with particles, {gains} gain and {len(harmed)} lose more than {HARM} ({lost}); the mean change is
{mean:+.3f}. After learning, the automatic threshold loses {np.mean(off):.3f} of the best F1 on average,
{max(off):.3f} at most.

Pictures of picks that stayed (white), came (green) and went (orange), with centres of known particles (dots); most with
class averages before and after, the largest class first: {pictures}.

| {" | ".join(HEADS)} |
|{"---|" * len(HEADS)}
{rows}
"""


if __name__ == "__main__":
    main()
