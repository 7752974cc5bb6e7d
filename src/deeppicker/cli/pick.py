"""Find the particles in micrographs and write their coordinates for RELION."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.markup import escape
from rich.table import Table

from deeppicker.cli._shared.picking import telling
from deeppicker.cli._shared.show import Show, ShowConfig, showing
from deeppicker.cli._shared.types import SettingsFile
from deeppicker.config import (
    ClusterConfig,
    DeviceConfig,
    DiameterConfig,
    LearnFirstConfig,
    PickConfig,
    RunConfig,
    SelectConfig,
    Subject,
    WorkConfig,
)
from deeppicker.core import micrograph_key
from deeppicker.formats import find_micrographs
from deeppicker.formats.recorded import AUTOPICK
from deeppicker.formats.text import one_line
from deeppicker.parallel.processes import start_early

if TYPE_CHECKING:
    from deeppicker.runs.run import RunResult

_MOST_ROWS = 30  # a longer table on the screen helps nobody; summary.csv has all

EVERYDAY = (
    "input",
    "output",
    "overwrite",
    "settings",
    "diameter",
    "pixel_size",
    "model",
    "invert",
    "learn",
    "threshold",
    "num_particles",
    "workers",
    "device",
    "quiet",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker pick`."""

    input: Annotated[tuple[str, ...], tyro.conf.arg(metavar="INPUT..."), tyro.conf.Positional]
    """Micrographs: files, folders, patterns in quotes, or a RELION STAR file."""

    output: Path
    """Folder for the results; a second run skips finished micrographs."""

    recursive: bool = False
    """Pick also the micrographs of folders in folders, as EPU leaves them."""

    overwrite: bool = False
    """Start again even if the output folder holds picks made with other settings."""

    shard: str | None = None
    """``3/16``: pick only the third of 16 parts of the micrographs, for job arrays. All parts share the output folder;
    the last one to finish chooses the threshold for all."""

    settings: SettingsFile = None
    subject: Subject = Subject()
    learning: LearnFirstConfig = LearnFirstConfig()
    select: SelectConfig = SelectConfig()
    work: WorkConfig = WorkConfig()
    device: DeviceConfig = DeviceConfig()
    cluster: ClusterConfig = ClusterConfig()
    show: ShowConfig = ShowConfig()
    size: DiameterConfig = DiameterConfig()
    steps: PickConfig = PickConfig()


def run(options: Options) -> int:
    """Pick all unfinished micrographs; return 1 if some failed, 2 if all did or no particles were found."""
    return pick(options, lambda: False)


def pick(options: Options, told_to_stop: Callable[[], bool]) -> int:
    """Pick as `run`, until told to stop, which is asked after each micrograph."""
    nowhere = [word for word in options.input if not os.path.exists(word)]  # noqa: PTH110 - long names
    if nowhere:  # a wrong name is told at once, before PyTorch is loaded
        find_micrographs(nowhere)
    if _several(options):
        start_early()  # processes load PyTorch while this one does
    from deeppicker.runs.run import run_picking

    with showing(options.show) as show:
        with telling(show) as listener:
            result = run_picking(options.input, options.output, _config(options), listener, told_to_stop)
        _report(result, show)
        if result.advice:
            show.warn(result.advice)
            return 2
        if not result.failed:
            return 0
        return 1 if result.good else 2


def _several(options: Options) -> bool:
    """Tell whether processes of this machine will be wanted, before the micrographs are looked for."""
    if options.cluster.cluster is not None or options.work.workers == 0:
        return False
    alone = len(options.input) == 1 and Path(options.input[0]).suffix != ".star" and Path(options.input[0]).is_file()
    return options.work.workers is not None or not alone


def _config(options: Options) -> RunConfig:
    return RunConfig(
        subject=options.subject,
        learning=options.learning,
        select=options.select,
        work=options.work,
        device=options.device,
        cluster=options.cluster,
        size=options.size,
        steps=options.steps,
        recursive=options.recursive,
        overwrite=options.overwrite,
        shard=options.shard,
    )


def _report(result: RunResult, show: Show) -> None:
    """Show the counts of the run and what to expect of its picks."""
    if len(result.rows) <= _MOST_ROWS:
        table = Table("micrograph", "picks", "seconds", box=None)
        for row in result.good:
            table.add_row(escape(one_line(micrograph_key(row.micrograph))), f"{row.picks:,}", f"{row.seconds:.2f}")
        show.table(table)
    for row in result.rows:
        if row.error:
            show.warn(row.error)
    picks, right, particles, good = result.picks, result.right, result.particles, len(result.good)
    show.say(
        f"{picks:,} picks in {good:,} of {len(result.rows):,} micrographs "
        f"({result.before:,} were done before) -> {result.folder / AUTOPICK}",
        "end",
        picks=picks,
        micrographs=good,
        failed=len(result.rows) - good,
        threshold=result.threshold,
        expected_right=round(right, 1),
        expected_particles=round(particles, 1),
    )
    if picks and result.threshold is not None:
        show.text(
            f"threshold {result.threshold:g}: expected precision {right / picks:.2f}, recall {right / particles:.2f}"
        )
        show.text(f"next: deeppicker classify --picks {result.folder} --output classes")
