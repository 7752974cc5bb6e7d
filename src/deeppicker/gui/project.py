"""What the application shows: micrographs by number, what was picked in them, what was marked by hand."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deeppicker.config import SelectConfig
from deeppicker.core import MicrographEntry, Picks, micrograph_key
from deeppicker.errors import DeepPickerError, InputError, OutputError
from deeppicker.formats import find_micrographs, read_header, read_picks, write_picks
from deeppicker.formats.atomic import make_folder
from deeppicker.formats.images.read import ImageHeader
from deeppicker.formats.provenance import named_micrographs
from deeppicker.formats.recorded import AUTOPICK, PICKS, RECORD, RUN, Recorded, file_of
from deeppicker.formats.relion.star import resolve
from deeppicker.gui.edits import ADDED, EDITS, REACH, EditLog, Marks
from deeppicker.gui.rounds import looked_at
from deeppicker.runs.results import Results, Row, read_record
from deeppicker.runs.selection import chosen
from deeppicker.runs.state import PROVISIONAL, read_state

_NOTHING = np.zeros((0, 2))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a user asks to see.

    Parameters
    ----------
    inputs : tuple of str
        A run folder, or micrographs.
    output : Path
        Where picks and corrections of bare micrographs go.
    picks, reference : Path or None
        Coordinates of another origin: in place of a run, and to compare with.
    micrographs : str or None
        Where the micrographs of the run are, or a table that knows their pixel size and defocus.
    diameter, pixel_size : float or None
        Å, and Å per pixel.
    classes : Path or None
        Output folder of `deeppicker classify`, if not ``classes`` in the run folder.
    """

    inputs: tuple[str, ...]
    output: Path = Path("picks")
    picks: Path | None = None
    reference: Path | None = None
    micrographs: str | None = None
    diameter: float | None = None
    pixel_size: float | None = None
    classes: Path | None = None


