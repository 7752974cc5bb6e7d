"""Is what a doubtful start picks compact? For every simulated set on which the model is not sure of its better picks.

    python benchmarks/compact.py [--data DIR] [--work DIR]

Simulates the sets of `selftraining.suite` in the work folder if they are not there; the diameter is the model's own.
Writes ``benchmarks/results/compact.json`` and ``compact.md``: the median spread of the better picks, by which
`deeppicker.training.self_train_checks.compact` judges, and how many of them are right.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from deeppicker.config import SelfTrainConfig
from deeppicker.evaluation.matching import greedy_hits, partners_of
from deeppicker.networks.model import Model, load_model
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.training.self_train_checks import better, doubtful, spread_of, too_little
from learning import kept
from selftraining.sample import Sample, read_sample
from selftraining.suite import DOUBTFUL, RECIPES, simulate_set
from setting import describe

RESULTS = Path(__file__).parent / "results"
MATCH = 0.3  # diameters, as in `deeppicker evaluate`


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DEEPPICKER_DATA"))
    parser.add_argument("--work", type=Path, default=Path("work"))
    options = parser.parse_args()
    if options.data is None:
        parser.error("set --data or DEEPPICKER_DATA to the development data")
    maps, model, rows = Path(options.data) / "structures" / "maps", load_model(), []
    for recipe in (*RECIPES, *DOUBTFUL):
        sample = read_sample(recipe.name, simulate_set(recipe, maps, options.work / "suite"))
        row = looked_at(model, sample)
        if row is not None:
            rows.append(row)
            print(row, flush=True)
    result = {"setting": describe(f"{os.cpu_count()} cores"), "sets": len(RECIPES) + len(DOUBTFUL), "rows": rows}
    (RESULTS / "compact.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "compact.md").write_text(report(result))


def looked_at(model: Model, sample: Sample) -> dict[str, Any] | None:
    """Return what the better picks are like; None if they convince, or are too few to learn from."""
    config, size = SelfTrainConfig(), sample.estimated_diameter(model)
    found = [pick_micrograph(micrograph, model, size) for micrograph in sample.micrographs]
    picks = kept(found, model.calibration.caution)
    if too_little(picks, config) or not doubtful(taught := better(picks, config), config):
        return None
    right = [
        greedy_hits(partners_of(some.positions, truth.positions, MATCH * sample.diameter / micrograph.pixel_size)).sum()
        for micrograph, some, truth in zip(sample.micrographs, taught, sample.truth, strict=True)
    ]
    number = sum(map(len, taught))
    return {
        "name": sample.name,
        "picks": sum(map(len, picks)),
        "spread": round(float(np.median(spread_of(model, sample.micrographs, size, taught))), 4),
        "right": round(float(sum(right)) / number, 3),
    }


def report(result: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    rows = sorted(result["rows"], key=lambda row: row["spread"])
    lines = "\n".join(
        f"| {row['name']} | {row['picks']:,} | {row['spread']:+.3f} | {row['right']:.2f} |" for row in rows
    )
    compact, wide = ([row["right"] for row in rows if (row["spread"] < 0) is side] for side in (True, False))
    most, least, setting = max(compact), min(wide), result["setting"]
    return f"""# Are doubtful picks compact?

`python benchmarks/compact.py`, {setting["date"]}, commit {setting["commit"]}, {setting["machine"]},
torch {setting["torch"]}.
Of {result["sets"]} simulated sets, the default network is not sure of its better picks in {len(rows)}: these. The
spread is by how much the radius of gyration of their contrast exceeds that of a filled disc of the diameter, the median
of the better picks; right is the fraction of them that are particles.

Of picks more compact than a disc, at most {most:.2f} are right in any set ({len(compact)} sets); of others, at least
{least:.2f} ({len(wide)} sets).

| set | picks | spread | right |
|---|---|---|---|
{lines}
"""


if __name__ == "__main__":
    main()
