"""RELION STAR files: coordinates, particles, ``autopick.star``, and tables of micrographs.

RELION 3.0 (one bare table) and 3.1 to 5 (a table of optics groups beside it) are read; 3.1 is written. RELION
stores particle centres with row 0 first, as we do.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from deeppicker.core import MicrographEntry, Picks
from deeppicker.errors import FormatError
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.coordinates import box
from deeppicker.formats.names import group, merge, micrograph_of
from deeppicker.formats.relion.defocus import ANGSTROM
from deeppicker.formats.star_table import Table, format_table, format_values, read_tables
from deeppicker.formats.text import is_file, number, one_line

_MICROGRAPH = "rlnMicrographName"
_COORDINATE_FILE = "rlnMicrographCoordinates"
_SCORE = "rlnAutopickFigureOfMerit"
_BY_HAND = -999.0  # where RELION's displayer.cpp writes a score
_REASON = "deeppickerReason"
_CONTRAST = "deeppickerContrast"
_REJECTED = "rejected"  # table of a run's file of candidates
_XY = ("rlnCoordinateX", "rlnCoordinateY")
_ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst")
_GROUP = "rlnOpticsGroup"
_MICROGRAPH_PIXEL_SIZES = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")
_IMAGE_PIXEL_SIZE = "rlnImagePixelSize"


def read(path: Path) -> list[Picks]:
    """Read coordinates: a particles table, the files in ``autopick.star``, or one micrograph's coordinates.

    Raises
    ------
    FormatError
        If there are no coordinates in it, or bad ones; the message names the columns found, or the row.
    InputError
        If the file cannot be opened.
    """
    tables = read_tables(path)
    for table in tables:
        if all(label in table for label in _XY):
            return _read_coordinates(table, _optics(tables))
    for table in tables:
        if _MICROGRAPH in table and _COORDINATE_FILE in table:
            return _read_coordinate_files(table)
    wanted = f"{_XY[0]} and {_XY[1]}, or {_MICROGRAPH} and {_COORDINATE_FILE}"
    raise FormatError(one_line(f"{path} holds no coordinates: needs columns {wanted}; found {_found(tables)}"))


def read_micrographs(path: Path) -> list[MicrographEntry]:
    """Read the micrographs that a STAR file names, once each, in the order of the file.

    The pixel size is that of the micrograph: of the row, of its optics group, or (RELION 3.0) from
    magnification and detector. Extracted particles may be binned, so with them only columns about the
    micrograph count.

    Raises
    ------
    FormatError
        If no table names micrographs, or a value is not a number.
    InputError
        If the file cannot be opened.
    """
    tables = read_tables(path)
    table = next((table for table in tables if _MICROGRAPH in table and table.name != "optics"), None)
    if table is None:
        raise FormatError(one_line(f"{path} names no micrographs: needs column {_MICROGRAPH}; found {_found(tables)}"))
    optics = _optics(tables)
    names = table.text(_MICROGRAPH)
    pixel_sizes = _pixel_sizes(table, optics)
    defocus = (table.numbers_or_nan("rlnDefocusU") + table.numbers_or_nan("rlnDefocusV")) / (2 * ANGSTROM)
    rows = group(names, np.stack([pixel_sizes, pixel_sizes], axis=1), defocus)
    return [
        MicrographEntry(
            item.micrograph,
            resolve(item.micrograph, path),
            _one_pixel_size(path, item.micrograph, item.positions[:, 0]),
            _mean(item.scores),
        )
        for item in rows
    ]


def write_coordinates(path: Path, picks: Picks) -> None:
    """Write one micrograph's picks, as RELION's autopicking does; the file name carries the micrograph.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    atomic_write(path, coordinates_text(picks))


def coordinates_text(picks: Picks) -> str:
    """Return the file of one micrograph's picks; Gautomatch's ``_automatch.star`` has the same columns."""
    return format_table("", _picked_columns(picks))


