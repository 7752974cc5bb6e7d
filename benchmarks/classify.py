"""Class averages and contrast transfer: simulated truth, and the real sets with random places mixed in.

    python benchmarks/classify.py [--data DIR] [--only NAME ...]

``simulated``: 5,000 picks of three molecules, three tenths of them junk. The real sets: all labelled
particles and three tenths as many random places at least 0.6 diameters from any (TRPV1: three micrographs and one
tenth, because there is no more room). ``ctf``: twenty simulated micrographs of 0.5-3 µm underfocus.
Writes ``benchmarks/results/classify.json`` (parts that are not run stay unchanged), ``classify.md``, and contact sheets
to ``docs/images``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial import cKDTree

from deeppicker.config import ClassifyConfig
from deeppicker.core import Micrograph, Microscope, Picks
from deeppicker.particles.classify.em import classify
from deeppicker.particles.classify.files import Report, contact_sheet
from deeppicker.particles.classify.others import Sampled, cut_with_others, together
from deeppicker.particles.classify.report import report_of
from deeppicker.particles.classify.windows import Windows
from deeppicker.particles.ctf import estimate_ctf
from deeppicker.simulate.config import SimulateConfig
from deeppicker.simulate.scene import simulate_micrograph
from deeppicker.simulate.shapes import invent
from deeppicker.simulate.volumes import read_structure
from deeppicker.training.data import load_dataset
from setting import describe

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "particles"))
from views import JUNK, agreement, micrograph  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
STRUCTURES = ("3cf3", "4i3h", "1gax")  # none of them was looked at when the limits of the quality were chosen
REAL = {"ribosome-10028": (0.3, 10), "apoferritin-10146": (0.3, 19), "trpv1-10059": (0.1, 3)}
PIXEL_SIZES = (1.0, 1.5, 2.0, 3.0)
SNR = 0.1


def simulated(data: Path) -> dict[str, object]:
    volumes = [read_structure(data / "structures" / "maps" / f"{name}.mrc.gz") for name in STRUCTURES]
    diameter = max(volume.diameter for volume in volumes)
    cuts, picks, kind, junk = [], [], [], []
    rng = np.random.default_rng(2)
    while sum(map(len, picks)) < 5000:
        truth = micrograph(volumes, 1000, 28, SNR, 100 + len(cuts))
        picks.append(Picks.unscored(truth.micrograph.name, truth.positions))
        cuts.append(cut_with_others(truth.micrograph, Sampled(picks[-1], picks[-1]), diameter, 64, rng, truth.ctf))
        kind.append(truth.kind)
        junk += truth.junk
    report, measured = _classified(together(cuts), picks, diameter)
    good = report.good
    correlation = agreement(report.averages[good], volumes, diameter, 200, 1)
    names = np.array(junk)
    _save(report, "classes-simulated")
    return {
        **measured,
        **_rejection(report, np.concatenate(kind) >= 0),
        "junk_rejected": {name: round(float((~report.kept[names == name]).mean()), 3) for name in JUNK},
        "correlation_median": round(float(np.median(correlation)), 3),
        "correlation_worst": round(float(correlation.min()), 3),
    }


def real(data: Path, name: str) -> dict[str, object]:
    part, number = REAL[name]
    dataset = load_dataset(data / "real" / name / "particles.star")
    rng = np.random.default_rng(1)
    cuts, picks, truth = [], [], []
    for item in dataset.micrographs[:number]:
        image, centres = item.load(), item.picks.positions
        places = _elsewhere(image, centres, dataset.diameter / image.pixel_size, round(part * len(centres)), rng)
        both = np.concatenate([centres, places])
        picks.append(Picks.unscored(image.name, both))
        cuts.append(cut_with_others(image, Sampled(picks[-1], picks[-1]), dataset.diameter, 64, rng))
        truth += [True] * len(centres) + [False] * len(places)
    report, measured = _classified(together(cuts), picks, dataset.diameter)
    _save(report, f"classes-{name.split('-')[0]}")
    return {**measured, **_rejection(report, np.array(truth))}


def ctf() -> dict[str, object]:
    rows = []
    for index in range(20):
        rng = np.random.default_rng([5, index])
        config = SimulateConfig(
            pixel_size=PIXEL_SIZES[index % 4], defocus=(0.5, 3.0), phase_plates=0.0, empty=0.0, processed=0.0
        )
        scene = simulate_micrograph(invent(rng, 150.0), (), config, rng)
        truth = scene.optics.ctf.defocus
        start = time.process_time()
        found = estimate_ctf(Micrograph("simulated", scene.image, scene.pixel_size), Microscope())
        rows.append((truth, found.defocus, found.fit, time.process_time() - start, scene.parameters["SolventNoise"]))
    table = np.array(rows, dtype=float)
    error = np.abs(table[:, 1] / table[:, 0] - 1)
    sure = table[:, 2] >= 0.5
    return {
        "micrographs": len(table),
        "error_median": round(float(np.median(error)), 4),
        "error_worst": round(float(error.max()), 4),
        "within_5_percent": int((error < 0.05).sum()),
        "of_fit_0.5_or_more": int(sure.sum()),
        "their_worst": round(float(error[sure].max()), 4),
        "cpu_seconds": round(float(table[:, 3].mean()), 2),
        "rows": [[round(float(value), 4) for value in row] for row in rows],
    }


def _elsewhere(image: Micrograph, centres: np.ndarray, diameter: float, number: int, rng: np.random.Generator):
    height, width = image.image.shape
    tried = rng.uniform((0, 0), (width, height), (6000, 2))
    tried = tried[cKDTree(centres).query(tried)[0] > 0.6 * diameter]
    chosen: list[np.ndarray] = []
    for place in tried:
        if len(chosen) < number and all(np.hypot(*(place - other)) > 0.5 * diameter for other in chosen):
            chosen.append(place)
    return np.array(chosen).reshape(-1, 2)


def _classified(windows: Windows, picks: list[Picks], diameter: float) -> tuple[Report, dict[str, object]]:
    config = ClassifyConfig()
    start, cpu = time.perf_counter(), time.process_time()
    report = report_of(windows, picks, *classify(windows, config), diameter, config)
    return report, {
        "picks": len(report.label),
        "classes": len(report.members),
        "with_members": int((report.members > 0).sum()),
        "good": int(report.good.sum()),
        "resolution_of_good": round(float(np.median(report.quality.resolution[report.quality.quality >= 0.5])), 1),
        "wall_seconds": round(time.perf_counter() - start),
        "cpu_seconds": round(time.process_time() - cpu),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def _rejection(report: Report, truth: np.ndarray) -> dict[str, object]:
    kept = report.kept
    return {
        "particles": int(truth.sum()),
        "precision_before": round(float(truth.mean()), 3),
        "precision": round(float(truth[kept].mean()), 3),
        "recall": round(float(kept[truth].mean()), 3),
        "junk_rejected_all": round(float((~kept[~truth]).mean()), 3),
    }


def _save(report: Report, name: str) -> None:
    good = report.good
    sheet = contact_sheet(report.averages, report.members, report.quality.quality, good)
    Image.fromarray(sheet).save(ROOT / "docs" / "images" / f"{name}.png", optimize=True)


def write(results: dict[str, dict[str, object]]) -> None:
    lines = ["# Class averages and contrast transfer", "", "By `benchmarks/classify.py`.", ""]
    columns = ("picks", "classes", "with_members", "good", "resolution_of_good", "precision_before", "precision")
    columns = (*columns, "recall", "wall_seconds", "cpu_seconds", "peak_gb", "load")
    lines += ["| set | " + " | ".join(c.replace("_", " ") for c in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, result in results.items():
        if name != "ctf":
            lines.append(f"| {name} | " + " | ".join(str(result[column]) for column in columns) + " |")
    for name, result in results.items():
        rest = {key: value for key, value in result.items() if key not in (*columns, "rows", "setting")}
        lines += ["", f"**{name}**: " + "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in rest.items())]
        lines += ["", f"Measured: {result['setting']}"]
    (RESULTS / "classify.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DEEPPICKER_DATA", "data")))
    parser.add_argument("--only", nargs="*", default=["simulated", *REAL, "ctf"])
    options = parser.parse_args()
    torch.set_num_threads(2)
    file = RESULTS / "classify.json"
    results: dict[str, dict[str, object]] = {}
    for name in options.only:
        if name == "ctf":
            results[name] = ctf()
        else:
            results[name] = simulated(options.data) if name == "simulated" else real(options.data, name)
        results[name]["setting"] = describe("2 cores")
        print(name, results[name], flush=True)
        earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        results = earlier | {name: results[name]}
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write(results)


if __name__ == "__main__":
    main()
