"""The files of one micrograph in a run folder; whoever picks it writes them: this process, another, another machine.

No torch. Every file is written whole or not at all, that of the picks last: it marks the micrograph as done. What
failed has a record and no picks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from deeppicker.core import Found, Picks
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.images import raster
from deeppicker.formats.recorded import CANDIDATES, JUNK, PICKS, RECORD, REJECTED, file_of
from deeppicker.formats.relion import star


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
class Results:
    """Writes and reads the files of single micrographs.

    Parameters
    ----------
    folder : Path
        The run folder.
    made : str
        How the picks are made, for the records: model, checksum of the settings, version of the program.
    """

    folder: Path
    made: str = ""

    def resolved(self) -> Results:
        """Return the same for another process, whose current folder may be another."""
        return replace(self, folder=self.folder.resolve())

    def file(self, kind: str, name: str) -> Path:
        """Return a file of a micrograph; ``kind`` is one of the patterns of `formats.recorded`."""
        return file_of(self.folder, kind, name)

    def is_done(self, name: str) -> bool:
        """Return whether the picks of a micrograph are complete."""
        return self.file(PICKS, name).is_file()

    def write(self, found: Picks, threshold: float, seconds: float) -> Row:
        """Write the candidates that reach the threshold as picks, the others beside them."""
        chosen = found.scores >= threshold
        row = replace(row_of(found, chosen), seconds=seconds)
        star.write_coordinates(self.file(CANDIDATES, found.micrograph), found.where(~chosen))
        self.write_record(row)
        star.write_coordinates(self.file(PICKS, found.micrograph), found.where(chosen))
        return row

    def write_rejected(self, found: Found, shape: tuple[int, ...]) -> None:
        """Write what was rejected in a micrograph of ``shape`` (height, width), and its mask of contamination."""
        name = found.candidates.micrograph
        star.write_rejected(self.file(REJECTED, name), found.rejected, found.reasons)
        raster.write_mask(self.file(JUNK, name), found.junk_image(shape))

    def write_record(self, row: Row) -> None:
        """Write what became of a micrograph."""
        record = {**asdict(row), "seconds": round(row.seconds, 3), "made": self.made}
        atomic_write(self.file(RECORD, row.micrograph), json.dumps(record, indent=1) + "\n")

    def found(self, name: str) -> Picks:
        """Read all candidates of a finished micrograph, picks or not, best first."""
        return self.read(name)[0]

    def read(self, name: str) -> tuple[Picks, tuple[int, int]]:
        """Read all candidates of a finished micrograph, and how many each of the two files holds, picks first.

        A file that is not there holds -1.
        """
        paths = [self.file(kind, name) for kind in (PICKS, CANDIDATES)]
        parts = [star.read(path)[0] if path.exists() else None for path in paths]
        table = np.concatenate([np.column_stack([part.positions, part.scores]) for part in parts if part is not None])
        table = np.unique(table, axis=0)  # a candidate is in both files if a selection was interrupted
        picks, others = (-1 if part is None else len(part) for part in parts)
        return Picks(name, table[:, :2], table[:, 2]).sorted(), (picks, others)

    def count(self, name: str) -> Row:
        """Return the row of a finished micrograph whose record is lost, and its time with it."""
        found, (picks, _) = self.read(name)
        return row_of(found, np.arange(len(found)) < picks)  # the best

    def make_folders(self) -> None:
        """Create the folders of the files."""
        for kind in (PICKS, CANDIDATES, JUNK, RECORD):
            make_folder((self.folder / kind).parent)

    def finished(self) -> list[str]:
        """Return the keys of all finished micrographs, sorted."""
        end = PICKS.format("")
        return sorted(path.name.removesuffix(end) for path in self.folder.glob(PICKS.format("*")))

    def records(self) -> Iterator[Row]:
        """Yield the records that can be read."""
        for path in sorted(self.folder.glob(RECORD.format("*"))):
            try:
                yield _parse(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, KeyError):
                continue  # the micrograph is counted again, or picked again if it was not done

    def clear(self) -> None:
        """Remove all files of micrographs, the marks of what is done first."""
        for kind in (PICKS, RECORD, CANDIDATES, REJECTED, JUNK):
            for path in self.folder.glob(kind.format("*")):
                path.unlink(missing_ok=True)


def row_of(found: Picks, chosen: Bool[np.ndarray, " n"]) -> Row:
    """Return the counts of a micrograph's candidates, of which some are picks."""
    picks = int(chosen.sum())
    right, particles = float(found.scores[chosen].sum()), float(found.scores.sum())
    return Row(found.micrograph, picks, len(found) - picks, right, particles)


def _parse(record: dict[str, Any]) -> Row:
    kinds = {"str": str, "int": int, "float": float}
    return Row(**{field.name: kinds[str(field.type)](record[field.name]) for field in fields(Row)})
