"""Find the particles in micrographs and write their coordinates for RELION."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deeppicker.cli.progress import track
from deeppicker.cli.types import Length
from deeppicker.config import DEFAULT_MODEL, LEAST_COVERAGE, DiameterConfig, PickConfig, SelectConfig
from deeppicker.core import micrograph_key
from deeppicker.dataset import find_diameter
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.formats import MicrographEntry, find_micrographs
from deeppicker.runs import RunFolder

if TYPE_CHECKING:
    from deeppicker.diameter import Diameter
    from deeppicker.model import Model

CHECKED = 3  # micrographs by which a diameter that is given is checked
_NOTICED = 1.3  # factor by which it must be wrong to be noticed
_SURE = 0.5  # confidence of the estimate
_NOTHING = (
    "no particles are in sight, so the coordinate files are empty; if there are some, set --diameter (in Å), "
    "and --invert if they are bright"
)
_MOST_ROWS = 30  # a longer table on the screen helps nobody; summary.csv has all


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker pick`."""

    input: Annotated[tuple[str, ...], tyro.conf.arg(metavar="INPUT..."), tyro.conf.Positional]
    """Micrographs: files, folders, globs, or a RELION micrographs STAR file."""

    output: Path
    """Folder for the results; a second run completes what is missing."""

    diameter: Length = None
    """Particle diameter in Å. Default: that of the model, if it was trained on one molecule, or of the picks in the
    output folder; else it is estimated from some of the micrographs."""

    pixel_size: Length = None
    """Å per pixel; default: what the STAR file or the image header says."""

    model: str = DEFAULT_MODEL
    """Name of a model in the package, or a model file."""

    invert: bool = False
    """The particles are bright on a darker background."""

    overwrite: bool = False
    """Start again although the output folder holds picks made with other settings."""

    select: SelectConfig = SelectConfig()
    size: DiameterConfig = DiameterConfig()
    steps: PickConfig = PickConfig()


def run(options: Options) -> int:
    """Pick all micrographs that are not done yet; return 1 if some failed, 2 if all did or no particle is in sight."""
    from deeppicker.batch import Task, pick_into, refuse_twins
    from deeppicker.model import load_model

    entries = find_micrographs(options.input)
    refuse_twins(entries)
    model = load_model(options.model)
    size = _diameter(options, model, entries)
    task = Task(model, size.value, options.pixel_size, options.invert, options.steps)
    select = options.select if size.seen else replace(options.select, threshold=1.0)  # nothing is a pick
    folder = RunFolder(options.output, task.settings(), select, overwrite=options.overwrite)
    folder.refuse_other_paths([entry.name for entry in entries])
    missing = [entry for entry in entries if not folder.is_done(entry.name)]
    try:
        failed = pick_into(folder, task, track(missing, "picking"))
    finally:
        folder.finish([entry.name for entry in entries])
    picks = _report(folder, entries, len(missing))
    if size.estimated and not picks and len(failed) < len(entries):
        print(f"deeppicker: {_NOTHING}", file=sys.stderr)
        return 2
    if not failed:
        return 0
    return 1 if any(folder.is_done(entry.name) for entry in entries) else 2


class _Size(NamedTuple):
    """A diameter in Å, whether it was estimated just now, and whether particles are in sight."""

    value: float
    estimated: bool = False
    seen: bool = True


def _diameter(options: Options, model: Model, entries: Sequence[MicrographEntry]) -> _Size:
    """Return the diameter that is given, known or estimated; say what the micrographs show of it."""
    from deeppicker.batch import load
    from deeppicker.diameter import can_estimate, estimate

    earlier = find_diameter(options.output) if options.output.is_dir() and not options.overwrite else None
    known = next((d for d in (options.diameter, model.diameter, earlier) if d is not None), None)
    if known is not None and (known == earlier or not 0 < known < math.inf or not can_estimate(model)):
        return _Size(known)
    if not can_estimate(model):
        raise InputError("this model cannot tell the particle diameter; set --diameter (in Å)")
    config = options.size if known is None else replace(options.size, looked_at=min(CHECKED, options.size.looked_at))
    chosen = [entries[i] for i in np.unique(np.linspace(0, len(entries) - 1, config.looked_at).round().astype(int))]
    looked_at = []
    for entry in track(chosen, "looking for the particle diameter"):
        with contextlib.suppress(DeepPickerError):  # it is reported when it is picked
            looked_at.append(load(entry, options.pixel_size, options.invert))
    if known is not None:
        with contextlib.suppress(InputError):  # of micrographs too small to tell; the diameter that is given counts
            warning = misfit(known, estimate(model, looked_at, config))
            if warning:
                print(f"deeppicker: warning: {warning}", file=sys.stderr)
        return _Size(known)
    if not looked_at:
        raise InputError(
            f"none of {len(chosen)} micrographs, such as {chosen[0].name}, can be read to estimate the diameter"
        )
    found = estimate(model, looked_at, config)
    print(
        f"particle diameter: {found.value:.0f} Å, estimated from {len(looked_at):,} of the micrographs "
        f"({found.low:.0f}-{found.high:.0f} Å with 90 %; within 15 % with {100 * found.confidence:.0f} %)"
    )
    return _Size(round(found.value, 1), True, found.coverage >= LEAST_COVERAGE)


def misfit(given: float, found: Diameter) -> str | None:
    """Return a warning if micrographs clearly show particles of another diameter (Å) than the one given."""
    far = abs(math.log(found.value / given)) > math.log(_NOTICED)
    if not (far and found.coverage >= LEAST_COVERAGE and found.confidence > _SURE):
        return None
    return (
        f"--diameter {given:g} Å, but the particles look {found.value:.0f} Å large "
        f"({found.low:.0f}-{found.high:.0f} Å); leave it out to use that"
    )


def _report(folder: RunFolder, entries: Sequence[MicrographEntry], picked: int) -> int:
    """Show the counts of the run and what to expect of its picks; return how many there are."""
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
    picks = sum(row.picks for row in good)
    right, particles = sum(row.right for row in good), sum(row.particles for row in good)
    console.print(
        f"{picks:,} picks in {len(good):,} of {len(rows):,} micrographs "
        f"({len(rows) - picked:,} were done before) -> {folder.folder / 'autopick.star'}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    if picks:
        console.print(
            f"threshold {folder.threshold:g}: expected precision {right / picks:.2f}, recall {right / particles:.2f}",
            highlight=False,
        )
    return picks
