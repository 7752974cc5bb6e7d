"""A progress bar on a terminal; silent where the output is not one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


def progress_bar(*more: ProgressColumn, shown: bool = True) -> Progress:
    """Return a bar on stderr with how many are done, columns of the caller, and how long the rest will take."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *more, TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True)


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, showing on stderr how many are done and how long the rest will take.

    ``total`` is needed where the items have no length.
    """
    with progress_bar() as progress:
        yield from progress.track(items, total=total, description=what)
