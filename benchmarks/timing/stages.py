"""Time of each step, for small and large micrographs, with one thread and with more."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from deeppicker.config import DiameterConfig, ScoreConfig
from deeppicker.core import Found, Micrograph
from deeppicker.formats import read_micrograph
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.images import raster
from deeppicker.formats.relion import star
from deeppicker.networks.model import Model, load_model
from deeppicker.picking.diameter import gather
from deeppicker.picking.pipeline import find
from deeppicker.picking.prepare import prepare
from deeppicker.picking.score import score
from timing.bench import DIAMETER, USUAL, Bench
from timing.measure import DEEPPICKER, best, warm

SIZES = ((1024, 1024), USUAL, (5760, 4092), (11520, 8184))
"""Width and height in pixels; the pixel size is the same for all, so the largest is the most work."""

_REPEATS = 5


def measure(bench: Bench) -> dict[str, Any]:
    """Return the seconds of each step, warm, in this process, and the cost of the command in a process of its own."""
    model = load_model()
    sizes = {}
    for size in SIZES:
        path = bench.micrograph(size)
        one: dict[str, Any] = {"threads": {}, "command": command(bench, path)}
        for threads in range(1, bench.cores + 1):
            torch.set_num_threads(threads)
            one["threads"][str(threads)] = steps(path, model, bench.folder)
        sizes[f"{size[0]}×{size[1]}"] = one
        print(size, one, flush=True)
    return {"sizes": sizes}


def command(bench: Bench, path: Path) -> dict[str, float]:
    output = bench.folder / "stages"

    def clear() -> None:
        shutil.rmtree(output, ignore_errors=True)

    pick = [*DEEPPICKER, "pick", path, "--output", output, "--diameter", str(DIAMETER)]
    return best(1, pick, clear).to_json()


def steps(path: Path, model: Model, folder: Path) -> dict[str, float]:
    """Time the steps of one micrograph; those after scoring are the total minus the steps before."""
    micrograph = read_micrograph(path)
    prepared = prepare(micrograph, DIAMETER, model.prepare)
    found = find(micrograph, model, DIAMETER)
    read = warm(_REPEATS, lambda: read_micrograph(path))
    first = warm(_REPEATS, lambda: prepare(micrograph, DIAMETER, model.prepare))
    second = warm(_REPEATS, lambda: score(model, prepared, ScoreConfig()))
    finding = warm(_REPEATS, lambda: find(micrograph, model, DIAMETER))
    writing = warm(_REPEATS, lambda: write(found, micrograph, folder))
    return {
        "read": read,
        "prepare": first,
        "score": second,
        "peaks, cleaning": finding - first - second,
        "write": writing,
        "all": warm(_REPEATS, lambda: write(find(read_micrograph(path), model, DIAMETER), micrograph, folder)),
        "diameter": warm(1, lambda: gather(model, micrograph, DiameterConfig())),
    }


def write(found: Found, micrograph: Micrograph, folder: Path) -> None:
    """Write the files that a run writes for a micrograph, but for its record."""
    star.write_coordinates(folder / "picks.star", found.candidates)
    text = star.candidates_text(found.candidates, found.rejected, found.reasons)
    atomic_write(folder / "candidates.star", text)
    raster.write_mask(folder / "junk.png", found.junk_image(micrograph.image.shape))
