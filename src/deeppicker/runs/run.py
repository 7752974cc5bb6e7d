"""A whole run: find the micrographs, settle the diameter, pick, select, report."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deeppicker.config import RunConfig
from deeppicker.core import MicrographEntry, micrograph_key
from deeppicker.errors import InputError
from deeppicker.formats import find_micrographs
from deeppicker.formats.inputs import doubtful_pixel_sizes
from deeppicker.formats.provenance import outside_project
from deeppicker.formats.recorded import AUTOPICK, PICKS_SUFFIX
from deeppicker.runs.diameter import settle_diameter
from deeppicker.runs.events import PICKING, Listener, Progressed, ShardEnded, Warned, ignore
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.learning import begin_learnt
from deeppicker.runs.nothing import advice_on_nothing
from deeppicker.runs.read_ahead import read_ahead
from deeppicker.runs.results import Row
from deeppicker.runs.session import Picking, open_session


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Parameters
    ----------
    folder : Path
        The run folder.
    diameter : float
        Particle diameter in Å.
    advice : str
        What to try if there are no picks, in one line; empty if there are some, or others are still to come.
    threshold : float or None
        Least score of the picks; None until the last shard chooses it.
    rows : tuple of Row
        What is known of each micrograph of the run.
    before : int
        Number of micrographs that were done before.
    failed : int
        Number of micrographs of the run that failed.
    """

    folder: Path
    diameter: float
    advice: str
    threshold: float | None
    rows: tuple[Row, ...]
    before: int
    failed: int

    @property
    def good(self) -> list[Row]:
        """The micrographs that have picks, or none because nothing was found."""
        return [row for row in self.rows if not row.error]

    @property
    def picks(self) -> int:
        """The number of picks."""
        return sum(row.picks for row in self.good)

    @property
    def right(self) -> float:
        """The number of picks that are expected to be particles."""
        return float(sum(row.right for row in self.good))

    @property
    def particles(self) -> float:
        """The expected number of particles among all candidates."""
        return float(sum(row.particles for row in self.good))


def run_picking(
    inputs: Sequence[str],
    output: str | Path,
    config: RunConfig = RunConfig(),
    listener: Listener = ignore,
    stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Pick all micrographs that are not done yet into a folder, and select the picks of all.

    Parameters
    ----------
    inputs : sequence of str
        The micrographs, as those of `find_micrographs`.
    output : str or Path
        The run folder. A second run completes what is missing.
    config : RunConfig
        All settings.
    listener : callable
        Is told what happens, see `deeppicker.runs.events`.
    stop : callable
        Asked after each micrograph whether to stop there.

    Raises
    ------
    DeepPickerError
        If nothing can be picked. What fails for single micrographs is told by their rows.
    """
    entries = find_micrographs(inputs, recursive=config.recursive)
    refuse_twins(entries)
    mine = part(entries, config.shard)
    if config.overwrite and config.shard:
        raise InputError("--overwrite would delete the picks of other shards; remove the folder before the first one")
    for doubt in doubtful_pixel_sizes(entries, config.subject.pixel_size):
        listener(Warned(f"warning: {doubt}"))
    project = outside_project(entries)
    if project is not None:
        listener(
            Warned(
                f"warning: RELION will not find the coordinates that {Path(output) / AUTOPICK} lists, because it looks "
                f"from its project folder; run this command in {project}"
            )
        )
    with open_session(Path(output), config, len(mine), listener) as session:
        model = session.load_model()
        size = settle_diameter(session, model, entries)
        select = config.select if size.seen else replace(config.select, threshold=1.0)  # nothing is a pick
        picking = begin_learnt(session, model, size, entries, select)
        picking.folder.refuse_other_paths(entries)
        picking.record_inputs(inputs)
        missing = picking.folder.missing(mine)
        try:
            _pick(picking, missing, stop)
        finally:
            selected = _finish(picking, entries)
        rows = _rows_of(picking.folder, mine)
        good = [row for row in rows if not row.error]
        failed = len(rows) - len(good)
        nothing = selected and good and not any(row.picks for row in good)
        advice = advice_on_nothing(session, model, size, mine, good) if nothing else ""
        before = len(mine) - len(missing)
        return RunResult(Path(output), size.value, advice, picking.folder.threshold, rows, before, failed)


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
        raise InputError(f"--shard {shard} is not a part; give two numbers such as 3/16, from 1/16 to 16/16")
    return list(entries[index - 1 :: number])


def refuse_twins(entries: Sequence[MicrographEntry]) -> None:
    """Check that no two micrographs have the same name, and so the same output file.

    Raises
    ------
    InputError
        If two have.
    """
    seen: dict[str, str] = {}
    for entry in entries:
        key = micrograph_key(entry.name)
        if key in seen:
            raise InputError(
                f"{seen[key]} and {entry.name} would both write {key}{PICKS_SUFFIX}; "
                "pick them into separate --output folders"
            )
        seen[key] = entry.name


def _pick(picking: Picking, missing: Sequence[MicrographEntry], stop: Callable[[], bool]) -> None:
    """Pick what is missing, until told to stop."""
    listener = picking.session.listener
    listener(Progressed(PICKING, 0, len(missing)))
    ahead = read_ahead(missing) if picking.session.pool.local else missing
    for done, _ in enumerate(picking.pick(ahead), 1):
        listener(Progressed(PICKING, done, len(missing)))
        if stop():
            listener(Warned("told to stop; repeat the command to continue"))
            break


def _finish(picking: Picking, entries: Sequence[MicrographEntry]) -> bool:
    """Select the picks, and return True; of a shard only if it is the last one."""
    folder, shard = picking.folder, picking.session.config.shard
    names = [entry.name for entry in entries]
    if shard is not None:
        folder.reload(names)
        left = sum(not folder.is_settled(entry.name, entry.path) for entry in entries)
        if left:
            picking.session.listener(ShardEnded(shard, left, len(names)))
            return False
    picking.finish(names)
    return True


def _rows_of(folder: RunFolder, entries: Sequence[MicrographEntry]) -> tuple[Row, ...]:
    keys = {micrograph_key(entry.name) for entry in entries}
    return tuple(row for row in folder.rows if micrograph_key(row.micrograph) in keys)
