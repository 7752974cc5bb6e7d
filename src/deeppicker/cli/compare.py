"""``deeppicker compare``: how far several sets of picks agree, and their consensus."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional, arg

from deeppicker.cli._shared.types import Length, OptionalFile, Where
from deeppicker.config.limits import positive, within
from deeppicker.core import MicrographEntry, micrograph_key
from deeppicker.errors import InputError
from deeppicker.evaluation.compare import Comparison, PickSet, compare_picks, consensus
from deeppicker.evaluation.known import micrograph_info
from deeppicker.formats import find_micrographs, read_picks, write_picks
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.names import without_uid
from deeppicker.formats.provenance import named_micrographs
from deeppicker.formats.recorded import Recorded
from deeppicker.formats.text import one_line
from deeppicker.formats.writable import refuse_unwritable_file

_MATCH_DIAMETERS = 0.3  # as `deeppicker evaluate`: 0.2 boxes of 1.5 diameters (paper, section 4.4)
_CONSENSUS_KINDS = (".star", ".csv", ".tsv", ".txt", "")
OptionalPath = Annotated[Path | None, arg(metavar="OUT")]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Show how far several sets of picks agree, one to one, and write their consensus.

    The picks may come from any program, in any supported format. Two picks agree when their centres lie within 0.3
    diameters of each other.
    """

    sets: Annotated[Positional[tuple[Path, ...]], arg(metavar="PICKS")]
    """Two or more files or folders of picks."""
    diameter: Length = None
    """Particle diameter in Å; default: as recorded beside one of the sets."""
    radius: Length = None
    """Largest distance of picks that agree, in Å; default: 0.3 diameters."""
    radius_pixels: Annotated[float | None, arg(metavar="PIXELS")] = None
    """The same in pixels of the micrographs, instead of --radius; needs no pixel size."""
    pixel_size: Length = None
    """Å per pixel, for all micrographs; default: from STAR and .cs files or the micrographs."""
    micrographs: Where = None
    """Folder, pattern, file, STAR or .cs file of the micrographs, for their pixel sizes."""
    names: tuple[str, ...] = ()
    """Names of the sets in tables and pictures; default: those of their files."""
    common: bool = False
    """Compare only micrographs that all sets name. Otherwise a micrograph missing from a set counts as one without
    picks."""
    consensus: OptionalPath = None
    """Write the picks that --at-least sets share, at their mean positions, scored by the fraction of the sets: a .star,
    .csv, .tsv or .txt file, or a folder with RELION's files."""
    at_least: int = 2
    """Number of sets that must share a pick of the consensus."""
    json: OptionalFile = None
    """Write all numbers, also those of each micrograph, to this JSON file."""
    csv: OptionalFile = None
    """Write the agreement matrix to this CSV file."""
    png: OptionalFile = None
    """Draw the agreement matrix to this PNG file."""