def read_candidates(path: Path) -> tuple[Picks, Picks, list[str]]:
    """Read what `candidates_text` wrote: candidates, what was rejected, and why each of these was.

    Raises
    ------
    FormatError
        If the file holds something else.
    InputError
        If it cannot be opened.
    """
    found, rejected = _candidate_tables(path)
    name = micrograph_of(path)
    candidates = Picks(name, _positions(found), found.numbers_or_nan(_SCORE), _contrast(found))
    return candidates, Picks(name, _positions(rejected), rejected.numbers_or_nan(_SCORE)), rejected.text(_REASON)


def read_scores(path: Path) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"] | None]:
    """Read scores and contrast of the candidates alone, in half the time; see `read_candidates`."""
    found, _ = _candidate_tables(path)
    return found.numbers_or_nan(_SCORE), _contrast(found)


def _candidate_tables(path: Path) -> tuple[Table, Table]:
    tables = {table.name: table for table in read_tables(path)}
    found, rejected = tables.get(""), tables.get(_REJECTED)
    if found is None or rejected is None:
        shown = _found([*tables.values()])
        raise FormatError(
            one_line(f"{path} does not hold the candidates of a run; repeat the command that picked it; found {shown}")
        )
    return found, rejected


def _contrast(found: Table) -> Float64[np.ndarray, " n"] | None:
    return found.numbers(_CONTRAST) if _CONTRAST in found else None


def candidates_text(found: Picks, rejected: Picks, reasons: Sequence[str]) -> str:
    """Return the file of one micrograph's candidates and, in a second table, of what was rejected and why.

    What RELION has no columns for stands in columns of our own.
    """
    columns: dict[str, Sequence[str]] = _picked_columns(found)
    if found.contrast is not None:
        columns[_CONTRAST] = [f"{value!r}" for value in found.contrast.tolist()]
    others: dict[str, Sequence[str]] = dict(_coordinate_columns(rejected.positions, rejected.scores))
    others[_REASON] = [reason.replace(" ", "_") for reason in reasons]
    return format_table("", columns) + format_table(_REJECTED, others)


