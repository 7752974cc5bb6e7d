"""The files of one micrograph in a run folder; whoever picks it writes them: this process, another, another machine.

No torch. Every file is written whole or not at all, that of the picks last. A micrograph is done if its record says so
and is right: it names the settings, the micrograph as it is now, and the files as they are now. What failed has a
record and no picks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from deeppicker.core import Found, Picks
from deeppicker.errors import DeepPickerError, FormatError, OutputError
from deeppicker.formats.atomic import atomic_write, make_folder, remove_left_behind, remove_links, secure
from deeppicker.formats.fingerprint import Fingerprint
from deeppicker.formats.images import raster
from deeppicker.formats.recorded import CANDIDATES, FILES, JUNK, MEASURED, PICKS, RECORD, REJECTED, file_of
from deeppicker.formats.relion import star
from deeppicker.formats.sealed import checksum, read_json, seal
from deeppicker.formats.text import one_line
from deeppicker.runs.selection import chosen
from deeppicker.runs.state import RunState, writing

DAMAGED = "damaged"  # folder to which picks are moved that are not what was written
_MARKS = (PICKS, CANDIDATES)
_BESIDE = (REJECTED, JUNK, MEASURED)


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
    files : str
        Checksum of the files of picks and other candidates.
    found : str
        Checksum of all candidates, however they are divided among the two.
    beside : str
        Checksum of the files of what was rejected, of contamination and of what was measured of the candidates.
    """

    row: Row
    settings: str
    source: Fingerprint | None = None
    threshold: float | None = None
    files: str = ""
    found: str = ""
    beside: str = ""

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
        name = found.candidates.micrograph
        with writing(self.folder, self.generation) as state:
            self.file(PICKS, name).unlink(missing_ok=True)  # of the micrograph as it was
            star.write_rejected(self.file(REJECTED, name), found.rejected, found.reasons)
            raster.write_mask(self.file(JUNK, name), found.junk_image(shape))
            return self.write_candidates(found.candidates, source, seconds, state)

    def write_candidates(self, found: Picks, source: Fingerprint | None, seconds: float, state: RunState) -> Record:
        """Write the candidates that reach the threshold as picks, the others beside them, and the record."""
        picks = chosen(found, state.select, state.provisional)
        measured = self.file(MEASURED, found.micrograph)
        if found.contrast is None:
            measured.unlink(missing_ok=True)
        else:
            star.write_measured(measured, found)
        record = self.record(found, picks, source, seconds, state.select.fixed)
        record = replace(record, beside=self._checksum(_BESIDE, found.micrograph))
        star.write_coordinates(self.file(CANDIDATES, found.micrograph), found.where(~picks))
        self.write_record(record)
        star.write_coordinates(self.file(PICKS, found.micrograph), found.where(picks))
        return record

    def record(
        self,
        found: Picks,
        chosen: Bool[np.ndarray, " n"],
        source: Fingerprint | None,
        seconds: float,
        threshold: float | None,
    ) -> Record:
        """Return the record of a micrograph some of whose candidates are picks."""
        parts = (star.coordinates_text(found.where(mask)).encode() for mask in (chosen, ~chosen))
        row = replace(row_of(found, chosen), seconds=round(seconds, 3))
        return Record(row, self.settings, source, threshold, checksum(*parts), digest_of_picks(found))

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

    def read(self, name: str) -> tuple[Picks, tuple[int, int]]:
        """Read all candidates of a finished micrograph, best first, and how many each file holds, picks first.

        Raises
        ------
        DeepPickerError
            If a file is damaged or missing.
        """
        parts = [star.read(self.file(kind, name))[0] for kind in _MARKS]
        table = np.concatenate([np.column_stack([part.positions, part.scores]) for part in parts])
        table = np.unique(table, axis=0)  # a candidate is in both files if a selection was interrupted
        return Picks(name, table[:, :2], table[:, 2]).sorted(), (len(parts[0]), len(parts[1]))

    def read_measured(self, name: str) -> tuple[Picks, tuple[int, int]]:
        """Read the same as `read`, with what was measured of the candidates, if it was.

        Raises
        ------
        DeepPickerError
            If a file is damaged or missing.
        """
        found, numbers = self.read(name)
        path = self.file(MEASURED, name)
        if not path.is_file():
            return found, numbers
        measured = star.read_measured(path)
        if not np.array_equal(measured.positions, found.positions):
            raise FormatError(one_line(f"{path} is not of the candidates of {name}; repeat the command that picked it"))
        return replace(found, contrast=measured.contrast), numbers

    def checked(self, record: Record) -> Record | None:
        """Return a record if the files of its micrograph are those that it tells of, otherwise None.

        If only their division is another one, since a selection was interrupted, the record no longer tells of that.
        """
        name = record.row.micrograph
        if record.row.error:
            return None if self.file(PICKS, name).exists() else record
        try:
            if self._checksum(_BESIDE, name) != record.beside:
                return None
            if self._checksum(_MARKS, name) == record.files:
                return record
            same = digest_of_picks(self.read(name)[0]) == record.found
        except (OSError, DeepPickerError):
            return None
        return replace(record, threshold=None, files="") if same else None

    def _checksum(self, kinds: Sequence[str], name: str) -> str:
        """Return a checksum of files of a micrograph; what is not there, or is no file, counts as empty."""
        paths = [self.file(kind, name) for kind in kinds]
        return checksum(*(path.read_bytes() if path.is_file() else b"" for path in paths))

    def secure(self, keys: Iterable[str]) -> None:
        """Have the files of some micrographs on the disk, so that they survive a power cut."""
        kinds = (CANDIDATES, MEASURED, REJECTED, JUNK, RECORD, PICKS)
        secure(self.folder / kind.format(key) for key in sorted(keys) for kind in kinds)

    def make_folders(self) -> None:
        """Create the folders of the files; remove what killed commands left in them, and links to files elsewhere."""
        for kind in (PICKS, CANDIDATES, JUNK, RECORD):
            folder = make_folder((self.folder / kind).parent)
            remove_left_behind(folder)
            remove_links(folder, _is_ours if kind == PICKS else bool)  # the other folders hold nothing else

    def finished(self) -> list[str]:
        """Return the keys of all micrographs that have a file of picks, sorted."""
        end = PICKS.format("")
        return sorted(path.name.removesuffix(end) for path in self.folder.glob(PICKS.format("*")))

    def records(self) -> Iterator[Record]:
        """Yield the records that can be read."""
        for path in sorted(self.folder.glob(RECORD.format("*"))):
            record = read_record(path)
            if record is not None and self.file(RECORD, record.row.micrograph) == path:
                yield record

    def put_aside(self, key: str) -> None:
        """Move the picks of a micrograph away that are not what was written: they may be somebody's work."""
        target = make_folder(self.folder / DAMAGED)
        path = self.folder / PICKS.format(key)
        with suppress(FileNotFoundError):
            path.replace(target / path.name)

    def clear(self, key: str = "*") -> None:
        """Remove all files of one or all micrographs, the marks of what is done first."""
        for kind in (PICKS, RECORD, CANDIDATES, MEASURED, REJECTED, JUNK):
            found = self.folder.glob(kind.format(key)) if key == "*" else [self.folder / kind.format(key)]
            for path in found:
                path.unlink(missing_ok=True)


def _is_ours(name: str) -> bool:
    """Return whether a file of the run folder itself is one of a run: people may keep others there."""
    return name in FILES or name.endswith(PICKS.format(""))


@cache
def _maker() -> str:
    """Return the name and version of this program, which take longer to look up than a micrograph to write."""
    return f"DeepPicker {version('deeppicker')}"


def row_of(found: Picks, chosen: Bool[np.ndarray, " n"]) -> Row:
    """Return the counts of a micrograph's candidates, of which some are picks."""
    picks = int(chosen.sum())
    right, particles = float(found.scores[chosen].sum()), float(found.scores.sum())
    return Row(found.micrograph, picks, len(found) - picks, right, particles)


def digest_of_picks(found: Picks) -> str:
    """Return a checksum of positions and scores, whatever their order."""
    table = np.column_stack([found.positions, found.scores]).astype("<f8")
    return checksum(np.ascontiguousarray(np.unique(table, axis=0)).tobytes())


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
        str(content["files"]),
        str(content["found"]),
        str(content["beside"]),
    )