def run(options: Options) -> int:
    """Compare, print the table, write what was asked for, and return the exit status.

    Raises
    ------
    DeepPickerError
        For input that cannot be used, output that cannot be written, or a missing diameter or pixel size.
    """
    _check(options)
    refuse_unwritable_file(options.json, options.csv, options.png, options.consensus)
    labels = options.names or _labels(options.sets)
    sets = [_read(label, path) for label, path in zip(labels, options.sets, strict=True)]
    keys = _keys(sets, options)
    pixel_sizes = _pixel_sizes(options, sets, keys)
    radius, unit = _radius(options)
    radii = {key: radius if unit == "pixels" else radius / _known(key, pixel_sizes[key]) for key in keys}
    comparison = compare_picks(sets, radii)
    _print(comparison, f"{radius:g} {unit}", Console(width=None if sys.stdout.isatty() else 120, highlight=False))
    if options.json is not None:
        numbers = {"match_radius": radius, "match_radius_unit": unit} | comparison.to_json()
        atomic_write(options.json, json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if options.csv is not None:
        atomic_write(options.csv, _csv(comparison))
    if options.png is not None:
        from deeppicker.evaluation.curves import agreement_matrix

        atomic_write(options.png, agreement_matrix(comparison.labels, comparison.found))
    if options.consensus is not None:
        found = consensus(sets, radii, options.at_least)
        names = {key: item.micrograph for key, item in zip(keys, found, strict=True)}
        known = {names[key]: size for key, size in pixel_sizes.items() if size is not None}
        write_picks(options.consensus, found, pixel_size=known if len(known) == len(found) else None)
        count = sum(map(len, found))
        print(f"Wrote {count:,} picks of at least {options.at_least} of {len(sets)} sets to {options.consensus}")
    return 0


def _check(options: Options) -> None:
    if len(options.sets) < 2:
        raise InputError("one set of picks cannot be compared; give at least two files or folders")
    if options.names and len(options.names) != len(options.sets):
        raise InputError(f"--names gives {len(options.names)} names for {len(options.sets)} sets; give one each")
    if len(set(options.names)) != len(options.names):
        raise InputError("--names gives a name twice; give different ones")
    within(options, at_least=(1, len(options.sets)))
    if options.radius is not None and options.radius_pixels is not None:
        raise InputError("--radius and --radius-pixels exclude each other; set one of them")
    positive(options, "diameter", "radius", "radius_pixels", "pixel_size")
    if options.consensus is not None and options.consensus.suffix.lower() not in _CONSENSUS_KINDS:
        raise InputError(
            one_line(f"--consensus {options.consensus} is not a .star, .csv, .tsv or .txt file; write one of these")
        )


def _labels(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the last parts of the paths, as many as tell them apart, and a number where the path is the same."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]  # noqa: PTH100 - links stay as the user named them
    depth = next((d for d in range(1, max(map(len, parts)) + 1) if len({p[-d:] for p in parts}) == len(parts)), 1)
    labels = [str(Path(*part[-depth:])) for part in parts]
    return tuple(
        label if labels.count(label) == 1 else f"{label} ({labels[: i + 1].count(label)})"
        for i, label in enumerate(labels)
    )


def _read(label: str, path: Path) -> PickSet:
    picks = read_picks(path)
    by_key = {_key(item.micrograph): item for item in picks}
    if len(by_key) < len(picks):
        names = [item.micrograph for item in picks]
        twice = next(name for i, name in enumerate(names) if _key(name) in map(_key, names[:i]))
        raise InputError(one_line(f"{path} holds two micrographs called {_key(twice)}; compare them one by one"))
    return PickSet(label, by_key)


def _key(name: str) -> str:
    return without_uid(micrograph_key(name))


def _keys(sets: Sequence[PickSet], options: Options) -> list[str]:
    every = list(dict.fromkeys(key for item in sets for key in item.picks))
    shared = [key for key in every if all(key in item.picks for item in sets)]
    if options.common:
        if not shared:
            raise InputError("no micrograph is named by all sets; check their names, or leave out --common")
        return shared
    if len(shared) < len(every):
        warnings.warn(
            f"{len(every) - len(shared)} of {len(every)} micrographs are not named by all sets and count as "
            "empty there; --common leaves them out",
            stacklevel=2,
        )
    return every


def _radius(options: Options) -> tuple[float, str]:
    """Return the match radius and its unit."""
    if options.radius_pixels is not None:
        return options.radius_pixels, "pixels"
    if options.radius is not None:
        return options.radius, "Å"
    known = options.diameter or next(filter(None, (Recorded(path).diameter for path in options.sets)), None)
    if known is None:
        raise InputError(
            "no particle diameter is recorded beside the sets; set --diameter, --radius or --radius-pixels"
        )
    return _MATCH_DIAMETERS * known, "Å"


def _known(key: str, pixel_size: float | None) -> float:
    if pixel_size is None:
        raise InputError(
            one_line(f"the pixel size of {key} is not known; set --pixel-size, --micrographs or --radius-pixels")
        )
    return pixel_size


def _pixel_sizes(options: Options, sets: Sequence[PickSet], keys: Sequence[str]) -> dict[str, float | None]:
    """Return Å per pixel by micrograph, as the option, the sets or the images say; None where none of them does."""
    if options.pixel_size is not None:
        return dict.fromkeys(keys, options.pixel_size)
    by_key: dict[str, list[MicrographEntry]] = {}
    for entry in _entries(options, sets):
        by_key.setdefault(_key(entry.name), []).append(entry)
    recorded = next(filter(None, (Recorded(path).pixel_size for path in options.sets)), None)
    found = {key: micrograph_info(by_key.get(key, ()), recorded) for key in keys}
    return {key: None if info is None else info.pixel_size for key, info in found.items()}


def _entries(options: Options, sets: Sequence[PickSet]) -> list[MicrographEntry]:
    entries = []
    for path, item in zip(options.sets, sets, strict=True):
        entries += named_micrographs(path, list(item.picks.values()))
    return entries + (find_micrographs([options.micrographs]) if options.micrographs is not None else [])


def _print(comparison: Comparison, radius: str, console: Console) -> None:
    console.print(
        f"Match radius {radius}, {len(comparison.micrographs)} micrographs. "
        "Fraction of a row's picks that the column shares:"
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", justify="right")
    table.add_column("Set", overflow="fold")
    table.add_column("Picks", justify="right")
    for number in range(1, len(comparison.labels) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    rows = zip(comparison.labels, comparison.picks.tolist(), comparison.found.tolist(), strict=True)
    for number, (label, count, found) in enumerate(rows, start=1):
        table.add_row(str(number), escape(label), f"{count:,}", *("-" if v != v else f"{v:.3f}" for v in found))
    console.print(table)


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["set", "picks", *comparison.labels])
    rows = zip(comparison.labels, comparison.picks.tolist(), comparison.found.tolist(), strict=True)
    for label, count, found in rows:
        writer.writerow([label, count, *("" if v != v else f"{v:.6g}" for v in found)])
    return text.getvalue()
