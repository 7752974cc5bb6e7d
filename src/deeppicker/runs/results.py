"""The files of one micrograph in a run folder; whoever picks it writes them: this process, another, another machine.

No torch. Every file is written whole or not at all, that of the picks last. A micrograph is done if its record says so
and is right: it names the settings, the micrograph as it is now, and the files as they are now. What failed has a
record and no picks.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from deeppicker.config import SelectConfig
from deeppicker.core import Found, Picks, micrograph_key
from deeppicker.errors import FormatError, OutputError
from deeppicker.formats.atomic import atomic_write, make_folder, remove_left_behind, remove_links, secure
from deeppicker.formats.fingerprint import Fingerprint
from deeppicker.formats.images import raster
from deeppicker.formats.recorded import CANDIDATES, FILES, JUNK, PICKS, RECORD, file_of
from deeppicker.formats.relion import star
from deeppicker.formats.sealed import checksum, read_json, seal
from deeppicker.formats.text import cell
from deeppicker.runs.selection import Scores, chosen
from deeppicker.runs.state import RunState, writing

DAMAGED = "damaged"  # folder to which picks are moved that are not what was written
Stamp = tuple[tuple[int, int, int, int], ...]
_SETTLED = 2 * 10**9  # ns; a file changed twice within the tick of a clock looks as after the first time
_FOUND = (CANDIDATES, JUNK)  # written once; the other files follow the selection


@dataclass(frozen=True)
class Row:
    """What became of one micrograph: counts and time, or the reason why it failed.

    ``right`` is the number of picks that are expected to be particles, ``particles`` that of all particles among the
    candidates; both are sums of scores.
    """

    micrograph: str
    picks: int = 0
    candidates: int = 0
    right: float = 0.0
    particles: float = 0.0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Record:
    """A row, and where it comes from.

    Parameters
    ----------
    row : Row
        What became of the micrograph.
    settings : str
        Checksum of the settings by which it was picked.
    source : Fingerprint or None
        The file that was picked; None if it failed.
    threshold : float or None
        What tells its picks from the other candidates, if it was given; None if it is chosen for the run.
    found : str
        Checksum of the files of candidates and of contamination.
    picked : str
        Checksum of the file of picks; nothing if that is the one of before a selection that was interrupted.
    """

    row: Row
    settings: str
    source: Fingerprint | None = None
    threshold: float | None = None
    found: str = ""
    picked: str = ""

    def is_of(self, path: Path) -> bool:
        """Return whether it tells of a file as it is now."""
        return self.source is not None and self.source.fits(path)


@dataclass(frozen=True)
class Results:
    """Writes and reads the files of single micrographs.

    Parameters
    ----------
    folder : Path
        The run folder.
    settings : str
        Checksum of the settings by which micrographs are picked.
    generation : str
        That of the commands which may write; see `runs.state`.
    """

    folder: Path
    settings: str = ""
    generation: str = ""

    def resolved(self) -> Results:
        """Return the same for another process, whose current folder may be another."""
        return replace(self, folder=self.folder.resolve())

    def file(self, kind: str, name: str) -> Path:
        """Return a file of a micrograph; ``kind`` is one of the patterns of `formats.recorded`."""
        return file_of(self.folder, kind, name)

    def write(self, found: Found, shape: tuple[int, ...], source: Fingerprint | None, seconds: float) -> Record:
        """Write all files of a micrograph of ``shape`` (height, width), if nobody has overtaken this run.

        Raises
        ------
        OvertakenError
            If somebody has.
        OutputError
            If a file cannot be written.
        """
        name, junk = found.candidates.micrograph, found.junk_image(shape)
        with writing(self.folder, self.generation) as state:
            self.file(PICKS, name).unlink(missing_ok=True)  # of the micrograph as it was
            if junk.any():
                raster.write_mask(self.file(JUNK, name), junk)
            else:
                self.file(JUNK, name).unlink(missing_ok=True)
            return self.write_candidates(found.candidates, source, seconds, state, found.rejected, found.reasons)

    def write_candidates(
        self,
        found: Picks,
        source: Fingerprint | None,
        seconds: float,
        state: RunState,
        rejected: Picks | None = None,
        reasons: Sequence[str] = (),
    ) -> Record:
        """Write the candidates and what was rejected, the record, and the candidates that reach the threshold."""
        name = found.micrograph
        none = found.where(np.zeros(len(found), dtype=bool))
        text = star.candidates_text(found, none if rejected is None else rejected, reasons)
        atomic_write(self.file(CANDIDATES, name), text)
        known = Record(Row(name, seconds=round(seconds, 3)), self.settings, source, found=self._checksum(_FOUND, name))
        record, picks = selected(known, found, chosen(found, state.select, state.provisional), state.select)
        self.write_selected(record, picks)
        return record

    def fail(self, name: str, reason: str, seconds: float) -> Record:
        """Record why a micrograph has no picks, if nobody has overtaken this run."""
        record = Record(Row(name, seconds=round(seconds, 3), error=reason), self.settings)
        with writing(self.folder, self.generation):
            with suppress(OSError):
                self.file(PICKS, name).unlink(missing_ok=True)
            with suppress(OutputError):  # a full disk may be just that reason
                self.write_record(record)
        return record

    def write_record(self, record: Record) -> None:
        """Write what became of a micrograph."""
        content = asdict(record)
        row = {**content.pop("row"), "made": _maker()}
        atomic_write(self.file(RECORD, record.row.micrograph), seal({**row, **content}))

    def write_selected(self, record: Record, picks: str) -> None:
        """Write a record, and the picks that it tells of."""
        self.write_record(record)
        atomic_write(self.file(PICKS, record.row.micrograph), picks)

    def read(self, name: str) -> Picks:
        """Read all candidates of a finished micrograph, best first, picks among them.

        Raises
        ------
        DeepPickerError
            If the file is damaged or missing.
        """
        return replace(star.read_candidates(self.file(CANDIDATES, name))[0], micrograph=name)

    def read_scores(self, name: str) -> Scores:
        """Read what a selection looks at of a finished micrograph; see `read`."""
        return Scores(name, *star.read_scores(self.file(CANDIDATES, name)))

    def read_rejected(self, name: str) -> tuple[Picks, list[str]]:
        """Read what was rejected in a finished micrograph, and why.

        Raises
        ------
        DeepPickerError
            If the file is damaged or missing.
        """
        _, rejected, reasons = star.read_candidates(self.file(CANDIDATES, name))
        return replace(rejected, micrograph=name), reasons

    def checked(self, record: Record, before: str | None) -> Record | None:
        """Return a record if the files of its micrograph are those that it tells of, otherwise None.

        If the picks have the checksum of ``before`` a selection that was interrupted, it no longer tells of them.
        """
        name = record.row.micrograph
        if record.row.error:
            return None if self.file(PICKS, name).exists() else record
        try:
            if self._checksum(_FOUND, name) != record.found:
                return None
            picked = self._checksum((PICKS,), name)
        except OSError:
            return None
        if picked == record.picked:
            return record
        return replace(record, threshold=None, picked="") if picked == before else None

    def _checksum(self, kinds: Sequence[str], name: str) -> str:
        """Return a checksum of files of a micrograph; what is not there, or is no file, counts as empty."""
        key = micrograph_key(name)
        return checksum(*(_content(f"{self.folder}/{kind.format(key)}") for kind in kinds))

    def secure(self, keys: Iterable[str]) -> None:
        """Have the files of some micrographs on the disk, so that they survive a power cut."""
        kinds = (CANDIDATES, JUNK, RECORD, PICKS)
        secure(self.folder / kind.format(key) for key in sorted(keys) for kind in kinds)

    def make_folders(self) -> None:
        """Create the folders of the files; remove what killed commands left in them, and links to files elsewhere."""
        for kind in (PICKS, CANDIDATES, JUNK, RECORD):
            folder = make_folder((self.folder / kind).parent)
            remove_left_behind(folder)
            remove_links(folder, _is_ours if kind == PICKS else bool)  # the other folders hold nothing else

    def finished(self) -> list[str]:
        """Return the keys of all micrographs that have a file of picks, sorted."""
        return self._keys(PICKS)

    def _keys(self, kind: str) -> list[str]:
        pattern = self.folder / kind
        end = pattern.name.format("")
        with os.scandir(pattern.parent) as there:
            return sorted(item.name.removesuffix(end) for item in there if item.name.endswith(end))

    def recorded(self) -> list[str]:
        """Return the keys of all micrographs that have a record, sorted."""
        return self._keys(RECORD)

    def read_record(self, key: str) -> Record | None:
        """Read a record; None if it cannot be read, or is that of another micrograph."""
        record = read_record(self.folder / RECORD.format(key))
        return record if record is not None and micrograph_key(record.row.micrograph) == key else None

    def records(self) -> Iterator[Record]:
        """Yield the records that can be read."""
        return filter(None, map(self.read_record, self.recorded()))

    def stamp(self, key: str) -> Stamp | None:
        """Return what changes whenever a file of a micrograph does; None as long as that cannot be told."""
        parts = []
        for kind in (RECORD, PICKS, CANDIDATES, JUNK):
            try:
                seen = os.stat(f"{self.folder}/{kind.format(key)}")  # noqa: PTH116 - a path costs more than this
            except OSError:
                parts.append((0, 0, 0, 0))
                continue
            if time.time_ns() - max(seen.st_mtime_ns, seen.st_ctime_ns) < _SETTLED:
                return None
            parts.append((seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))
        return tuple(parts)

    def put_aside(self, key: str) -> None:
        """Move the picks of a micrograph away that are not what was written: they may be somebody's work."""
        target = make_folder(self.folder / DAMAGED)
        path = self.folder / PICKS.format(key)
        with suppress(FileNotFoundError):
            path.replace(target / path.name)

    def clear(self, key: str = "*") -> None:
        """Remove all files of one or all micrographs, the marks of what is done first."""
        for kind in (PICKS, RECORD, CANDIDATES, JUNK):
            found = self.folder.glob(kind.format(key)) if key == "*" else [self.folder / kind.format(key)]
            for path in found:
                path.unlink(missing_ok=True)