def write_autopick(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write ``autopick.star``, which RELION takes as the coordinates of a whole job.

    Parameters
    ----------
    path : path
        Normally ``autopick.star`` beside the coordinate files.
    rows : sequence of (str, str)
        Micrograph name and its coordinate file, which RELION looks up from its project folder.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    atomic_write(path, autopick_text(rows))


def autopick_text(rows: Sequence[tuple[str, str]]) -> str:
    """Return the content of ``autopick.star`` (OutputError if a name cannot be stored); see `write_autopick`."""
    columns: dict[str, Sequence[str]] = {
        _MICROGRAPH: [row[0] for row in rows],
        _COORDINATE_FILE: [row[1] for row in rows],
    }
    return format_table("coordinate_files", columns)


def write_particles(path: Path, picks: Sequence[Picks], pixel_sizes: Mapping[str, float] | None = None) -> None:
    """Write the picks of many micrographs as one particles table.

    Parameters
    ----------
    path : path
        The file.
    picks : sequence of Picks
        A micrograph without picks leaves no trace in the table.
    pixel_sizes : mapping of str to float, optional
        Å per pixel by micrograph name; every distinct one becomes an optics group. Without it there is no
        table of optics groups, as before RELION 3.1.

    Raises
    ------
    KeyError
        If ``pixel_sizes`` lacks a micrograph.
    OutputError
        If the file cannot be written.
    """
    names = [item.micrograph for item in picks for _ in range(len(item))]
    positions = np.concatenate([np.empty((0, 2)), *(item.positions for item in picks)])
    scores = np.concatenate([np.empty(0), *(item.scores for item in picks)])
    columns: dict[str, Sequence[str]] = {_MICROGRAPH: names, **_coordinate_columns(positions, scores)}
    optics = ""
    if pixel_sizes is not None:
        groups = {size: i for i, size in enumerate(dict.fromkeys(pixel_sizes[p.micrograph] for p in picks), start=1)}
        optics = _format_optics(groups)
        columns[_GROUP] = [str(groups[pixel_sizes[name]]) for name in names]
    atomic_write(path, optics + format_table("particles", columns))


def write_particles_3_0(path: Path, picks: Sequence[Picks], pixel_sizes: Mapping[str, float] | None = None) -> None:
    """Write the picks of many micrographs as RELION up to 3.0 does: one table, pixel sizes as magnifications.

    Parameters and errors are those of `write_particles`.
    """
    names = [item.micrograph for item in picks for _ in range(len(item))]
    positions = np.concatenate([np.empty((0, 2)), *(item.positions for item in picks)])
    scores = np.concatenate([np.empty(0), *(item.scores for item in picks)])
    columns: dict[str, Sequence[str]] = {_MICROGRAPH: names, **_coordinate_columns(positions, scores)}
    if pixel_sizes is not None:  # at 10,000 times, a µm on the detector is an Å in the specimen
        columns["rlnMagnification"] = ["10000"] * len(names)
        columns["rlnDetectorPixelSize"] = [number(pixel_sizes[name]) for name in names]
    atomic_write(path, "\n" + format_values("", columns))


def resolve(name: str, star: Path) -> Path:
    """Return where a file named in a STAR file lies: as given, else from the STAR's folder or one above it.

    RELION names files from its project folder, a parent of the folders of its jobs. A file that is nowhere keeps the
    name that stands in the STAR file, so that messages show what someone wrote.
    """
    return next((path for path in _places(name, star) if is_file(path)), Path(name))


def _places(name: str, star: Path) -> Iterator[Path]:
    yield Path(name)
    yield star.parent / name
    for folder in star.absolute().parent.parents:
        yield folder / name


def _optics(tables: Sequence[Table]) -> Table | None:
    return next((table for table in tables if table.name == "optics"), None)


def _read_coordinates(table: Table, optics: Table | None) -> list[Picks]:
    positions = _positions(table) - _origins(table, optics)
    scores = _scores(table)
    if _MICROGRAPH in table:
        return group(table.text(_MICROGRAPH), positions, scores)
    return [Picks(micrograph_of(table.path), positions, scores)]


def _origins(table: Table, optics: Table | None) -> Float64[np.ndarray, "n 2"]:
    """Return how far refinement moved each particle, in pixels of the micrograph; its centre is that much less."""
    if not all(label in table for label in _ORIGINS):
        return np.zeros((1, 2))
    origins = np.stack([table.numbers(label) for label in _ORIGINS], axis=1)
    sizes = _pixel_sizes(table, optics)[:, None]
    if (np.isnan(sizes) & (origins != 0)).any():
        warnings.warn(
            one_line(f"{table.path}: no pixel size of the micrographs, so {' and '.join(_ORIGINS)} are left out"),
            stacklevel=2,
        )
    return np.where(np.isnan(sizes), 0.0, origins / sizes)


def _read_coordinate_files(table: Table) -> list[Picks]:
    picks = []
    for name, file in zip(table.text(_MICROGRAPH), table.text(_COORDINATE_FILE), strict=True):
        path = resolve(file, table.path)
        if not is_file(path):
            raise FormatError(
                one_line(f"{table.path}: {file}, coordinates of {name}, does not exist; run in the project folder")
            )
        picks.append(_read_one(path, name))
    return merge(picks)


def _read_one(path: Path, name: str) -> Picks:
    """Read a coordinate file that belongs to the micrograph ``name`` whatever the file itself is called."""
    if path.stat().st_size == 0:  # RELION writes an empty table as nothing at all
        return Picks(name, np.empty((0, 2)), np.empty(0))
    if path.suffix.lower() == ".box":
        (found,) = box.read(path)
        return Picks(name, found.positions, found.scores)
    tables = read_tables(path)
    table = next((table for table in tables if _XY[0] in table), None)
    if table is None:
        raise FormatError(
            one_line(f"{path} holds no coordinates: needs columns {' and '.join(_XY)}; found {_found(tables)}")
        )
    return Picks(name, _positions(table), _scores(table))


def _scores(table: Table) -> Float64[np.ndarray, " n"]:
    """Return the scores; picks made by hand have none, which RELION writes as a number."""
    scores = table.numbers_or_nan(_SCORE)
    return np.where(scores == _BY_HAND, np.nan, scores)


def _positions(table: Table) -> Float64[np.ndarray, "n 2"]:
    return np.stack([table.numbers(label) for label in _XY], axis=1)


def _coordinate_columns(
    positions: Float[np.ndarray, "n 2"], scores: Float[np.ndarray, " n"]
) -> dict[str, Sequence[str]]:
    """Return the columns of positions and, if there is any, scores.

    ``repr`` digits: our best scores differ in the seventh digit and beyond, and their order must survive.
    """
    columns: dict[str, Sequence[str]] = {
        label: [f"{v!r}" for v in positions[:, i].tolist()] for i, label in enumerate(_XY)
    }
    if np.isfinite(scores).any():
        columns[_SCORE] = [f"{v!r}" for v in scores.tolist()]
    return columns


def _picked_columns(picks: Picks) -> dict[str, Sequence[str]]:
    zeros = ["0"] * len(picks)
    return {**_coordinate_columns(picks.positions, picks.scores), "rlnClassNumber": zeros, "rlnAnglePsi": zeros}


def _format_optics(groups: Mapping[float, int]) -> str:
    sizes = [number(size) for size in groups]
    numbers = [str(index) for index in groups.values()]
    # Picks are on the micrographs as stored, so all three pixel sizes that RELION knows are the same.
    columns: dict[str, Sequence[str]] = {
        "rlnOpticsGroupName": [f"opticsGroup{index}" for index in numbers],
        _GROUP: numbers,
        **dict.fromkeys((*_MICROGRAPH_PIXEL_SIZES, _IMAGE_PIXEL_SIZE), sizes),
    }
    return format_table("optics", columns)


def _pixel_sizes(table: Table, optics: Table | None) -> Float64[np.ndarray, " n"]:
    """Return the micrograph's pixel size of each row in Å, NaN where the file does not tell."""
    for label in _MICROGRAPH_PIXEL_SIZES:
        if label in table:
            return table.numbers(label)
    extracted = "rlnImageName" in table
    if optics is not None:
        return _from_optics(table, optics, (*_MICROGRAPH_PIXEL_SIZES, *(() if extracted else (_IMAGE_PIXEL_SIZE,))))
    if "rlnDetectorPixelSize" in table and "rlnMagnification" in table and not extracted:
        with np.errstate(divide="ignore"):  # µm to Å; zero is refused by the caller
            sizes: Float64[np.ndarray, " n"] = (
                1e4 * table.numbers("rlnDetectorPixelSize") / table.numbers("rlnMagnification")
            )
            return sizes
    return np.full(len(table), np.nan)


def _from_optics(table: Table, optics: Table, labels: Sequence[str]) -> Float64[np.ndarray, " n"]:
    label = next((label for label in labels if label in optics), None)
    if label is None:
        return np.full(len(table), np.nan)
    sizes = optics.numbers(label)
    if _GROUP not in table and len(optics) == 1:
        return np.full(len(table), sizes[0])
    by_group = dict(zip(optics.text(_GROUP), sizes.tolist(), strict=True))
    groups = table.text(_GROUP)
    unknown = next((row for row, key in enumerate(groups) if key not in by_group), None)
    if unknown is not None:
        row = table.row_name(_GROUP, unknown)
        raise FormatError(
            one_line(
                f"{table.path}: {row} of data_{table.name} is in optics group {groups[unknown]}, "
                f"which data_optics does not hold; found {', '.join(by_group) or 'none'}"
            )
        )
    return np.array([by_group[key] for key in groups])


def _one_pixel_size(path: Path, name: str, sizes: Float64[np.ndarray, " n"]) -> float | None:
    if np.isnan(sizes).all():
        return None
    low, high = float(sizes.min()), float(sizes.max())
    if not 0 < low < np.inf or high - low > 1e-4 * high:
        values = f"{low:g} Å" if low == high else f"both {low:g} and {high:g} Å"
        raise FormatError(one_line(f"{path}: {name} has pixel size {values}; correct the file or leave {name} out"))
    return low


def _mean(values: Float64[np.ndarray, " n"]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _found(tables: Sequence[Table]) -> str:
    return "; ".join(f"data_{table.name} with {', '.join(table.columns)}" for table in tables) or "no table"
