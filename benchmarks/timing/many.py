"""Runs over 1 to 1,000 micrographs: whether time and memory stay flat, and the processors busy."""

from __future__ import annotations

import shutil
from typing import Any

from timing.bench import DIAMETER, USUAL, Bench
from timing.measure import DEEPPICKER, run

RUNS = (((1024, 1024), (1, 10, 100, 1000)), (USUAL, (1, 10, 100)))
"""Size and number of the micrographs."""


def measure(bench: Bench) -> dict[str, Any]:
    """Return a row for each run, with the cost per additional micrograph against the shorter run before it."""
    rows: list[dict[str, Any]] = []
    for size, numbers in RUNS:
        for workers in range(1, bench.cores + 1):
            before: dict[str, Any] | None = None
            for number in numbers:
                before = one(bench, size, number, workers, before)
                rows.append(before)
                print(before, flush=True)
    return {"rows": rows}


def one(
    bench: Bench, size: tuple[int, int], number: int, workers: int, before: dict[str, Any] | None
) -> dict[str, Any]:
    output = bench.folder / "many"
    shutil.rmtree(output, ignore_errors=True)
    options = ["--output", output, "--diameter", str(DIAMETER), "--learn", "off", "--workers", str(workers)]
    cost = run([*DEEPPICKER, "pick", bench.copies(size, number), *options])
    return {
        "size": f"{size[0]}×{size[1]}",
        "workers": workers,
        "number": number,
        **cost.to_json(),
        "each": cost.wall / number,
        "each more": (cost.wall - before["wall"]) / (number - before["number"]) if before else None,
        "busy": cost.cpu / (cost.wall * bench.cores),
    }
