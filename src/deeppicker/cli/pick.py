"""Find the particles in micrographs and write their coordinates for RELION."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.table import Table

from deeppicker.cli._shared.picking import Subject, kept_diameter, settle_diameter, source_of
from deeppicker.cli._shared.show import Show, ShowConfig, showing
from deeppicker.cli._shared.types import SettingsFile
from deeppicker.config import ClusterConfig, DiameterConfig, PickConfig, SelectConfig, WorkConfig
from deeppicker.core import MicrographEntry, micrograph_key
from deeppicker.errors import InputError
from deeppicker.formats import find_micrographs
from deeppicker.formats.recorded import AUTOPICK, Recorded
from deeppicker.runs.folder import RunFolder

_NOTHING = (
    "no particles are in sight, so the coordinate files are empty; if there are some, set --diameter (in Å), "
    "and --invert if they are bright"
)
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
    "threshold",
    "num_particles",
    "workers",
    "quiet",
    "log_file",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker pick`."""

    input: Annotated[tuple[str, ...], tyro.conf.arg(metavar="INPUT..."), tyro.conf.Positional]
    """Micrographs: files, folders, globs, or a RELION micrographs STAR file."""

    output: Path
    """Folder for the results; a second run completes what is missing."""

    overwrite: bool = False
    """Start again although the output folder holds picks made with other settings."""

    shard: str | None = None
    """``3/16``: pick only the third of 16 parts of the micrographs, for job arrays. All parts have the same output
    folder; the last one that ends chooses the threshold for all."""

    settings: SettingsFile = None
    subject: Subject = Subject()
    select: SelectConfig = SelectConfig()
    work: WorkConfig = WorkConfig()
    cluster: ClusterConfig = ClusterConfig()
    show: ShowConfig = ShowConfig()
    size: DiameterConfig = DiameterConfig()
    steps: PickConfig = PickConfig()


def run(options: Options) -> int:
    """Pick all micrographs that are not done yet; return 1 if some failed, 2 if all did or no particle is in sight."""
    return pick(options, lambda: False)


def pick(options: Options, told_to_stop: Callable[[], bool]) -> int:
    """Pick as `run`, until told to stop, which is asked after each micrograph."""
    from deeppicker.networks.model import load_model
    from deeppicker.parallel.staff import staff
    from deeppicker.runs.pick_job import PickJob, Task, pick_into, read_ahead, refuse_twins

    entries = find_micrographs(options.input)
    refuse_twins(entries)
    mine = part(entries, options.shard)
    if options.overwrite and options.shard:
        raise InputError("--overwrite would delete what other shards pick; remove the folder before the first one")
    with (
        showing(options.show) as show,
        staff(options.work, options.cluster, len(mine), options.output, show.text) as crew,
    ):
        model = load_model(options.subject.model)
        earlier = Recorded(options.output).diameter if options.output.is_dir() and not options.overwrite else None
        size = kept_diameter(options.subject, model, earlier)
        size = size or settle_diameter(options.subject, options.size, model, entries, (crew, show))
        task = Task(model, size.value, source_of(options.subject), options.steps)
        select = options.select if size.seen else replace(options.select, threshold=1.0)  # nothing is a pick
        folder = RunFolder(options.output, task.settings(), select, overwrite=options.overwrite)
        folder.refuse_other_paths([entry.name for entry in entries])
        missing = [entry for entry in mine if not folder.is_done(entry.name)]
        failed = 0
        try:
            with crew.hire(PickJob(task, folder.results.resolved(), crew.threads)) as each:
                ahead = read_ahead(missing) if crew.local else crew.reach(missing)
                for row in show.follow(pick_into(folder, each, ahead, options.work.retries), len(missing)):
                    failed += bool(row.error)
                    if told_to_stop():
                        show.warn("told to stop; the same command continues where this one stopped")
                        break
        finally:
            _finish(folder, entries, options, show)
        picks = _report(folder, mine, len(missing), show)
        if size.estimated and not picks and failed < len(mine):
            show.warn(_NOTHING)
            return 2
        if not failed:
            return 0
        return 1 if any(folder.is_done(entry.name) for entry in mine) else 2


def part(entries: Sequence[MicrographEntry], shard: str | None) -> list[MicrographEntry]:
    """Return the micrographs of a shard such as ``3/16``; all if there is none.

    Raises
    ------
    InputError
        If the shard does not exist.
    """
    if shard is None:
        return list(entries)
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    index, number = (int(text) for text in match.groups()) if match else (0, 0)
    if not 1 <= index <= number:
        raise InputError(f"--shard {shard} is no part; give two numbers such as 3/16, from 1/16 to 16/16")
    return list(entries[index - 1 :: number])


def _finish(folder: RunFolder, entries: Sequence[MicrographEntry], options: Options, show: Show) -> None:
    """Select the picks; of a shard only if it is the last one."""
    names = [entry.name for entry in entries]
    if options.shard is not None:
        folder.reload(names)
        left = sum(not folder.is_settled(name) for name in names)
        if left:
            show.say(
                f"shard {options.shard}: {left:,} of all {len(names):,} micrographs are not done yet; the last shard "
                "chooses the threshold",
                "waiting",
                left=left,
            )
            return
    folder.finish(names)


def _report(folder: RunFolder, entries: Sequence[MicrographEntry], picked: int, show: Show) -> int:
    """Show the counts of the run and what to expect of its picks; return how many there are."""
    keys = {micrograph_key(entry.name) for entry in entries}
    rows = [row for row in folder.rows if micrograph_key(row.micrograph) in keys]
    good = [row for row in rows if not row.error]
    if len(rows) <= _MOST_ROWS:
        table = Table("micrograph", "picks", "seconds", box=None)
        for row in good:
            table.add_row(escape(micrograph_key(row.micrograph)), f"{row.picks:,}", f"{row.seconds:.2f}")
        show.table(table)
    for row in rows:
        if row.error:
            show.warn(row.error)
    picks = sum(row.picks for row in good)
    right, particles = sum(row.right for row in good), sum(row.particles for row in good)
    show.say(
        f"{picks:,} picks in {len(good):,} of {len(rows):,} micrographs "
        f"({len(rows) - picked:,} were done before) -> {folder.folder / AUTOPICK}",
        "end",
        picks=picks,
        micrographs=len(good),
        failed=len(rows) - len(good),
        threshold=folder.threshold,
        expected_right=round(right, 1),
        expected_particles=round(particles, 1),
    )
    if picks and folder.threshold is not None:
        show.text(
            f"threshold {folder.threshold:g}: expected precision {right / picks:.2f}, recall {right / particles:.2f}"
        )
    return picks
