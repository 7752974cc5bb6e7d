"""Pick micrographs as they arrive during data collection; stop with Ctrl-C, a signal or a stop file."""

from __future__ import annotations

import json
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.markup import escape
from rich.table import Table

from deeppicker.cli._shared.picking import Subject, kept_diameter, settle_diameter, source_of
from deeppicker.cli._shared.show import Show, ShowConfig, showing
from deeppicker.cli._shared.types import SettingsFile
from deeppicker.config import ClusterConfig, DiameterConfig, PickConfig, SelectConfig, WorkConfig
from deeppicker.config.limits import positive
from deeppicker.core import MicrographEntry, micrograph_key
from deeppicker.errors import InputError, OutputError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.recorded import AUTOPICK, Recorded
from deeppicker.runs.arrivals import Arrivals
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.results import Row

if TYPE_CHECKING:
    pass

_GROWTH = 1.5  # the threshold is chosen anew whenever there are so many times as many micrographs
_LAST = 8  # micrographs that are shown
_BATCH = 2  # micrographs for each worker that are begun before one looks for new ones
_UNKNOWN = 8  # workers of a cluster that grows

EVERYDAY = (
    "input",
    "output",
    "idle",
    "stop_file",
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
    """Options of `deeppicker watch`."""

    input: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FOLDER..."), tyro.conf.Positional]
    """Where micrographs will arrive: folders, patterns in quotes, or a STAR file that grows."""

    output: Path
    """Folder for the results, as that of `deeppicker pick`; status.json in it has the running totals."""

    settle: float | int = 5
    """Seconds for which a file must stay unchanged before it is taken for complete."""

    interval: float | int = 10
    """Seconds after which the folders are looked at again, whether the system has notified of a new file or not."""

    stop_file: Path | None = None
    """File whose appearance ends the command; default: STOP in the output folder."""

    idle: float | int | None = None
    """Minutes without a new micrograph after which the command ends; default: never."""

    settings: SettingsFile = None
    subject: Subject = Subject()
    select: SelectConfig = SelectConfig()
    work: WorkConfig = WorkConfig()
    cluster: ClusterConfig = ClusterConfig()
    show: ShowConfig = ShowConfig()
    size: DiameterConfig = DiameterConfig()
    steps: PickConfig = PickConfig()

    def __post_init__(self) -> None:
        positive(self, "settle", "interval", "idle")


@dataclass
class Totals:
    """What was picked since the command began."""

    begun: float
    rows: dict[str, Row] = field(default_factory=dict)
    last: deque[Row] = field(default_factory=lambda: deque(maxlen=_LAST))

    def add(self, row: Row) -> None:
        """Count a micrograph."""
        self.rows[micrograph_key(row.micrograph)] = row
        self.last.append(row)

    def status(self, now: float, waiting: int) -> dict[str, object]:
        """Return the running totals, for programs and for people."""
        good = [row for row in self.rows.values() if not row.error]
        picks = sum(row.picks for row in good)
        right, particles = sum(row.right for row in good), sum(row.particles for row in good)
        hours = max(now - self.begun, 1e-9) / 3600
        return {
            "micrographs": len(good),
            "failed": len(self.rows) - len(good),
            "waiting": waiting,
            "picks": picks,
            "picks_per_micrograph": round(picks / len(good), 1) if good else None,
            "mean_score": round(right / picks, 3) if picks else None,
            "expected_recall": round(right / particles, 3) if particles else None,
            "micrographs_per_hour": round(len(self.rows) / hours, 1),
        }


def run(options: Options) -> int:
    """Pick until told to stop; return 1 if some micrographs failed, 2 if there was none that could be picked."""
    from deeppicker.networks.model import load_model
    from deeppicker.parallel.processes import usable_cores
    from deeppicker.parallel.staff import staff
    from deeppicker.runs.pick_job import PickJob, Task, pick_into

    if not options.input:
        raise InputError("no folder is given; give the folder in which micrographs will arrive")
    make_folder(options.output)
    workers = options.work.workers if options.work.workers is not None else usable_cores()
    with (
        showing(options.show) as show,
        _stopping() as stop,
        staff(replace(options.work, workers=workers), options.cluster, workers, options.output, show.text) as crew,
    ):
        model = load_model(options.subject.model)
        feed = _Feed(options, stop, show)
        earlier = Recorded(options.output).diameter
        known = any(diameter is not None for diameter in (options.subject.diameter, model.diameter, earlier))
        needed = 1 if known else options.size.looked_at
        first = feed.first(needed)
        if not first:
            show.warn("nothing was picked: too few micrographs have arrived; `deeppicker pick` takes them as they are")
            return 2
        size = kept_diameter(options.subject, model, earlier)
        size = size or settle_diameter(options.subject, options.size, model, first, (crew, show))
        task = Task(model, size.value, source_of(options.subject), options.steps)
        folder = RunFolder(options.output, task.settings(), options.select)
        totals, names, chosen = Totals(time.monotonic()), dict[str, None](), 0
        try:
            with crew.hire(PickJob(task, folder.results.resolved(), crew.threads)) as each, _live(show) as update:
                for batch in feed.batches(_BATCH * max(1, crew.number or _UNKNOWN)):
                    names.update(dict.fromkeys(entry.name for entry in batch))
                    missing = [entry for entry in batch if not folder.is_done(entry.name)]
                    for row in pick_into(folder, each, crew.reach(missing), options.work.retries):
                        totals.add(row)
                        show.row(row)
                        update(totals, feed.waiting)
                    if missing and len(totals.rows) >= _GROWTH * chosen:
                        folder.finish(list(names))
                        chosen = len(totals.rows)
                    _write_status(options.output, totals, feed.waiting, "running")
        finally:
            folder.finish(list(names))
            _write_status(options.output, totals, feed.waiting, "stopped")
        return _report(folder, list(names), totals, show)


class _Feed:
    """The micrographs that arrive, until the end."""

    def __init__(self, options: Options, stop: Event, show: Show) -> None:
        self._arrivals = Arrivals(options.input, float(options.settle))
        self._interval = min(float(options.interval), float(options.settle))
        self._idle = math.inf if options.idle is None else 60 * float(options.idle)
        self._stop, self._show = stop, show
        self._stop_file = options.stop_file or options.output / "STOP"
        self._backlog: deque[MicrographEntry] = deque()

    @property
    def waiting(self) -> int:
        """The number of micrographs that are there but not begun."""
        return len(self._backlog) + self._arrivals.waiting

    def first(self, needed: int) -> list[MicrographEntry]:
        """Wait for so many micrographs and return them; fewer if no more come, none if told to stop before."""
        said = 0
        for there in self._news():
            if there >= needed:
                break
            if there > said:
                said = there
                self._show.text(f"{there} of {needed} micrographs are there by which the diameter is estimated")
        return [] if self._told_to_stop() else list(self._backlog)

    def batches(self, size: int) -> Iterator[list[MicrographEntry]]:
        """Yield micrographs in the order of arrival, so many at a time at most, until told to stop or no more come."""
        news = self._news()
        while not self._told_to_stop() and (self._backlog or next(news, None) is not None):
            self._backlog.extend(self._arrivals.ready(time.monotonic()))
            if self._backlog:
                yield [self._backlog.popleft() for _ in range(min(size, len(self._backlog)))]

    def _news(self) -> Iterator[int]:
        """Take up what arrives; yield how many micrographs there are to be picked, again and again until the end."""
        latest = time.monotonic()
        for _ in self._arrivals.changes(self._interval, self._stop):
            if self._told_to_stop():
                return
            before = len(self._backlog)
            self._backlog.extend(self._arrivals.ready(time.monotonic()))
            now = time.monotonic()
            if len(self._backlog) > before:
                latest = now
            elif now - latest > self._idle:
                self._show.text(f"nothing has arrived for {self._idle / 60:g} minutes, so this ends")
                return
            yield len(self._backlog)

    def _told_to_stop(self) -> bool:
        if self._stop_file.exists():
            self._show.text(f"{self._stop_file} is there, so this ends")
            self._stop.set()
            with suppress(OSError):  # else the next run would end at once
                self._stop_file.unlink()
        return self._stop.is_set()


@contextmanager
def _stopping() -> Iterator[Event]:
    """Set an event at the first signal to stop; the second one ends the program as usual."""
    stop = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def told(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, told)
    try:
        yield stop
    finally:
        restore()


@contextmanager
def _live(show: Show) -> Iterator[Callable[[Totals, int], None]]:
    """Show a table that follows the totals on a terminal, a line for each micrograph elsewhere."""
    with show.live() as live:

        def update(totals: Totals, waiting: int) -> None:
            if live is not None:
                live.update(_table(totals, waiting))
            else:
                row = totals.last[-1]
                show.table(row.error or f"{micrograph_key(row.micrograph)}: {row.picks:,} picks, score {_quality(row)}")

        yield update


def _table(totals: Totals, waiting: int) -> Table:
    status = totals.status(time.monotonic(), waiting)
    table = Table("micrograph", "picks", "mean score", "recall", "seconds", box=None)
    for row in totals.last:
        recall = f"{row.right / row.particles:.2f}" if row.particles else "-"
        cells = (f"{row.picks:,}", _quality(row), recall, f"{row.seconds:.2f}")
        table.add_row(escape(micrograph_key(row.micrograph)), *(cells if not row.error else ("failed", "", "", "")))
    table.caption = (
        f"{status['micrographs']:,} micrographs, {status['failed']:,} failed, {waiting:,} waiting, "
        f"{status['picks']:,} picks, {status['picks_per_micrograph']} each, "
        f"{status['micrographs_per_hour']:,} micrographs an hour"
    )
    return table


def _quality(row: Row) -> str:
    return f"{row.right / row.picks:.2f}" if row.picks else "-"


def _write_status(output: Path, totals: Totals, waiting: int, state: str) -> None:
    status = {"state": state, "updated": time.strftime("%Y-%m-%dT%H:%M:%S"), **totals.status(time.monotonic(), waiting)}
    with suppress(OutputError):  # the picks matter more
        atomic_write(output / "status.json", json.dumps(status, indent=1) + "\n")


def _report(folder: RunFolder, names: Sequence[str], totals: Totals, show: Show) -> int:
    """Say what was picked; return the exit status."""
    for row in totals.rows.values():
        if row.error:
            show.warn(row.error)
    status = totals.status(time.monotonic(), 0)
    show.say(
        f"{status['picks']:,} picks in {status['micrographs']:,} micrographs, {status['failed']:,} failed "
        f"-> {folder.folder / AUTOPICK}",
        "end",
        **status,
    )
    if not status["failed"]:
        return 0
    return 1 if any(folder.is_done(name) for name in names) else 2
