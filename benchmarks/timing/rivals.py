"""Topaz and RELION's Laplacian-of-Gaussian picker on the same micrographs and processors, in one run.

RELION's options are those of its own window for this picker: micrographs low-passed to 20 Å and reduced accordingly.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deeppicker.formats import read_picks
from timing import topaz
from timing.bench import DIAMETER, PIXEL_SIZE, USUAL, Bench
from timing.measure import DEEPPICKER, Cost, least, run

Command = list[str | Path]
Commands = Callable[[list[Path], Path], Sequence[Command]]
"""Makes the commands that pick micrographs into a folder."""

_RANGE = (150, 210)  # Å; diameters that RELION looks for


def measure(bench: Bench) -> dict[str, Any]:
    """Return the cost of each program; a missing program is left out, with a hint on how to get it."""
    programs = {
        "deeppicker": program(bench, lambda paths, out: [deeppicker(paths, out, bench.cores)], 22, 2),
        "deeppicker, one worker": program(bench, lambda paths, out: [deeppicker(paths, out, 1)], 12, 2),
    }
    if shutil.which("relion_autopick_mpi"):
        programs["relion"] = program(bench, lambda paths, out: [relion(paths, out, bench.cores)], 22, 2)
        programs["relion, one process"] = program(bench, lambda paths, out: [relion(paths, out, 1)], 12, 2)
    else:
        print("RELION is not there and left out; Debian, Ubuntu: apt-get install relion")
    installed = topaz.install(bench.work)
    if installed:
        for scale in topaz.SCALES:
            programs[f"topaz, scale {scale}"] = program(
                bench,
                lambda paths, out, scale=scale: topaz.commands(installed, paths, out, scale, bench.cores),
                2 * bench.cores,
                1,
            )
    return {"programs": programs, "ratios": ratios(programs)}


def deeppicker(paths: list[Path], output: Path, workers: int) -> Command:
    options = ["--diameter", str(DIAMETER), "--learn", "off", "--workers", str(workers)]
    return [*DEEPPICKER, "pick", *paths, "--output", output, *options]


def relion(
    paths: list[Path],
    output: Path,
    processes: int,
    diameters: tuple[float, float] = _RANGE,
    pixel_size: float = PIXEL_SIZE,
) -> Command:
    """Return the command; several processes where there are several micrographs for them."""
    low, high = (f"{diameter:g}" for diameter in diameters)
    options: Command = ["--i", f"{paths[0].parent}/*.mrc", "--odir", f"{output}/", "--pickname", "log"]
    options += ["--LoG", "--LoG_diam_min", low, "--LoG_diam_max", high, "--angpix", str(pixel_size)]
    options += ["--shrink", "0", "--lowpass", "20"]
    if processes == 1 or len(paths) == 1:
        return ["relion_autopick", *options]
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    mpi: Command = ["mpirun", "-n", str(processes), *root, "--oversubscribe", "--bind-to", "none"]
    return [*mpi, "relion_autopick_mpi", *options]


def program(bench: Bench, commands: Commands, number: int, repeats: int) -> dict[str, Any]:
    """Return the cost of one micrograph by itself, and of each additional one in a run of ``number``.

    The latter is the difference from a run with one micrograph per core, so the start of the program does not count.
    """
    runs = {n: repeated(bench, commands, n, repeats) for n in (1, bench.cores, number)}
    few, all_ = runs[bench.cores], runs[number]
    picks = read_picks(picked(bench.folder / "rival"))
    more = number - bench.cores
    result = {
        "runs": {str(n): cost.to_json() for n, cost in runs.items()},
        "each more": (all_.wall - few.wall) / more,
        "cpu each more": (all_.cpu - few.cpu) / more,
        "megabytes": max(cost.megabytes for cost in runs.values()),
        "picks": sum(map(len, picks)) / len(picks),
    }
    print(result, flush=True)
    return result


def repeated(bench: Bench, commands: Commands, number: int, repeats: int) -> Cost:
    """Return the shortest time of several runs, each of all commands in a new folder."""
    paths = sorted(bench.copies(USUAL, number).iterdir())
    totals = []
    for _ in range(repeats):
        output = bench.folder / "rival"
        shutil.rmtree(output, ignore_errors=True)
        (output / "small").mkdir(parents=True)
        costs = [run(command) for command in commands(paths, output)]
        totals.append(Cost(sum(c.wall for c in costs), sum(c.cpu for c in costs), max(c.megabytes for c in costs)))
    return least(totals)


def picked(output: Path) -> Path:
    """Return one of the coordinate files in a program's output."""
    return next(
        path for path in sorted(output.rglob("*")) if path.name.endswith(("_autopick.star", "_log.star", "picks.txt"))
    )


def ratios(programs: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return how many times longer each program takes than DeepPicker, for one micrograph and each additional one."""
    ours = programs["deeppicker"]
    return {
        name: {
            "one": one["runs"]["1"]["wall"] / ours["runs"]["1"]["wall"],
            "each more": one["each more"] / ours["each more"],
        }
        for name, one in programs.items()
        if not name.startswith("deeppicker")
    }
