"""A run that is fed by arrivals: pick micrographs during data collection."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Event

from deeppicker.config import RunConfig
from deeppicker.core import MicrographEntry, micrograph_key
from deeppicker.errors import InputError, OutputError, OvertakenError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.recorded import STATUS
from deeppicker.networks.model import Model
from deeppicker.parallel.processes import usable_cores
from deeppicker.runs.diameter import Size, micrographs_needed, settle_diameter
from deeppicker.runs.events import Listener, Totals, ignore
from deeppicker.runs.feed import Feed
from deeppicker.runs.learning import begin_again, begin_learnt
from deeppicker.runs.results import Row
from deeppicker.runs.session import Picking, open_session
from deeppicker.runs.state import writing

_GROWTH = 1.5  # the threshold is chosen anew whenever there are so many times as many micrographs
_AHEAD = 2  # micrographs for each worker that are begun before one looks for new ones
_UNKNOWN = 8  # workers of a cluster that grows


@dataclass(frozen=True)
class WatchResult:
    """What a run left that was fed by arrivals.

    Parameters
    ----------
    folder : Path
        The run folder.
    totals : Totals
        Of the micrographs of this run.
    done : int
        Number of the micrographs that have picks, those that were done before among them.
    errors : tuple of str
        Why micrographs failed.
    """

    folder: Path
    totals: Totals
    done: int
    errors: tuple[str, ...]


def watch_picking(
    inputs: Sequence[str],
    output: str | Path,
    config: RunConfig = RunConfig(),
    listener: Listener = ignore,
    stop: Event | None = None,
) -> WatchResult | None:
    """Pick micrographs as they arrive, until told to stop; None if none arrived.

    Parameters
    ----------
    inputs : sequence of str
        Where micrographs will arrive: folders, patterns, or a STAR file that grows.
    output : str or Path
        The run folder; ``status.json`` in it has the running totals.
    config : RunConfig
        All settings; ``overwrite`` and ``shard`` are not for this.
    listener : callable
        Is told what happens, see `deeppicker.runs.events`.
    stop : Event
        Ends the run once it is set.

    Raises
    ------
    DeepPickerError
        If nothing can be picked. What fails for single micrographs is told by their rows.
    """
    if not inputs:
        raise InputError("no folder is given; give the folder in which micrographs will arrive")
    folder = make_folder(Path(output))
    arrivals = replace(config.arrivals, stop_file=config.arrivals.stop_file or folder / "STOP")
    with open_session(folder, config, max(2, usable_cores()), listener) as session:
        model = session.load_model()
        feed = Feed(inputs, arrivals, stop or Event(), listener)
        first = feed.first(micrographs_needed(session, model))
        if not first:
            return None
        size = settle_diameter(session, model, first)
        picking = begin_learnt(session, model, size, first, config.select)
        picking.record_inputs(inputs)
        return _Watching(picking, feed, model, size).run()


@dataclass
class _Watching:
    """Picks what a feed gives, and counts it. With the model and the size it began with, it learns again."""

    picking: Picking
    feed: Feed
    model: Model
    size: Size
    begun: float = field(default_factory=time.monotonic)
    entries: dict[str, MicrographEntry] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)

    def run(self) -> WatchResult:
        number, chosen = self.picking.session.pool.number, 0
        try:
            for batch in self.feed.batches(_AHEAD * max(1, number or _UNKNOWN)):
                missing = self._pick(batch)
                if missing and self._learn_again():
                    chosen = 0
                elif missing and len(self.rows) >= _GROWTH * chosen:
                    self.picking.folder.finish(list(self.entries))
                    chosen = len(self.rows)
                self._write_status("running")
        finally:
            self.picking.finish(list(self.entries))
            self._write_status("stopped")
        done = sum(self.picking.folder.is_done(name) for name in self.entries)
        errors = tuple(row.error for row in self.rows.values() if row.error)
        return WatchResult(self.picking.folder.folder, self._totals(waiting=0), done, errors)

    def _pick(self, batch: Sequence[MicrographEntry]) -> int:
        """Pick what is missing of a batch; return how many that were."""
        self.entries.update((entry.name, entry) for entry in batch)
        missing = self.picking.folder.missing(batch)
        for row in self.picking.pick(missing):
            self.rows[micrograph_key(row.micrograph)] = row
            self.picking.session.listener(self._totals(self.feed.waiting))
        return len(missing)

    def _learn_again(self) -> bool:
        """Start the folder again with what more micrographs teach, if that is due; return whether it did."""
        entries = list(self.entries.values())
        picking = begin_again(self.picking, self.model, self.size, entries)
        if picking is None:
            return False
        self.picking = picking
        self.rows.clear()
        self.feed.put_back(entries)
        return True

    def _totals(self, waiting: int) -> Totals:
        return totals_of(self.rows.values(), time.monotonic() - self.begun, waiting)

    def _write_status(self, state: str) -> None:
        totals = asdict(self._totals(self.feed.waiting))
        status = {"state": state, "updated": time.strftime("%Y-%m-%dT%H:%M:%S"), **totals}
        folder = self.picking.folder
        with suppress(OutputError, OvertakenError), writing(folder.folder, folder.results.generation):
            atomic_write(folder.folder / STATUS, json.dumps(status, indent=1) + "\n")


def totals_of(rows: Iterable[Row], seconds: float, waiting: int) -> Totals:
    """Return the totals of the micrographs of so many seconds, while some are waiting."""
    everything = list(rows)
    good = [row for row in everything if not row.error]
    picks = sum(row.picks for row in good)
    right, particles = sum(row.right for row in good), sum(row.particles for row in good)
    return Totals(
        micrographs=len(good),
        failed=len(everything) - len(good),
        waiting=waiting,
        picks=picks,
        picks_per_micrograph=round(picks / len(good), 1) if good else None,
        mean_score=round(right / picks, 3) if picks else None,
        expected_recall=round(right / particles, 3) if particles else None,
        micrographs_per_hour=round(3600 * len(everything) / max(seconds, 1e-9), 1),
    )
