"""The output folder of a picking run: its settings, what is done, selection, tables. No torch.

Layout::

    DIR/run.json                                 settings; picks made with others are never mixed in
    DIR/<micrograph>_autopick.star               picks: candidates that reach the threshold
    DIR/candidates/<micrograph>_candidates.star  the other candidates above the floor
    DIR/candidates/<micrograph>_rejected.star    what cannot be a particle, and why
    DIR/junk/<micrograph>_junk.png               white where there is contamination
    DIR/records/<micrograph>.json                counts, seconds, how it was made, why it failed
    DIR/autopick.star                            RELION's list of the coordinate files
    DIR/summary.csv                              the records as one table

Every file is written whole or not at all. A micrograph is done once its ``_autopick.star`` exists, which is written
last; so whatever stops a run, the same command completes it. Several processes, also of several machines, may work in
the same folder: what they share is changed under a lock.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from deeppicker.config import CAUTION, SelectConfig
from deeppicker.core import Picks, micrograph_key
from deeppicker.errors import InputError, OutputError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.recorded import AUTOPICK, CANDIDATES, PICKS, RUN, SELECT, SUMMARY, THRESHOLD
from deeppicker.formats.relion import star
from deeppicker.formats.text import one_line
from deeppicker.runs.results import Results, Row, row_of
from deeppicker.runs.selection import select, threshold_of

_COLUMNS = ("micrograph", "picks", "candidates", "right", "particles", "seconds", "error")
_PROVISIONAL = 0.3  # threshold until one is chosen
_REFRESH = 10.0  # seconds between rewrites of the two tables during a run


class RunFolder:
    """The output folder of `deeppicker pick`, open for one run.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    settings : mapping
        Everything that decides which candidates are found (JSON values).
    select : SelectConfig
        Which candidates become picks. May differ from that of an earlier run in the same folder.
    overwrite : bool
        Start again although the folder holds picks made with other settings.

    Raises
    ------
    InputError
        If the folder holds picks made with other settings, or by another program.
    OutputError
        If the folder cannot be written.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], select: SelectConfig, *, overwrite: bool = False
    ) -> None:
        self.folder = make_folder(folder)
        self._settings = json.loads(json.dumps(settings))
        digest = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode()).hexdigest()[:16]
        self.results = Results(folder, f"DeepPicker {version('deeppicker')}, settings {digest}")
        self.results.make_folders()
        self._select = select
        self._caution = float(self._settings.get("calibration", {}).get("caution", CAUTION))
        self._rows: dict[str, Row] = {}
        self._refreshed = time.monotonic()
        self.threshold = select.threshold  # None until it is chosen
        self._selected: dict[str, Any] | None = asdict(select)  # what all finished micrographs follow, if known
        with self._locked():
            self._open(overwrite)

    def _open(self, overwrite: bool) -> None:
        earlier = None if overwrite else self._read_settings()
        holds_picks = bool(self.results.finished())
        if earlier is None and not overwrite and holds_picks:
            raise InputError(
                f"{self.folder} holds picks but no {RUN}, so another program made them; "
                "choose another --output, or set --overwrite to delete them"
            )
        state = {key: (earlier or {}).pop(key, None) for key in (SELECT, THRESHOLD)}
        if earlier is None or (earlier != self._settings and not holds_picks):
            self.results.clear()
            self._summary_file.unlink(missing_ok=True)
        else:
            _refuse_mixture(self.folder, earlier, self._settings)
            if state[SELECT] != self._selected:
                self._selected = None
            self._rows = {micrograph_key(row.micrograph): row for row in self.results.records() if self._counts(row)}
        self._write_settings()

    @property
    def rows(self) -> list[Row]:
        """What is known of each micrograph, in the order in which they were first seen."""
        return list(self._rows.values())

    @property
    def provisional(self) -> float:
        """The threshold by which picks are written until one is chosen for all."""
        return _PROVISIONAL if self.threshold is None else self.threshold

    def refuse_other_paths(self, names: Iterable[str]) -> None:
        """Check that no micrograph has the name of another one, of another folder, that was picked before.

        Raises
        ------
        InputError
            If one has; names that are no paths of existing files are not judged.
        """
        for name in names:
            row = self._rows.get(micrograph_key(name))
            if row is None or row.micrograph == name:
                continue
            before, now = Path(row.micrograph), Path(name)
            if before.is_file() and now.is_file() and not before.samefile(now):
                raise InputError(
                    f"{self.folder} holds the picks of {row.micrograph}, which would be mistaken for those of {name}; "
                    "choose another --output"
                )

    def is_done(self, name: str) -> bool:
        """Return whether the picks of a micrograph are complete."""
        return self.results.is_done(name)

    def is_settled(self, name: str) -> bool:
        """Return whether a micrograph is done, or known to have failed."""
        return self.is_done(name) or bool(self._rows.get(micrograph_key(name), Row(name)).error)

    def store(self, found: Picks, seconds: float) -> Row:
        """Write the picks and the other candidates of a micrograph, and record it."""
        return self.record(self.results.write(found, self.provisional, seconds))

    def fail(self, name: str, reason: str, seconds: float) -> Row:
        """Record why a micrograph has no picks."""
        row = Row(name, seconds=seconds, error=reason)
        with suppress(OutputError):  # a full disk may be just that reason
            self.results.write_record(row)
        return self.record(row)

    def record(self, row: Row) -> Row:
        """Take up what became of a micrograph whose files are written; now and then write the tables."""
        self._rows[micrograph_key(row.micrograph)] = row
        if time.monotonic() - self._refreshed > _REFRESH:
            with suppress(OutputError):  # if there is no room now, there may be at the end
                self.write_tables()
            self._refreshed = time.monotonic()
        return row

    def reload(self, names: Sequence[str]) -> None:
        """Take up what other processes did in the same folder; ``names`` gives the order of the micrographs."""
        for row in self.results.records():
            if self._counts(row):
                self._rows[micrograph_key(row.micrograph)] = row
        for key in self.results.finished():
            if key not in self._rows or self._rows[key].error:
                name = next((name for name in names if micrograph_key(name) == key), key)
                self._rows[key] = self.results.count(name)
        self._arrange(names)

    def finish(self, names: Sequence[str]) -> None:
        """Select the picks anew where that is needed, and write the two tables.

        Parameters
        ----------
        names : sequence of str
            The micrographs of this run, so that those that were done before are listed too.
        """
        with self._locked():
            self.reload(names)
            chosen = self._select.threshold is None or self._select.num_particles is not None
            anew = self._selected is None or chosen
            if anew:
                self._reselect([row.micrograph for row in self.rows if not row.error])
            self.write_tables()
            if anew:  # last, so that whatever stops this is repeated by the next run
                self._selected = asdict(self._select)
                self._write_settings()

    def _counts(self, row: Row) -> bool:
        """Return whether a record tells the truth: one is written before the picks, and left when these are removed."""
        return bool(row.error) != self.is_done(row.micrograph)

    def _arrange(self, names: Sequence[str]) -> None:
        """Put the rows of this run in its order, whatever interrupted it before; the others keep their places."""
        keys = [key for key in map(micrograph_key, names) if key in self._rows]
        mine, ordered = set(keys), iter(keys)
        order = [next(ordered) if key in mine else key for key in self._rows]
        self._rows = {key: self._rows[key] for key in order}

    def _reselect(self, names: list[str]) -> None:
        """Move candidates between picks and side files until they follow the present selection."""
        there = {name: self.results.read(name) for name in names}
        found = {name: candidates for name, (candidates, _) in there.items()}
        self.threshold = threshold_of(found.values(), self._select, self._caution)
        for name, keep in select(found, self._select, self._caution).items():
            chosen, rest = found[name].where(keep), found[name].where(~keep)
            before = self._rows[micrograph_key(name)]
            row = replace(row_of(found[name], keep), seconds=before.seconds)
            files = [(self.results.file(CANDIDATES, name), rest), (self.results.file(PICKS, name), chosen)]
            numbers = there[name][1]
            if numbers != (len(chosen), len(rest)):
                # The file that grows first: an interruption leaves a candidate in both files, never in none.
                for path, content in files if len(chosen) < numbers[0] else files[::-1]:
                    star.write_coordinates(path, content)
            if row != before:
                self.results.write_record(row)
            self._rows[micrograph_key(name)] = row

    def write_tables(self) -> None:
        """Write what is known of the micrographs as RELION's list and as a summary."""
        rows = self.rows
        done = [(row.micrograph, str(self.results.file(PICKS, row.micrograph))) for row in rows if not row.error]
        star.write_autopick(self.folder / AUTOPICK, done)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in rows:
            sums = [f"{row.right:.2f}", f"{row.particles:.2f}", f"{row.seconds:.2f}"]
            writer.writerow([row.micrograph, row.picks, row.candidates, *sums, row.error])
        atomic_write(self._summary_file, text.getvalue())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other process change at the same time what all share."""
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            message = f"{self.folder} cannot be locked ({error}); do not run two commands in it at the same time"
            warnings.warn(one_line(message), stacklevel=3)
        try:
            yield
        finally:
            lock.release()

    @property
    def _run_file(self) -> Path:
        return self.folder / RUN

    @property
    def _summary_file(self) -> Path:
        return self.folder / SUMMARY

    def _write_settings(self) -> None:
        atomic_write(
            self._run_file,
            json.dumps({**self._settings, SELECT: self._selected, THRESHOLD: self.threshold}, indent=2) + "\n",
        )

    def _read_settings(self) -> dict[str, Any] | None:
        try:
            settings: dict[str, Any] = dict(json.loads(self._run_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{self._run_file} cannot be read ({error}); set --overwrite to start again, or another --output"
            ) from error
        return settings


def _refuse_mixture(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in sorted({*earlier, *now}):
        if earlier.get(key) != now.get(key):
            raise InputError(
                f"{folder} holds picks made with {key} {earlier.get(key)!r}, not {now.get(key)!r}; "
                "choose another --output, or set --overwrite to start again"
            )