class Project:
    """Micrographs by number, with what is known of each; it follows a run that is going on.

    Numbers stay the same as long as the program runs: new micrographs come last.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        first = Path(wanted.inputs[0]) if len(wanted.inputs) == 1 else None
        is_run = first is not None and ((first / RUN).is_file() or _is_new(first))
        self.base = first if first is not None and is_run else wanted.output
        self.folder = looked_at(self.base)
        self.entries: list[MicrographEntry] = []
        self.rows: list[Row | None] = []
        self.version = 0
        self._index: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._lock = threading.Lock()
        self._last: tuple[int, SelectConfig | None, float] = (-1, None, 0.0)
        self._other = _by_key(wanted.picks)
        self.reference = _by_key(wanted.reference)
        self._known = {micrograph_key(entry.name): entry for entry in self._named()}
        for entry in self._listed() if is_run else find_micrographs(wanted.inputs):
            self._add(entry)
        self.log = EditLog(self.folder / EDITS)
        self.refresh()
        if not self.entries and not is_run:
            raise InputError(f"{' '.join(wanted.inputs)} holds no micrographs; give a run folder or micrographs")

    def _named(self) -> list[MicrographEntry]:
        """Return what tables say of micrographs."""
        wanted, named = self.wanted, []
        if wanted.micrographs is not None:
            named += find_micrographs([wanted.micrographs])
        for source, picks in ((wanted.picks, self._other), (wanted.reference, self.reference)):
            if source is not None:
                named += named_micrographs(source, list(picks.values()))
        if self.has_run:
            with suppress(DeepPickerError):  # what the run was given need no longer be there
                named += named_micrographs(self.folder, [])
        return named[::-1]  # so that the first wins

    def _listed(self) -> list[MicrographEntry]:
        """Return the micrographs of a run that have picks, also where no record of them can be read."""
        return [entry for entry in [*self._known.values()][::-1] if file_of(self.folder, PICKS, entry.name).is_file()]

    # What there is

    def refresh(self) -> None:
        """Take up micrographs that a run has finished since."""
        self.log.refresh()
        folder = (self.folder / RECORD).parent
        with self._lock:
            try:
                found = {item.name: item.stat().st_mtime_ns for item in os.scandir(folder)}
            except OSError:
                return
            for name in sorted(name for name, time in found.items() if self._seen.get(name) != time):
                record = read_record(folder / name) if name.endswith(".json") else None
                if record is not None:
                    self._take(record.row)
                    self._seen[name] = found[name]
                    self.version += 1

    def _take(self, row: Row) -> None:
        key = micrograph_key(row.micrograph)
        if key not in self._index:
            self._add(MicrographEntry(row.micrograph, resolve(row.micrograph, self.folder / AUTOPICK)))
        self.rows[self._index[key]] = row

    def _add(self, entry: MicrographEntry) -> None:
        key = micrograph_key(entry.name)
        known = self._known.get(key)
        if known is not None:
            path = entry.path if entry.path.is_file() else known.path
            size = entry.pixel_size if entry.pixel_size is not None else known.pixel_size
            entry = replace(entry, path=path, pixel_size=size, defocus=known.defocus)
        if key in self._index:
            raise InputError(f"two micrographs are called {key}; show them one after the other")
        self._index[key] = len(self.entries)
        self.entries.append(entry)
        self.rows.append(None)

    @property
    def trouble(self) -> str:
        """What is wrong with the folder, in one line; empty if nothing is."""
        return self._gone or self.log.trouble

    @property
    def _gone(self) -> str:
        if any(self.rows) and not self.has_run:
            return f"{self.folder} is gone, or holds no run any more; put it back, and nothing is lost"
        return ""

    @property
    def classes(self) -> Path:
        """Folder of the class averages, which need not be there."""
        return self.wanted.classes if self.wanted.classes is not None else self.folder / "classes"

    @property
    def recorded(self) -> Recorded:
        """What is recorded of the run now."""
        return Recorded(self.folder)

    @property
    def has_run(self) -> bool:
        """Whether there is a run."""
        return (self.folder / RUN).is_file()

    @property
    def diameter(self) -> float | None:
        """Particle diameter in Å: as given, as measured by hand, of the run, or of the coordinates."""
        others = (path for path in (self.wanted.picks, self.wanted.reference) if path is not None)
        found = (self.wanted.diameter, self.log.diameter, self.recorded.diameter)
        return next((v for v in (*found, *(Recorded(path).diameter for path in others)) if v is not None), None)

    def index(self, key: str) -> int:
        """Return the number of a micrograph."""
        return self._index[key]

    def key(self, index: int) -> str:
        """Return the name of a micrograph without folder and extension."""
        return micrograph_key(self.entries[index].name)

    # One micrograph

    def header(self, index: int) -> ImageHeader:
        """Return the size of a micrograph in pixels, and its pixel size if that is known."""
        entry = self.entries[index]
        header = read_header(entry.path)
        sizes = (self.wanted.pixel_size, entry.pixel_size, self._run_pixel_size, header.pixel_size)
        return header._replace(pixel_size=next((size for size in sizes if size is not None), None))

    @property
    def _run_pixel_size(self) -> float | None:
        return self.recorded.pixel_size

    def automatic(self, index: int) -> Picks:
        """Return all candidates of a micrograph, best first, or the coordinates given in place of a run."""
        name = self.entries[index].name
        if self.wanted.picks is not None:
            return self._other.get(self.key(index), Picks.unscored(name, _NOTHING))
        if not file_of(self.folder, PICKS, name).is_file():
            return Picks.unscored(name, _NOTHING)
        return Results(self.folder).read(name)

    def counts(self) -> list[int]:
        """Return the number of picks of each micrograph, as its record says, or those given in place of a run."""
        if self.wanted.picks is not None:
            return [len(self.automatic(index)) for index in range(len(self.entries))]
        return [0 if row is None else row.picks for row in self.rows]

    def marks(self, index: int) -> Marks:
        """Return what was marked by hand in a micrograph."""
        return self.log.of(self.key(index))

    def reach(self, index: int) -> float:
        """Return the distance in pixels within which a pick is a marked one."""
        size = self.header(index).pixel_size or 1.0
        return REACH * (self.diameter or 0.0) / size

    def is_pick(self, picks: Picks, select: SelectConfig | None) -> np.ndarray:
        """Return which candidates are picks by a selection like `select`; all without scores are."""
        if select is None or select.threshold is None or not picks.has_scores:
            return np.ones(len(picks), dtype=bool)
        return chosen(picks, select, select.threshold)

    def final(self, index: int, select: SelectConfig | None) -> tuple[Picks, Picks]:
        """Return the picks of a micrograph that stay, and those made by hand."""
        found, marks = self.automatic(index), self.marks(index)
        keep = self.is_pick(found, select)
        if marks.added or marks.removed or marks.only:
            keep &= ~marks.hides(found, self.reach(index))
        return found.where(keep), Picks.unscored(found.micrograph, marks.positions(ADDED))

    def write_picks(self, star: Path, picks: Sequence[Picks]) -> None:
        """Write picks of some micrographs as one STAR file, with their pixel sizes if these are known."""
        sizes = {item.micrograph: self.header(self.index(item.key)).pixel_size for item in picks}
        known = {name: size for name, size in sizes.items() if size is not None}
        write_picks(star, picks, pixel_size=known if len(known) == len(sizes) else None)

    @property
    def writable(self) -> Path:
        """The folder of the run, which is made if need be, but not in the place of a run that was moved away."""
        if self._gone:
            raise OutputError(self._gone)
        return make_folder(self.folder)

    @property
    def select(self) -> SelectConfig | None:
        """What tells picks from other candidates now: a threshold, and perhaps filters; None where all are picks."""
        state = read_state(self.folder) if self.wanted.picks is None and self.has_run else None
        if state is None:
            return None
        threshold = state.provisional if state.threshold is None else state.threshold
        if state.select.num_particles is not None and state.threshold is not None:
            threshold = self._lowest(self.version, state.select)
        return replace(state.select, threshold=threshold, num_particles=None)

    @property
    def threshold(self) -> float | None:
        """The threshold of the picks; None if there is none."""
        select = self.select
        return None if select is None else select.threshold

    def _lowest(self, version: int, select: SelectConfig) -> float:
        """Return the lowest score of all picks, which is the threshold if a number of picks was asked for."""
        if self._last[:2] != (version, select):
            files = (file_of(self.folder, PICKS, entry.name) for entry in self.entries)
            picks = [item for file in files if file.is_file() for item in read_picks(file) if len(item)]
            self._last = (version, select, min((float(item.scores.min()) for item in picks), default=PROVISIONAL))
        return self._last[2]


def _is_new(folder: Path) -> bool:
    """Return whether a run may be about to begin in a folder: at most hidden files of ours are in it."""
    try:
        return folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())
    except OSError:  # what looks for micrographs there says what is wrong
        return False


def _by_key(source: Path | None) -> dict[str, Picks]:
    return {} if source is None else {item.key: item for item in read_picks(source)}
