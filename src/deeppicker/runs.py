"""The output folder of a picking run: which micrographs are done, what was found, what failed. No torch.

Layout::

    DIR/run.json                                 settings; picks made with others are never mixed in
    DIR/<micrograph>_autopick.star               picks: candidates that reach the threshold
    DIR/candidates/<micrograph>_candidates.star  the other candidates above the floor
    DIR/candidates/<micrograph>_rejected.star    what cannot be a particle, and why
    DIR/junk/<micrograph>_junk.png               white where there is contamination
    DIR/autopick.star                            RELION's list of the coordinate files
    DIR/summary.csv                              a row for each micrograph: picks, seconds, why it failed

Every file is written whole or not at all. A micrograph is done once its ``_autopick.star`` exists, which is written
last; so whatever stops a run, the same command completes it.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from deeppicker.config import SelectConfig
from deeppicker.core import Found, Picks, micrograph_key
from deeppicker.errors import InputError
from deeppicker.formats import raster, star
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.threshold import choose_threshold

_COLUMNS = ("micrograph", "picks", "candidates", "right", "particles", "seconds", "error")
_PROVISIONAL = 0.3  # threshold while a run lasts whose threshold is chosen at its end
_THRESHOLD = "threshold"  # key in run.json; that of the picks, chosen or given
_SELECTED = "select"  # key in run.json; null while some files may follow another selection
_REFRESH = 10.0  # seconds between rewrites of the two tables during a run


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
        self._candidates = make_folder(folder / "candidates")
        self._settings = json.loads(json.dumps(settings))
        self._select = select
        self._rows: dict[str, Row] = {}
        self._refreshed = time.monotonic()
        self.threshold = select.threshold  # None until it is chosen
        self._selected: dict[str, Any] | None = asdict(select)  # what all finished micrographs follow, if known
        earlier = None if overwrite else self._read_settings()
        holds_picks = any(self.folder.glob("*_autopick.star"))
        if earlier is None and not overwrite and holds_picks:
            raise InputError(
                f"{folder} holds picks but no run.json, so another program made them; "
                "choose another --output, or set --overwrite to delete them"
            )
        if earlier is None or not holds_picks:
            self._clear()
        else:
            if earlier.pop(_SELECTED, None) != self._selected:
                self._selected = None
            earlier.pop(_THRESHOLD, None)
            _refuse_mixture(folder, earlier, self._settings)
            self._rows = self._read_summary()
        self._write_settings()

    @property
    def rows(self) -> list[Row]:
        """What is known of each micrograph, in the order in which they were first seen."""
        return list(self._rows.values())

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
                    f"{self.folder} holds the picks of {row.micrograph}, which would be taken for those of {name}; "
                    "choose another --output"
                )

    def picks_file(self, name: str) -> Path:
        """Return the coordinate file of a micrograph."""
        return self.folder / f"{micrograph_key(name)}_autopick.star"

    def candidates_file(self, name: str) -> Path:
        """Return the side file of a micrograph, with the candidates that are no picks."""
        return self._candidates / f"{micrograph_key(name)}_candidates.star"

    def is_done(self, name: str) -> bool:
        """Return whether the picks of a micrograph are complete."""
        return self.picks_file(name).is_file()

    def store(self, found: Picks, seconds: float) -> Row:
        """Write the picks and the other candidates of a micrograph; the picks, which mark it as done, last."""
        threshold = self._select.threshold if self._select.threshold is not None else _PROVISIONAL
        chosen = found.scores >= threshold
        star.write_coordinates(self.candidates_file(found.micrograph), found.where(~chosen))
        star.write_coordinates(self.picks_file(found.micrograph), found.where(chosen))
        return self._record(replace(_row(found, chosen), seconds=seconds))

    def store_rejected(self, found: Found, shape: tuple[int, ...]) -> None:
        """Write what was rejected in a micrograph of ``shape`` (height, width), and its mask of contamination."""
        key = found.candidates.key
        star.write_rejected(self._candidates / f"{key}_rejected.star", found.rejected, found.reasons)
        raster.write_mask(make_folder(self.folder / "junk") / f"{key}_junk.png", found.junk_image(shape))

    def fail(self, name: str, reason: str, seconds: float) -> Row:
        """Record why a micrograph has no picks."""
        return self._record(Row(name, seconds=seconds, error=reason))

    def found(self, name: str) -> Picks:
        """Read all candidates of a finished micrograph, picks or not, best first."""
        parts = [star.read(path)[0] for path in (self.picks_file(name), self.candidates_file(name)) if path.exists()]
        table = np.concatenate([np.column_stack([part.positions, part.scores]) for part in parts])
        table = np.unique(table, axis=0)  # a candidate is in both files if a selection was interrupted
        return Picks(name, table[:, :2], table[:, 2]).sorted()

    def finish(self, names: list[str]) -> None:
        """Select the picks anew where that is needed, and write the two tables.

        Parameters
        ----------
        names : list of str
            The micrographs of this run, so that those that were done before are listed too.
        """
        for name in names:
            if self.is_done(name) and not self._is_listed(name):
                self._record(self._count(name))
        for path in sorted(self.folder.glob("*_autopick.star")):  # of other runs whose summary was lost
            key = path.name.removesuffix("_autopick.star")
            if not self._is_listed(key):
                self._record(self._count(key))
                self._selected = None
        self._arrange(names)
        chosen = self._select.threshold is None or self._select.num_particles is not None
        anew = self._selected is None or chosen
        if anew:
            self._reselect([row.micrograph for row in self.rows if self.is_done(row.micrograph)])
        self._write_tables()
        if anew:  # last, so that whatever stops this is repeated by the next run
            self._selected = asdict(self._select)
            self._write_settings()

    def _arrange(self, names: list[str]) -> None:
        """Put the rows of this run in its order, whatever interrupted it before; the others keep their places."""
        keys = [key for key in map(micrograph_key, names) if key in self._rows]
        mine, ordered = set(keys), iter(keys)
        order = [next(ordered) if key in mine else key for key in self._rows]
        self._rows = {key: self._rows[key] for key in order}

    def _is_listed(self, name: str) -> bool:
        row = self._rows.get(micrograph_key(name))
        return row is not None and not row.error

    def _count(self, name: str) -> Row:
        """Return the row of a micrograph that was finished just before its run was killed; its time is lost."""
        found = self.found(name)
        chosen = np.zeros(len(found), dtype=bool)
        chosen[: len(star.read(self.picks_file(name))[0])] = True  # the best
        return _row(found, chosen)

    def _reselect(self, names: list[str]) -> None:
        """Move candidates between picks and side files until they follow the present selection."""
        found = {name: self.found(name) for name in names}
        self.threshold = threshold_of(found.values(), self._select)
        for name, keep in select(found, self._select).items():
            chosen, rest = found[name].where(keep), found[name].where(~keep)
            row = self._rows[micrograph_key(name)]
            files = [(self.candidates_file(name), rest), (self.picks_file(name), chosen)]
            before = [len(star.read(path)[0]) if path.is_file() else -1 for path, _ in files]
            if before != [len(rest), len(chosen)]:
                # The file that grows first: an interruption leaves a candidate in both files, never in none.
                for path, content in files if len(chosen) < before[1] else files[::-1]:
                    star.write_coordinates(path, content)
            self._record(replace(_row(found[name], keep), seconds=row.seconds), refresh=False)

    def _record(self, row: Row, *, refresh: bool = True) -> Row:
        self._rows[micrograph_key(row.micrograph)] = row
        if refresh and time.monotonic() - self._refreshed > _REFRESH:
            self._write_tables()
            self._refreshed = time.monotonic()
        return row

    def _write_tables(self) -> None:
        rows = self.rows
        done = [(row.micrograph, str(self.picks_file(row.micrograph))) for row in rows if not row.error]
        star.write_autopick(self.folder / "autopick.star", done)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in rows:
            sums = [f"{row.right:.2f}", f"{row.particles:.2f}", f"{row.seconds:.2f}"]
            writer.writerow([row.micrograph, row.picks, row.candidates, *sums, row.error])
        atomic_write(self._summary_file, text.getvalue())

    @property
    def _run_file(self) -> Path:
        return self.folder / "run.json"

    @property
    def _summary_file(self) -> Path:
        return self.folder / "summary.csv"

    def _write_settings(self) -> None:
        atomic_write(
            self._run_file,
            json.dumps({**self._settings, _SELECTED: self._selected, _THRESHOLD: self.threshold}, indent=2) + "\n",
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

    def _read_summary(self) -> dict[str, Row]:
        try:
            with self._summary_file.open(encoding="utf-8", newline="") as file:
                rows = [
                    Row(
                        item["micrograph"],
                        int(item["picks"]),
                        int(item["candidates"]),
                        float(item["right"]),
                        float(item["particles"]),
                        float(item["seconds"]),
                        item["error"],
                    )
                    for item in csv.DictReader(file)
                ]
        except (OSError, KeyError, ValueError, TypeError):
            return {}  # times are lost with it, nothing else
        return {micrograph_key(row.micrograph): row for row in rows}

    def _clear(self) -> None:
        """Remove the coordinates and the counts of an earlier run, the marks of what is done first."""
        for pattern in ("*_autopick.star", "candidates/*_candidates.star", "candidates/*_rejected.star", "junk/*.png"):
            for path in self.folder.glob(pattern):
                path.unlink()
        self._summary_file.unlink(missing_ok=True)


def select(found: Mapping[str, Picks], config: SelectConfig) -> dict[str, np.ndarray]:
    """Return which candidates of each micrograph become picks.

    Candidates reach the threshold and, if a number of particles is set, are among that many best of all
    micrographs; of equal scores that of the micrograph first in the alphabet, then the earlier candidate is kept.
    """
    threshold = threshold_of(found.values(), config)
    keep = {name: picks.scores >= threshold for name, picks in found.items()}
    if config.num_particles is None or not keep:
        return keep
    names = sorted(found, key=micrograph_key)  # so that ties do not depend on the order of the micrographs
    ends = np.cumsum([len(found[name]) for name in names])
    scores = np.concatenate([found[name].scores for name in names])
    reached = np.concatenate([keep[name] for name in names])
    best = np.argsort(np.where(reached, -scores, np.inf), kind="stable")[: config.num_particles]
    among = np.zeros(len(scores), dtype=bool)
    among[best] = True
    return dict(zip(names, np.split(reached & among, ends[:-1]), strict=True))


def threshold_of(found: Iterable[Picks], config: SelectConfig) -> float:
    """Return the threshold that is set, or that which suits all these candidates best."""
    if config.threshold is not None:
        return config.threshold
    return choose_threshold(np.concatenate([np.zeros(0), *(picks.scores for picks in found)]))


def _row(found: Picks, chosen: Bool[np.ndarray, " n"]) -> Row:
    picks = int(chosen.sum())
    right, particles = float(found.scores[chosen].sum()), float(found.scores.sum())
    return Row(found.micrograph, picks, len(found) - picks, right, particles)


def _refuse_mixture(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in sorted({*earlier, *now}):
        if earlier.get(key) != now.get(key):
            raise InputError(
                f"{folder} holds picks made with {key} {earlier.get(key)!r}, not {now.get(key)!r}; "
                "choose another --output, or set --overwrite to start again"
            )
