"""Accuracy of the estimated diameter: on simulated structures that the model has never seen, and on the real sets.

    python benchmarks/diameter.py [--data DIR] [--work DIR]

Needs the models of ``recipes/general.sh`` and ``benchmarks/accuracy.py``. The simulated structures are nine that only
the shipped model has seen in training, and eleven invented shapes with a seed of their own, eight micrographs each. The
model that judges a real molecule has not seen it. Also checks that a diameter wrong by a factor of 1.5 is noticed.
Writes ``benchmarks/results/diameter.json`` and ``diameter.md``.
"""

from __future__ import annotations

import json
import math
import os

import numpy as np

from accuracy import MOLECULES, RESULTS, parse_options
from deeppicker.config import DiameterConfig
from deeppicker.core import Micrograph
from deeppicker.networks.model import Model, load_model
from deeppicker.picking.diameter import combine, gather
from deeppicker.runs.diameter import CHECKED, misfit
from deeppicker.simulate.config import SimulateConfig
from deeppicker.simulate.scene import simulate_micrograph
from deeppicker.simulate.shapes import invent
from deeppicker.simulate.volumes import Volume, read_structure
from deeppicker.training.data import load_dataset
from setting import describe

RELATED = ("6pxm", "6qzp", "4v7r", "4v4r", "4v4r_30S", "4v4r_50S", "5mrc", "5lmo", "6dvw")
SHAPES = 11
MICROGRAPHS = 8
SHIPPED = 24  # width of `general`
CONFIG = SimulateConfig(size=(800, 800), empty=0.0)


def main() -> None:
    options = parse_options(__doc__)
    base = load_model(options.work / "simulation-only.safetensors")
    rows = []
    for index, particle in enumerate(particles(options.data / "structures" / "maps")):
        rng = np.random.default_rng([99, index])
        scenes = [simulate_micrograph(particle, (), CONFIG, rng) for _ in range(MICROGRAPHS)]
        images = [Micrograph(f"{particle.name}-{i}", s.image, s.pixel_size) for i, s in enumerate(scenes)]
        rows.append(judged(particle.name, particle.diameter, base, images))
        print(rows[-1], flush=True)
    for name in MOLECULES:
        dataset = load_dataset(options.data / "real" / name / "particles.star")
        chosen = np.unique(np.linspace(0, len(dataset.micrographs) - 1, DiameterConfig().looked_at).round().astype(int))
        images = [dataset.micrographs[i].load() for i in chosen]
        model = load_model(options.work / f"without-{name}.safetensors")
        rows.append(judged(name, dataset.diameter, model, images))
        print(rows[-1], flush=True)
    width = base.network.arguments["width"]
    result = {"setting": describe(f"{os.cpu_count()} cores"), "width": width, "rows": rows}
    (RESULTS / "diameter.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "diameter.md").write_text(report(result))
    print(report(result))


def particles(maps) -> list[Volume]:
    """Return structures and shapes that the model has not seen; the shapes range evenly from 80 to 400 Å."""
    known = [read_structure(maps / f"{name}.mrc.gz") for name in RELATED]
    made = [
        invent(np.random.default_rng([77, index]), diameter)
        for index, diameter in enumerate(np.geomspace(80, 400, SHAPES).tolist())
    ]
    return [*known, *made]


def judged(name: str, true: float, model: Model, images: list[Micrograph]) -> dict:
    config = DiameterConfig()
    evidence = [gather(model, image, config) for image in images]
    found, few = combine(evidence, config), combine(evidence[:CHECKED], config)
    return {
        "name": name,
        "true": true,
        "estimate": found.value,
        "interval": [found.low, found.high],
        "confidence": found.confidence,
        "right": abs(math.log(found.value / true)) <= math.log(1.15),
        "noticed": [misfit(factor * true, few) is not None for factor in (1.5, 1 / 1.5)],
        "false alarm": misfit(true, few) is not None,
    }


def report(result: dict) -> str:
    setting, rows = result["setting"], result["rows"]
    simulated, real = rows[: -len(MOLECULES)], rows[-len(MOLECULES) :]
    inside = [row["interval"][0] <= row["true"] <= row["interval"][1] for row in rows]
    lines = "\n".join(
        f"| {row['name']} | {row['true']:.0f} "
        f"| {row['estimate']:.0f} ({row['interval'][0]:.0f}–{row['interval'][1]:.0f}) "
        f"| {100 * (row['estimate'] / row['true'] - 1):+.0f} % | {row['confidence']:.2f} "
        f"| {' / '.join('yes' if n else 'no' for n in row['noticed'])} | {'yes' if row['false alarm'] else 'no'} |"
        for row in rows
    )
    return f"""# Accuracy of the estimated diameter

`make benchmark-diameter`, {setting["date"]}, commit {setting["commit"]}, {setting["machine"]},
torch {setting["torch"]}. {networks(result["width"])}

Eight micrographs of each particle; the model that judges a particle has not seen it in training. Simulated micrographs
cover all ranges of the simulator, barely visible particles included. "Noticed" and "false alarm" refer to the check of
a given diameter, which looks at three micrographs.

Within 15 %: {sum(row["right"] for row in simulated)} of {len(simulated)} simulated particles,
{sum(row["right"] for row in real)} of {len(real)} real ones. The true diameter lies in the 90 % interval of
{sum(inside)} of {len(rows)}.

| particle | true, Å | estimate (90 %) | error | confidence | 1.5 times too large / small noticed | false alarm |
|---|---|---|---|---|---|---|
{lines}
"""


def networks(width: int) -> str:
    """Say what the networks were that were measured."""
    if width == SHIPPED:
        return f"The networks have width {width}, as `general` has."
    return (
        f"The networks have width {width}: those of before `general`, whose width is {SHIPPED}\n"
        "and which finds other diameters, see README.md."
    )


if __name__ == "__main__":
    main()
