"""crYOLO ``.cbox``: corner x, corner y, width, height, confidence; one micrograph a file; STAR since crYOLO 1.8.

As in EMAN ``.box`` files, the corner is the box's pixel of lowest x and y, with row 0 of an MRC file first. crYOLO
takes the middle of the box for its centre, so centre = corner + size / 2; the format holds fractions.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from deeppicker.core import Picks
from deeppicker.errors import FormatError, out_of_range
from deeppicker.formats.coordinates import box
from deeppicker.formats.names import micrograph_of
from deeppicker.formats.star_table import Table, format_values, read_tables
from deeppicker.formats.text import one_line, read_text

_TABLE = "cryolo"
_CORNER = ("CoordinateX", "CoordinateY")
_SIZE = ("Width", "Height")
_DEPTH = "CoordinateZ"
_SCORE = "Confidence"
_MISSING = "<NA>"
_MISSING_TOO = (_MISSING, "None")  # its STAR library writes either
_VERSION = "1.0"


def read(path: Path) -> list[Picks]:
    """Read one file; the micrograph's name comes from the file name.

    Files of crYOLO before 1.8 are EMAN ``.box`` files with more columns; crYOLO writes no picks as an empty file.

    Raises
    ------
    FormatError
        If there are no boxes in it, bad ones, or those of a tomogram; the message gives the row and the line.
    InputError
        If the file cannot be opened.
    """
    if re.search(r"^\s*data_", read_text(path), re.MULTILINE) is None:
        return box.read(path)
    tables = read_tables(path)
    table = next((table for table in tables if table.name == _TABLE), None)
    if table is None:
        found = ", ".join(f"data_{table.name}" for table in tables) or "no table"
        raise FormatError(one_line(f"{path} is not a crYOLO file: needs table data_{_TABLE}; found {found}"))
    _check_flat(table)
    corner, size = (np.stack([table.numbers(label) for label in labels], axis=1) for labels in (_CORNER, _SIZE))
    if (size <= 0).any():
        row = table.row_name(_SIZE[0], int(np.flatnonzero((size <= 0).any(axis=1))[0]))
        raise FormatError(one_line(f"{path}: {row} has a box without extent; check that it is a .cbox file"))
    return [Picks(micrograph_of(path), corner + size / 2, _or_nan(table, _SCORE))]


def text_of(picks: Picks, box_size: int) -> str:
    """Return the file of one micrograph's picks.

    Parameters
    ----------
    picks : Picks
        Those without a score have no confidence in the file.
    box_size : int
        Width and height of the boxes, in pixels.

    Raises
    ------
    InputError
        If the box is smaller than one pixel.
    """
    if box_size < 1:
        raise out_of_range("box_size", box_size, "a positive number")
    count = len(picks)
    corners = picks.positions - box_size / 2
    columns = {label: [f"{v!r}" for v in corners[:, i].tolist()] for i, label in enumerate(_CORNER)}
    columns[_DEPTH] = [_MISSING] * count
    columns |= {label: [str(box_size)] * count for label in _SIZE}
    columns["Depth"] = [_MISSING] * count
    columns |= {label: [str(box_size)] * count for label in ("EstWidth", "EstHeight")}
    columns[_SCORE] = [_MISSING if np.isnan(score) else f"{score!r}" for score in picks.scores.tolist()]
    columns |= {label: [_MISSING] * count for label in ("NumBoxes", "Angle")}
    return f"\ndata_global\n\n_cbox_format_version {_VERSION}\n\n{format_values(_TABLE, columns)}"


def _check_flat(table: Table) -> None:
    depth = _or_nan(table, _DEPTH) if _DEPTH in table else np.empty(0)
    if len(np.unique(depth[np.isfinite(depth)])) > 1:
        raise FormatError(one_line(f"{table.path} holds boxes in several slices, of a tomogram; give a micrograph's"))


def _or_nan(table: Table, label: str) -> Float64[np.ndarray, " n"]:
    if label not in table:
        return np.full(len(table), np.nan)
    values = ["" if token in _MISSING_TOO else token for token in table.text(label)]
    return Table(table.path, table.name, {label: values}, table.start).numbers_or_nan(label)
