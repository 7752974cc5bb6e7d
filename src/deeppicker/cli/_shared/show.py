"""Output of a run: text and a live bar for people, JSON lines for programs, a log file for later."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

from deeppicker.cli._shared.progress import track
from deeppicker.cli._shared.types import OptionalFile
from deeppicker.errors import OutputError
from deeppicker.formats.atomic import make_folder
from deeppicker.formats.text import one_line
from deeppicker.runs.results import Row

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """Messages during a run."""

    quiet: bool = False
    """Print nothing but warnings and errors."""

    json: bool = False
    """Print JSON instead of text: one object per line for the diameter, each micrograph and the whole run."""

    log_file: OptionalFile = None
    """File to which all messages are appended, with the time."""


class Show:
    """Shows what happens in a run as `ShowConfig` says."""

    def __init__(self, config: ShowConfig) -> None:
        self._config = config
        self._log = logging.getLogger("deeppicker")

    @property
    def shows_text(self) -> bool:
        """Whether there is text for people."""
        return not (self._config.quiet or self._config.json)

    def say(self, text: str, event: str, **values: object) -> None:
        """Show a text to people, an event with values to programs."""
        self.text(text)
        if self._config.json:
            print(json.dumps({"event": event, **values}), flush=True)

    def text(self, text: str) -> None:
        """Show a text to people only."""
        self._log.info(one_line(text))
        self.table(one_line(text))

    def table(self, table: RenderableType) -> None:
        """Show something to people, but not in the log."""
        if self.shows_text:
            Console().print(table, soft_wrap=True, highlight=False, markup=False)

    def warn(self, text: str) -> None:
        """Show a warning, or an error that does not end the run, as one line."""
        line = one_line(text)
        self._log.warning(line)
        print(f"deeppicker: {line}", file=sys.stderr, flush=True)

    def row(self, row: Row) -> None:
        """Show what became of a micrograph to programs and in the log."""
        if row.error:
            self._log.error(one_line(row.error))
        else:
            self._log.info("%s: %d picks, %.2f s", one_line(row.micrograph), row.picks, row.seconds)
        if self._config.json:
            print(json.dumps({"event": "micrograph", **asdict(row)}), flush=True)

    def live(self) -> Live | None:
        """Return a place on the terminal for a table that changes, to be started; None where there is no terminal."""
        console = Console(stderr=True)
        return Live(console=console, refresh_per_second=4) if self.shows_text and console.is_terminal else None

    def track(self, items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
        """Yield the items while showing how many are done."""
        yield from track(items, what, total) if self.shows_text else items


@contextmanager
def showing(config: ShowConfig) -> Iterator[Show]:
    """Return what shows a run, and keep its log file open meanwhile.

    Raises
    ------
    OutputError
        If the log file cannot be written.
    """
    log = logging.getLogger("deeppicker")
    handler: logging.Handler = logging.NullHandler()
    if config.log_file is not None:
        handler = _log_handler(config.log_file)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.info("deeppicker %s", " ".join(sys.argv[1:]))
    try:
        yield Show(config)
    except BaseException as error:
        log.error("ended by %s: %s", type(error).__name__, error)
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def _log_handler(path: Path) -> logging.Handler:
    make_folder(path.parent)
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"--log-file {path} cannot be written: {error.strerror}; choose another") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    return handler