def _content(path: str) -> bytes:
    """Return what a file holds; nothing if it is none, such as a pipe, which would never end."""
    if not os.path.isfile(path):  # noqa: PTH113 - here too
        return b""
    with open(path, "rb") as file:  # noqa: PTH123 - here too
        return file.read()


def _is_ours(name: str) -> bool:
    """Return whether a file of the run folder itself is one of a run: people may keep others there."""
    return name in FILES or name.endswith(PICKS.format(""))


@cache
def _maker() -> str:
    """Return the name and version of this program, which take longer to look up than a micrograph to write."""
    return f"DeepPicker {version('deeppicker')}"


def selected(record: Record, found: Picks, chosen: Bool[np.ndarray, " n"], select: SelectConfig) -> tuple[Record, str]:
    """Return the record of a micrograph of whose candidates some are picks, and the file of these."""
    picks = found.where(chosen)
    text = star.coordinates_text(picks)
    row = replace(
        record.row,
        picks=len(picks),
        candidates=len(found) - len(picks),
        right=float(picks.scores.sum()),
        particles=float(found.scores.sum()),
    )
    return replace(record, row=row, threshold=select.fixed, picked=checksum(text.encode())), text


def summary_text(rows: Iterable[Row]) -> str:
    """Return the table of what became of micrographs, as CSV with a head."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Row)])
    for row in rows:
        sums = [f"{row.right:.2f}", f"{row.particles:.2f}", f"{row.seconds:.2f}"]
        writer.writerow([cell(row.micrograph), row.picks, row.candidates, *sums, cell(row.error)])
    return text.getvalue()


def read_record(path: Path) -> Record | None:
    """Read a record; None if it is damaged, or was written by the first version, which kept no provenance."""
    try:
        return _parse(read_json(path, sealed=True))
    except (OSError, ValueError, TypeError, KeyError, FormatError):
        return None


def _parse(content: Mapping[str, Any]) -> Record:
    kinds = {"str": str, "int": int, "float": float}
    row = Row(**{field.name: kinds[str(field.type)](content[field.name]) for field in fields(Row)})
    source, threshold = content["source"], content["threshold"]
    return Record(
        row,
        str(content["settings"]),
        None if source is None else Fingerprint.parse(source),
        None if threshold is None else float(threshold),
        str(content["found"]),
        str(content["picked"]),
    )
