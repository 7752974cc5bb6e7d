"""The output folder of a picking run: its settings, what is done, selection, tables. No torch.

Layout::

    DIR/run.json                                 settings; picks made with others are never mixed in
    DIR/<micrograph>_autopick.star               picks: candidates that reach the threshold
    DIR/candidates/<micrograph>_candidates.star  all candidates above the floor; what cannot be a particle, and why
    DIR/junk/<micrograph>_junk.png               white where there is contamination, if there is any
    DIR/records/<micrograph>.json                counts, seconds, of what and how it was made, why it failed
    DIR/autopick.star                            RELION's list of the coordinate files
    DIR/summary.csv                              the records as one table
    DIR/damaged/                                 picks that were not what had been written

Every file is written whole or not at all. A micrograph is done if its record fits the settings, the micrograph and the
files (see `runs.results`); so whatever stops a run or changes a file, the same command puts it right. Several
processes, also of several machines, may work in the same folder: they write its parts under a lock that they share,
and what concerns all of it under a lock of one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeppicker.config import CAUTION, SelectConfig
from deeppicker.core import MicrographEntry, Picks, micrograph_key
from deeppicker.errors import FormatError, InputError, OutputError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.fingerprint import Fingerprint
from deeppicker.formats.lock import LOCK, locked
from deeppicker.formats.recorded import AUTOPICK, PICKS, RUN, SELECTING, SUMMARY
from deeppicker.formats.relion import star
from deeppicker.formats.sealed import checksum, read_json, seal
from deeppicker.formats.text import one_line
from deeppicker.parallel.jobs import Workers, here
from deeppicker.runs.parts import Check, ReadScores, WriteSelected, in_parts
from deeppicker.runs.results import DAMAGED, Record, Results, Row, Stamp, summary_text
from deeppicker.runs.selection import select, threshold_of
from deeppicker.runs.state import RunState, digest_of, new_generation, read_state, writing

_REFRESH = 10.0  # seconds between rewrites of the two tables during a run
_NAMED = 3  # micrographs in a message


class RunFolder:
    """The output folder of `deeppicker pick`, open for one run.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    settings : mapping
        Everything that decides which candidates are found (JSON values).
    select : SelectConfig
        Which candidates become picks, in the whole folder. May differ from that of an earlier run in it.
    overwrite : bool
        Start again although the folder holds picks made with other settings.
    tell : callable
        Is told of what was found damaged or changed, and of waiting for others.
    workers : callable
        Checks and selects many micrographs; see `runs.parts`.

    Raises
    ------
    InputError
        If the folder holds picks made with other settings, or by another program.
    OutputError
        If the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        select: SelectConfig,
        *,
        overwrite: bool = False,
        tell: Callable[[str], None] = lambda _: None,
        workers: Workers = here,
    ) -> None:
        self.folder = make_folder(folder)
        self._tell = tell
        self._workers = workers
        self._settings: dict[str, Any] = json.loads(json.dumps(settings))
        self._caution = float(self._settings.get("calibration", {}).get("caution", CAUTION))
        self._records: dict[str, Record] = {}
        self._stamps: dict[str, Stamp] = {}  # by key, of files that were checked
        self._before: Mapping[str, Any] = {}  # checksums of the picks before a selection that was interrupted
        self._refreshed = time.monotonic()
        self._unsecured: set[str] = set()  # keys of micrographs whose files may not be on the disk yet
        self.results = Results(folder, digest_of(self._settings))
        star.autopick_text([("", str(folder))])  # else nothing could be listed at the end
        with locked(folder / LOCK, waiting=self._waiting):
            self.results.make_folders()
            try:
                self._open(select, overwrite)
            except OSError as error:  # such as a folder in the place of a file
                raise OutputError(one_line(f"{folder} cannot be used: {error}; choose another --output")) from error

    def _open(self, select: SelectConfig, overwrite: bool) -> None:
        earlier, damaged = self._earlier()
        finished = set(self.results.finished())
        if not overwrite:
            self._refuse_mixture(earlier, damaged, finished)
        again = overwrite or (earlier is not None and earlier.digest != self.results.settings)
        joined = None if again else earlier
        generation = (joined.generation if joined else "") or new_generation()
        same = joined is not None and joined.select == select
        threshold, of = (joined.threshold, joined.of) if joined is not None and same else (None, "")
        self.results = replace(self.results, generation=generation)
        self._state = RunState(self._settings, select, threshold, generation, of)
        if self._state != earlier:
            self._state.write(self.folder)  # first: from now on the others are overtaken
        if again:
            self.results.clear()
            (self.folder / SUMMARY).unlink(missing_ok=True)
        else:
            self._take_up()

    def _earlier(self) -> tuple[RunState | None, bool]:
        """Return the state that the folder has, and whether that is damaged."""
        try:
            return read_state(self.folder), False
        except FormatError as error:
            if (self.folder / RUN).is_dir():
                raise InputError(f"{self.folder / RUN} is a folder; remove it, or choose another --output") from error
            return None, True

    def _refuse_mixture(self, earlier: RunState | None, damaged: bool, finished: set[str]) -> None:
        if not finished or (earlier is not None and earlier.digest == self.results.settings):
            return
        if earlier is not None:
            _refuse_settings(self.folder, earlier.settings, self._settings)
        made = {record.settings for record in self.results.records() if record.row.error == ""}
        if made - {self.results.settings}:
            raise InputError(
                f"{self.folder / RUN} is {'damaged' if damaged else 'missing'}, and the folder holds picks made with "
                "other settings; repeat the command with those, choose another --output, or set --overwrite"
            )
        if not made and not damaged:
            raise InputError(
                f"{self.folder} holds picks but no {RUN}, so another program made them; "
                "choose another --output, or set --overwrite to delete them"
            )
        self._tell(f"{self.folder / RUN} was {'damaged' if damaged else 'missing'}; written again")

    def _take_up(self) -> None:
        """Take up all records that are right; put aside the picks that none of them vouches for."""
        with suppress(OSError, FormatError, KeyError):
            self._before = read_json(self.folder / SELECTING, sealed=True)["picked"]
        names: dict[str, str] = {}
        records = self._right(self.results.recorded(), names)
        wrong = [key for key in self.results.finished() if key not in records]
        for key in wrong:
            self.results.put_aside(key)
            name = names.get(key, key)
            reason = f"{name}: its files in {self.folder} were damaged or changed; pick it again"
            records[key] = Record(Row(name, error=one_line(reason)), self.results.settings)
            with suppress(OutputError):
                self.results.write_record(records[key])
        if wrong:
            self._tell(
                f"files of {_some(wrong)} were damaged or changed, so they count as not picked; "
                f"the picks that were there are in {self.folder / DAMAGED}"
            )
        order = {**dict.fromkeys(self._records), **dict.fromkeys(records)}
        self._records = {key: records[key] for key in order if key in records}

    def _right(self, keys: Sequence[str], names: dict[str, str]) -> dict[str, Record]:
        """Return the records of micrographs that are right; note the names that all of them give."""
        known = {key for key in keys if key in self._stamps and self._stamps[key] == self.results.stamp(key)}
        right = {key: self._records[key] for key in known}
        job = Check(self.results.resolved(), self._before)
        for key, stamp, record, checked in in_parts(self._workers, job, [key for key in keys if key not in known]):
            self._stamps.pop(key, None)
            if record is None:
                continue
            names[key] = record.row.micrograph
            if record.settings != self.results.settings:  # `_open` was interrupted when it started again
                self.results.clear(key)
            elif checked is not None:
                right[key] = checked
                if stamp is not None:
                    self._stamps[key] = stamp
        return {key: right[key] for key in keys if key in right}

    def _waiting(self) -> None:
        self._tell(f"waiting for another command that works in {self.folder}")

    @property
    def rows(self) -> list[Row]:
        """What is known of each micrograph, in the order in which they were first seen."""
        return [record.row for record in self._records.values()]

    @property
    def threshold(self) -> float | None:
        """The least score of a pick; None until it is chosen."""
        return self._state.threshold

    def refuse_other_paths(self, entries: Sequence[MicrographEntry]) -> None:
        """Check that no micrograph has the name of another one, of another folder, that was picked before.

        Raises
        ------
        InputError
            If one has, and the other one still exists.
        """
        for entry in entries:
            record = self._records.get(micrograph_key(entry.name))
            if record is None or record.source is None:
                continue
            before = Path(record.source.path)
            if before.is_file() and entry.path.is_file() and not before.samefile(entry.path):
                raise InputError(
                    f"{self.folder} holds the picks of {before}, which would be mistaken for those of {entry.name}; "
                    "choose another --output"
                )

    def is_done(self, name: str, path: Path | None = None) -> bool:
        """Return whether the picks of a micrograph are complete, and those of its file as it is now."""
        record = self._records.get(micrograph_key(name))
        return record is not None and not record.row.error and (path is None or record.is_of(path))

    def missing(self, entries: Sequence[MicrographEntry]) -> list[MicrographEntry]:
        """Return the micrographs that are not done; those that only have another name now are renamed."""
        left = []
        for entry in entries:
            if not self.is_done(entry.name, entry.path):
                left.append(entry)
                continue
            key = micrograph_key(entry.name)
            record = self._records[key]
            if record.row.micrograph != entry.name:
                with writing(self.folder, self.results.generation, waiting=self._waiting):
                    renamed = replace(record, row=replace(record.row, micrograph=entry.name))
                    self.results.write_record(renamed)
                self._records[key] = renamed
        return left

    def is_settled(self, name: str, path: Path | None = None) -> bool:
        """Return whether a micrograph is done, or known to have failed."""
        record = self._records.get(micrograph_key(name))
        return record is not None and (bool(record.row.error) or self.is_done(name, path))

    def store(self, found: Picks, seconds: float, source: Fingerprint | None = None) -> Row:
        """Write the picks and the other candidates of a micrograph, and record it."""
        with writing(self.folder, self.results.generation, waiting=self._waiting) as state:
            return self.record(self.results.write_candidates(found, source, seconds, state))

    def fail(self, name: str, reason: str, seconds: float) -> Row:
        """Record why a micrograph has no picks."""
        return self.record(self.results.fail(name, reason, seconds))

    def record(self, record: Record) -> Row:
        """Take up what became of a micrograph whose files are written; now and then write the tables."""
        key = micrograph_key(record.row.micrograph)
        self._records[key] = record
        self._unsecured.add(key)
        if time.monotonic() - self._refreshed > _REFRESH:
            with suppress(OutputError), writing(self.folder, self.results.generation):  # there may be room at the end
                self.write_tables()
            self._refreshed = time.monotonic()
        return record.row

    def reload(self, names: Sequence[str]) -> None:
        """Take up what other processes did in the same folder; ``names`` gives the order of the micrographs."""
        with writing(self.folder, self.results.generation, shared=False, waiting=self._waiting):
            self._reload(names)

    def _reload(self, names: Sequence[str]) -> None:
        failed = {key: record for key, record in self._records.items() if record.row.error}
        self._take_up()
        for key, record in failed.items():  # whose record could not be written
            self._records.setdefault(key, record)
        self._arrange(names)

    def finish(self, names: Sequence[str]) -> None:
        """Select the picks of the whole folder anew where that is needed, and write the two tables.

        Parameters
        ----------
        names : sequence of str
            The micrographs of this run, so that those that were done before are listed too.

        Raises
        ------
        OvertakenError
            If another command has started the folder again.
        """
        with writing(self.folder, self.results.generation, shared=False, waiting=self._waiting) as state:
            self._reload(names)
            if state.select != self._state.select:
                self._tell(
                    f"another command in {self.folder} asked for {_asked(state.select)} meanwhile, "
                    f"and all picks follow it; repeat this command for {_asked(self._state.select)}"
                )
            threshold = state.threshold if state.of == self._selected() else None
            if threshold is None:
                threshold = self._reselect(state.select)
            self.write_tables()
            self.results.secure(self._unsecured)  # before anybody hears that the run is done
            self._unsecured.clear()
            self._state = replace(state, threshold=threshold, of=self._selected())
            if self._state != state:  # last, so that whatever stops this is repeated by the next run
                self._state.write(self.folder)
            (self.folder / SELECTING).unlink(missing_ok=True)

    def changed_since(self, names: Sequence[str]) -> str | None:
        """Return a warning of micrographs that changed after they were picked, or that are gone and none of these."""
        mine = set(map(micrograph_key, names))
        changed, gone = [], []
        for key, record in self._records.items():
            if record.source is None or record.source.fits(Path(record.source.path)):
                continue
            if Path(record.source.path).exists():
                changed.append(record.row.micrograph)
            elif key not in mine:
                gone.append(record.row.micrograph)
        if changed:
            return (
                f"{_some(changed)} changed after being picked; repeat the command with all micrographs, so that they "
                "are picked again"
            )
        return f"{_some(gone)} are gone, and their picks are kept" if gone else None

    def _selected(self) -> str:
        """Return a checksum of all candidates and picks."""
        good = ((key, record) for key, record in self._records.items() if not record.row.error)
        return checksum("\n".join(sorted(f"{key} {record.found} {record.picked}" for key, record in good)).encode())

    def _arrange(self, names: Sequence[str]) -> None:
        """Put the rows of this run in its order, whatever interrupted it before; the others keep their places."""
        keys = [key for key in map(micrograph_key, names) if key in self._records]
        mine, ordered = set(keys), iter(keys)
        order = [next(ordered) if key in mine else key for key in self._records]
        self._records = {key: self._records[key] for key in order}

    def _reselect(self, config: SelectConfig) -> float:
        """Write the picks anew that do not follow a selection; return its threshold."""
        fixed = config.fixed
        good = [record for record in self._records.values() if not record.row.error]
        names = [record.row.micrograph for record in good if fixed is None or record.threshold != fixed]
        results = self.results.resolved()
        found = dict(zip(names, in_parts(self._workers, ReadScores(results), names), strict=True))
        threshold = threshold_of(found.values(), config, self._caution)
        picked = {key: self._records[key].picked or self._before[key] for key in map(micrograph_key, names)}
        atomic_write(self.folder / SELECTING, seal({"picked": picked}), durable=True)
        keep = select(found, config, self._caution)
        chosen = [(self._records[key], keep[name]) for key, name in zip(picked, names, strict=True)]
        for key, record in zip(picked, in_parts(self._workers, WriteSelected(results, config), chosen), strict=True):
            if record != self._records[key]:
                self._records[key] = record
                self._unsecured.add(key)
        return threshold

    def write_tables(self) -> None:
        """Write what is known of the micrographs as RELION's list and as a summary."""
        rows = self.rows
        done = [(row.micrograph, str(self.results.file(PICKS, row.micrograph))) for row in rows if not row.error]
        star.write_autopick(self.folder / AUTOPICK, done)
        atomic_write(self.folder / SUMMARY, summary_text(rows))


def _refuse_settings(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse settings that differ, and name the first of them, as deep as it lies."""
    for key in sorted({*earlier, *now}):
        before, after = earlier.get(key), now.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            _refuse_settings(folder, before, after)
        elif before != after:
            raise InputError(
                one_line(
                    f"{folder} holds picks made with {key} {before!r}, not {after!r}; "
                    "choose another --output, or set --overwrite to start again"
                )
            )


def _asked(config: SelectConfig) -> str:
    parts = [] if config.threshold is None else [f"--threshold {config.threshold:g}"]
    parts += [] if config.num_particles is None else [f"--num-particles {config.num_particles}"]
    parts += [] if config.min_contrast is None else [f"--min-contrast {config.min_contrast:g}"]
    parts += [] if config.max_contrast is None else [f"--max-contrast {config.max_contrast:g}"]
    return " ".join(parts) or "a threshold chosen by the program"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return one_line(shown if len(names) <= _NAMED else f"{len(names):,} micrographs, such as {shown},")
