"""A run folder of very many micrographs: what it costs to list them, to select picks anew and to resume.

    make benchmark-entries, or python benchmarks/entries.py [--number 100000] [--folder DIR] [--output entries.json]

The micrographs are empty files, each with candidates drawn at random; only the folder is measured. Each step is a
command of its own, with as many workers as `deeppicker pick`; times and memory are those of all its processes. Prints
each target as hit or missed: times scaled to 100,000, memory at the number measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeppicker.config import ClusterConfig, SelectConfig, WorkConfig
from deeppicker.core import Picks
from deeppicker.formats import find_micrographs
from deeppicker.formats.fingerprint import Fingerprint
from deeppicker.parallel.pool import open_pool
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.state import writing
from timing.measure import run
from timing.targets import Target, rows_of

CANDIDATES = 300
"""Of each micrograph."""
SETTINGS = {"diameter": 100.0}
STEPS = ("resume", "select anew", "resume after that")
TARGETS = tuple(
    target
    for step in STEPS
    for target in (
        Target(f"100,000 micrographs: {step}", 60, "s", lambda r, step=step: r[step]["wall"] * 1e5 / r["number"]),
        Target(f"{step}, peak memory at the number measured", 2000, "MB", lambda r, step=step: r[step]["megabytes"]),
    )
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.step:
        do(options.folder, options.step)
        return
    with tempfile.TemporaryDirectory(prefix="deeppicker-entries-", dir=options.folder) as name:
        folder = Path(name)
        start = time.perf_counter()
        make(folder, options.number)
        result: dict[str, Any] = {"number": options.number, "made": {"seconds": time.perf_counter() - start}}
        for step in STEPS:
            command = [sys.executable, __file__, "--folder", name, "--step", step]
            result[step] = run(command).to_json()
            print(step, result[step], flush=True)
        shutil.rmtree(folder / "out")  # faster than what TemporaryDirectory does
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(rows_of(TARGETS, result))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=100_000, help="of micrographs (default: 100,000)")
    parser.add_argument("--folder", type=Path, help="where the files are made, for some minutes")
    parser.add_argument("--output", type=Path, help="file for all numbers")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def make(folder: Path, number: int) -> None:
    """Make the micrographs, and the files of a run that has picked all of them."""
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    opened = RunFolder(folder / "out", SETTINGS, SelectConfig())
    with writing(opened.folder, opened.results.generation) as state:
        for index in range(number):
            path = folder / "in" / f"FoilHole_{index:06d}_Data_fractions.mrc"
            name = str(path)  # as `find_micrographs` names it
            path.touch()
            places, contrast = rng.uniform(0, 4096, (CANDIDATES, 2)), rng.uniform(0, 1, CANDIDATES)
            picks = Picks(name, places, np.sort(rng.beta(0.5, 0.5, CANDIDATES))[::-1], contrast)
            opened.results.write_candidates(picks, Fingerprint.of(path), 0.2, state)
    RunFolder(folder / "out", SETTINGS, SelectConfig()).finish([])


def do(folder: Path, step: str) -> None:
    """Do a step as `deeppicker pick` does, but for the picking."""
    entries = find_micrographs([str(folder / "in")])
    select = SelectConfig(threshold=0.6) if step != "resume" else SelectConfig()
    names = [entry.name for entry in entries]
    with open_pool(WorkConfig(), ClusterConfig(), len(entries), folder, print) as pool:
        opened = RunFolder(folder / "out", SETTINGS, select, workers=pool.mapper)
        assert not opened.missing(entries)
        opened.finish(names)
    assert opened.changed_since(names) is None


if __name__ == "__main__":
    main()
