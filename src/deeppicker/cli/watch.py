"""Pick micrographs as they arrive during data collection; stop with Ctrl-C, a signal or a stop file."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.markup import escape
from rich.table import Table

from deeppicker.cli._shared.picking import telling
from deeppicker.cli._shared.show import Show, ShowConfig, showing
from deeppicker.cli._shared.types import SettingsFile
from deeppicker.config import (
    ArrivalConfig,
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
from deeppicker.formats.recorded import AUTOPICK
from deeppicker.formats.text import one_line
from deeppicker.runs.events import Listener, Picked, RunEvent, Totals
from deeppicker.runs.results import Row

if TYPE_CHECKING:
    from deeppicker.runs.watch import WatchResult

_LAST = 8  # micrographs that are shown

EVERYDAY = (
    "input",
    "output",
    "idle",
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
    """Options of `deeppicker watch`."""

    input: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FOLDER..."), tyro.conf.Positional]
    """Where micrographs arrive: folders, patterns in quotes, or a growing STAR file."""

    output: Path
    """Folder for the results, as in `deeppicker pick`; its status.json has the running totals."""

    settings: SettingsFile = None
    arrivals: ArrivalConfig = ArrivalConfig()
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
    """Pick until told to stop; return 1 if some micrographs failed, 2 if there was none that could be picked."""
    from deeppicker.runs.watch import watch_picking

    with showing(options.show) as show:
        with _stopping() as stop, telling(show) as shown, _Live(show, shown) as listener:
            result = watch_picking(options.input, options.output, _config(options), listener, stop)
        if result is None:
            show.warn("nothing was picked: too few micrographs have arrived; use `deeppicker pick` for these")
            return 2
        _report(result, show)
        if not result.totals.failed:
            return 0
        return 1 if result.done else 2


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
        arrivals=options.arrivals,
    )


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


class _Live:
    """Shows a table that follows the totals on a terminal, a line for each micrograph elsewhere; passes events on."""

    def __init__(self, show: Show, listener: Listener) -> None:
        self._show, self._listener = show, listener
        self._last = deque[Row](maxlen=_LAST)
        self._live = show.live()

    def __enter__(self) -> _Live:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: RunEvent) -> None:
        self._listener(event)
        if isinstance(event, Picked):
            self._last.append(event.row)
            if self._live is None:
                self._show.table(_line(event.row))
        if isinstance(event, Totals) and self._live is not None:
            self._live.start()  # once; not earlier, since there may be a bar
            self._live.update(_table(self._last, event))


def _line(row: Row) -> str:
    name = one_line(micrograph_key(row.micrograph))
    return one_line(row.error) or f"{name}: {row.picks:,} picks, score {_quality(row)}"


def _table(rows: Iterable[Row], totals: Totals) -> Table:
    table = Table("micrograph", "picks", "mean score", "recall", "seconds", box=None)
    for row in rows:
        recall = f"{row.right / row.particles:.2f}" if row.particles else "-"
        cells = (f"{row.picks:,}", _quality(row), recall, f"{row.seconds:.2f}")
        table.add_row(
            escape(one_line(micrograph_key(row.micrograph))), *(cells if not row.error else ("failed", "", "", ""))
        )
    table.caption = (
        f"{totals.micrographs:,} micrographs, {totals.failed:,} failed, {totals.waiting:,} waiting, "
        f"{totals.picks:,} picks, {totals.picks_per_micrograph} each, "
        f"{totals.micrographs_per_hour:,} micrographs per hour"
    )
    return table


def _quality(row: Row) -> str:
    return f"{row.right / row.picks:.2f}" if row.picks else "-"


def _report(result: WatchResult, show: Show) -> None:
    """Say what was picked."""
    for error in result.errors:
        show.warn(error)
    totals = result.totals
    show.say(
        f"{totals.picks:,} picks in {totals.micrographs:,} micrographs, {totals.failed:,} failed "
        f"-> {result.folder / AUTOPICK}",
        "end",
        **asdict(totals),
    )
