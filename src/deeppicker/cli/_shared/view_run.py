"""Pictures of a whole run: some of its micrographs with their picks, and a contact sheet of the picks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeppicker.cli._shared.progress import track
from deeppicker.core import MicrographEntry, Picks
from deeppicker.errors import InputError
from deeppicker.evaluation.figures import kind_of
from deeppicker.evaluation.known import particle_diameter
from deeppicker.evaluation.montage import montage, windows
from deeppicker.evaluation.overlays import overlay
from deeppicker.formats import read_micrograph, read_picks
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.provenance import named_micrographs
from deeppicker.formats.recorded import CANDIDATES, file_of
from deeppicker.formats.relion import star
from deeppicker.runs.selection import reasons
from deeppicker.runs.state import read_state

_SOURCES = 6  # micrographs from which a contact sheet takes its windows
_COLUMNS = 10


@dataclass(frozen=True)
class Run:
    """The picks of a run and their micrographs, as far as these are there.

    Parameters
    ----------
    folder : Path
        Of the run.
    diameter : float
        Å.
    pixel_size : float or None
        Å per pixel, over what is known.
    items : sequence of (MicrographEntry, Picks)
        Each micrograph with its picks.
    """

    folder: Path
    diameter: float
    pixel_size: float | None
    items: Sequence[tuple[MicrographEntry, Picks]]


def open_run(folder: Path, diameter: float | None, pixel_size: float | None) -> Run:
    """Return a run with the micrographs that are there.

    Raises
    ------
    InputError
        If none is, or the particle diameter is not known.
    """
    picks = read_picks(folder)
    entries = {entry.name: entry for entry in named_micrographs(folder, picks) if entry.path.is_file()}
    items = [(entries[item.micrograph], item) for item in picks if item.micrograph in entries]
    if not items:
        raise InputError(f"none of the {len(picks)} micrographs of {folder} was found; run this where it was picked")
    return Run(folder, particle_diameter(diameter, folder, None), pixel_size, items)


def draw_overlays(run: Run, folder: Path, every: bool) -> list[str]:
    """Draw the micrographs with the worst, the median and the best picks by mean score, or all; return their keys."""
    ranked = sorted(run.items, key=lambda item: float(item[1].scores.mean()) if len(item[1]) else -1.0)
    places = range(len(ranked)) if every else sorted({0, len(ranked) // 2, len(ranked) - 1})
    make_folder(folder)
    for place in track(list(places), "drawing"):
        entry, picks = ranked[place]
        micrograph = read_micrograph(entry.path, pixel_size=run.pixel_size or entry.pixel_size)
        atomic_write(folder / f"{picks.key}.png", overlay(micrograph, picks, run.diameter))
    return [ranked[place][1].key for place in places]


def draw_montage(run: Run, path: Path) -> None:
    """Draw the best picks, those at the threshold, what was rejected, and random picks, from some micrographs."""
    kind = kind_of(path)
    rng = np.random.default_rng(0)
    chosen = np.unique(np.linspace(0, len(run.items) - 1, _SOURCES).round().astype(int)).tolist()
    rows: dict[str, list[tuple[float, np.ndarray]]] = {
        name: [] for name in ("best picks", "picks at the threshold", "candidates below it", "rejected", "random picks")
    }
    for place in track(chosen, "cutting"):
        entry, picks = run.items[place]
        micrograph = read_micrograph(entry.path, pixel_size=run.pixel_size or entry.pixel_size)
        random = picks.where(np.isin(np.arange(len(picks)), rng.permutation(len(picks))[:_COLUMNS]))
        below, rejected = _others(run.folder, picks)
        for name, some, order in (
            ("best picks", picks, -picks.scores),
            ("picks at the threshold", picks, picks.scores),
            ("candidates below it", below, -below.scores),
            ("rejected", rejected, -rejected.scores),
            ("random picks", random, rng.uniform(size=len(random))),
        ):
            first = np.argsort(order, kind="stable")[:_COLUMNS]
            cut = windows(micrograph, some.positions[first], run.diameter)
            rows[name] += list(zip(np.asarray(order)[first].tolist(), cut, strict=True))
    shown = {
        name: [window for _, window in sorted(found, key=lambda pair: pair[0])[:_COLUMNS]]
        for name, found in rows.items()
    }
    atomic_write(path, montage({name: found for name, found in shown.items() if found}, kind))


def _others(folder: Path, picks: Picks) -> tuple[Picks, Picks]:
    """Return the candidates below the threshold, and what was rejected or kept out by a filter."""
    path = file_of(folder, CANDIDATES, picks.micrograph)
    if not path.is_file():
        nothing = picks.where(np.zeros(len(picks), dtype=bool))
        return nothing, nothing
    found, rejected, _ = star.read_candidates(path)
    below = found.without(picks)
    state = read_state(folder)
    if state is None or state.threshold is None or not state.select.filtered:
        return below, rejected
    out = found.where(reasons(found, state.select, state.threshold) != "")
    both = [np.concatenate([getattr(some, name) for some in (rejected, out)]) for name in ("positions", "scores")]
    return below.where(below.scores < state.threshold), Picks(picks.micrograph, both[0], both[1])
