"""Find the particles in micrographs and write their coordinates for RELION."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deeppicker.cli.progress import track
from deeppicker.cli.types import Length
from deeppicker.config import DEFAULT_MODEL, PickConfig, SelectConfig
from deeppicker.core import micrograph_key
from deeppicker.errors import InputError
from deeppicker.formats import MicrographEntry, find_micrographs
from deeppicker.runs import RunFolder

_MOST_ROWS = 30  # a longer table on the screen helps nobody; summary.csv has all


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker pick`."""

    input: Annotated[tuple[str, ...], tyro.conf.arg(metavar="INPUT..."), tyro.conf.Positional]
    """Micrographs: files, folders, globs, or a RELION micrographs STAR file."""

    output: Path
    """Folder for the results; a second run completes what is missing."""

    diameter: Length = None
    """Particle diameter in Å. A model trained on one molecule knows its own."""

    pixel_size: Length = None
    """Å per pixel; default: what the STAR file or the image header says."""

    model: str = DEFAULT_MODEL
    """Name of a model in the package, or a model file."""

    invert: bool = False
    """The particles are bright on a darker background."""

    overwrite: bool = False
    """Start again although the output folder holds picks made with other settings."""

    select: SelectConfig = SelectConfig()
    steps: PickConfig = PickConfig()


def run(options: Options) -> int:
    """Pick all micrographs that are not done yet; return 1 if some failed, 2 if all did."""
    from deeppicker.batch import Task, pick_into, refuse_twins
    from deeppicker.model import load_model

    entries = find_micrographs(options.input)
    refuse_twins(entries)
    model = load_model(options.model)
    diameter = options.diameter if options.diameter is not None else model.diameter
    if diameter is None:
        raise InputError("the particle diameter is not known; set --diameter (in Å)")
    task = Task(model, diameter, options.pixel_size, options.invert, options.steps)
    folder = RunFolder(options.output, task.settings(), options.select, overwrite=options.overwrite)
    folder.refuse_other_paths([entry.name for entry in entries])
    missing = [entry for entry in entries if not folder.is_done(entry.name)]
    try:
        failed = pick_into(folder, task, track(missing, "picking"))
    finally:
        folder.finish([entry.name for entry in entries])
    _report(folder, entries, len(missing))
    if not failed:
        return 0
    return 1 if any(folder.is_done(entry.name) for entry in entries) else 2


def _report(folder: RunFolder, entries: Sequence[MicrographEntry], picked: int) -> None:
    keys = {micrograph_key(entry.name) for entry in entries}
    rows = [row for row in folder.rows if micrograph_key(row.micrograph) in keys]
    console = Console()
    if len(rows) <= _MOST_ROWS:
        table = Table("micrograph", "picks", "seconds", box=None)
        for row in rows:
            if not row.error:
                table.add_row(escape(micrograph_key(row.micrograph)), f"{row.picks:,}", f"{row.seconds:.2f}")
        console.print(table)
    for row in rows:
        if row.error:
            print(f"deeppicker: {row.error}", file=sys.stderr)
    good = [row for row in rows if not row.error]
    console.print(
        f"{sum(row.picks for row in good):,} picks in {len(good):,} of {len(rows):,} micrographs "
        f"({len(rows) - picked:,} were done before) -> {folder.folder / 'autopick.star'}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
