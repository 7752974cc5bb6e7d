"""Display of a run's events by the commands that pick: text and a bar for people, lines of JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

from rich.progress import ProgressColumn, Task
from rich.text import Text

from deeppicker.cli._shared.progress import Steps
from deeppicker.cli._shared.show import Show
from deeppicker.runs.events import (
    PICKING,
    DiameterFound,
    Learned,
    Message,
    Picked,
    Progressed,
    RunEvent,
    ShardEnded,
    Totals,
    Warned,
)


class RunShow:
    """A listener of a run that shows its events; a bar is on the terminal while a step goes on."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._bar: Steps | None = None
        self._picks = 0

    def __call__(self, event: RunEvent) -> None:
        """Show an event."""
        match event:
            case Message(text):
                self._show.text(text)
            case Warned(text):
                self._show.warn(text)
            case Progressed():
                self._move(event)
            case Picked(row):
                self._picks += row.picks
                self._show.row(row)
            case DiameterFound():
                _show_diameter(event, self._show)
            case Learned():
                _show_learned(event, self._show)
            case ShardEnded():
                _show_shard(event, self._show)
            case Totals():
                pass
            case _:
                assert_never(event)

    def _move(self, event: Progressed) -> None:
        if event.done == 0:
            self.close()
            columns: tuple[ProgressColumn, ...] = (_Speed(), _Picks()) if event.step == PICKING else ()
            self._bar = Steps(event.step, event.total, *columns, shown=self._show.shows_text)
        elif self._bar is not None:
            self._bar.at(event.done, picks=self._picks)
        if event.done == event.total:
            self.close()

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None


@contextmanager
def telling(show: Show) -> Iterator[RunShow]:
    """Return a listener that shows the events of a run."""
    listener = RunShow(show)
    try:
        yield listener
    finally:
        listener.close()


def _show_diameter(found: DiameterFound, show: Show) -> None:
    show.say(
        f"particle diameter: {found.value:.0f} Å, estimated from {found.micrographs:,} of the micrographs "
        f"({found.low:.0f}-{found.high:.0f} Å with 90 %; within 15 % with {100 * found.confidence:.0f} %)",
        "diameter",
        value=round(found.value, 1),
        low=round(found.low, 1),
        high=round(found.high, 1),
        confidence=round(found.confidence, 3),
    )


def _show_learned(learned: Learned, show: Show) -> None:
    show.say(
        learned.summary,
        "learning",
        used=learned.used,
        picks_before=learned.before,
        picks_after=learned.after,
        kept=round(learned.kept, 3),
    )


def _show_shard(ended: ShardEnded, show: Show) -> None:
    show.say(
        f"shard {ended.shard}: {ended.left:,} of all {ended.total:,} micrographs are not finished yet; the last shard "
        "chooses the threshold",
        "waiting",
        left=ended.left,
    )


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.2f} micrographs/s" if speed else "")


class _Picks(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['picks']:,} picks")
