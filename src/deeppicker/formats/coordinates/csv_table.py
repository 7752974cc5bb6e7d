"""CSV: a header row, then ``micrograph,x,y,score``; CryoPPP's ``X-Coordinate,Y-Coordinate`` are recognised.

CryoPPP counts y from the bottom of the image, others that write its columns may not, so the reader never
guesses: the user says which (``--flip-y`` or ``--keep-y``).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deeppicker.core import Picks
from deeppicker.errors import FormatError, InputError
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.names import group, micrograph_of
from deeppicker.formats.text import finite_floats, floats, number, one_line, read_text, row_name

_MICROGRAPH, _SCORE = "micrograph", "score"
_XY = ("x", "y")
_CRYOPPP_XY = ("x-coordinate", "y-coordinate")


def read(path: Path, *, y_direction_known: bool = False) -> list[Picks]:
    """Read the picks of every micrograph in the file; coordinates as stored, never flipped.

    Parameters
    ----------
    path : path
        The file; without a column ``micrograph`` its name is that of the micrograph.
    y_direction_known : bool
        Whether the user has said from which end y counts; CryoPPP's columns need it.

    Raises
    ------
    FormatError
        If columns are missing, a row has too few of them, or a coordinate is not a number.
    InputError
        If the file cannot be opened, or its y direction is not known.
    """
    header, rows, numbers = _parse(path)
    cryoppp = set(_CRYOPPP_XY) <= set(header)
    labels = _CRYOPPP_XY if cryoppp else _XY
    if not set(labels) <= set(header):
        found = ", ".join(header[:12]) or "nothing"
        needs = f"columns {', '.join((_MICROGRAPH, *_XY))} or {', '.join(_CRYOPPP_XY)}"
        raise FormatError(one_line(f"{path} holds no coordinates: needs {needs}; found {found}"))
    if cryoppp and not y_direction_known:
        raise InputError(
            one_line(
                f"{path} has CryoPPP's columns, where y counts from the bottom; "
                "set --flip-y, or --keep-y if it counts from the first row"
            )
        )
    columns = {label: [row[i] for row in rows] for i, label in enumerate(header)}
    positions = np.stack(
        [finite_floats(columns[label], f"{path}: {label}", numbers.__getitem__) for label in labels], axis=1
    )
    scores = floats(columns.get(_SCORE, [""] * len(rows)), f"{path}: {_SCORE}", numbers.__getitem__)
    if _MICROGRAPH in columns:
        return group(columns[_MICROGRAPH], positions, scores)
    return [Picks(micrograph_of(path), positions, scores)]


def write(path: Path, picks: Sequence[Picks]) -> None:
    """Write the picks of all micrographs; one without picks leaves no trace in the file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_MICROGRAPH, *_XY, _SCORE])
    for item in picks:
        for (x, y), score in zip(item.positions.tolist(), item.scores.tolist(), strict=True):
            writer.writerow([item.micrograph, number(x), number(y), "" if np.isnan(score) else number(score)])
    atomic_write(path, text.getvalue())


def _parse(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return the labels, lower case, the rows, and the line on which each row ends."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows, numbers = [], []
    try:
        for row in reader:
            if row:
                rows.append(row)
                numbers.append(reader.line_num)
    except csv.Error as error:
        raise FormatError(one_line(f"{path} is not a valid CSV file: line {reader.line_num}: {error}")) from error
    if not rows:
        raise FormatError(one_line(f"{path} is empty; it needs a header row"))
    header = [label.strip().lower() for label in rows[0]]
    bad = next((i for i, row in enumerate(rows[1:]) if len(row) != len(header)), None)
    if bad is not None:
        count = len(rows[bad + 1])
        where = row_name(bad, numbers[1:].__getitem__)
        raise FormatError(one_line(f"{path}: {where} has {count} columns, the header {len(header)}"))
    return header, rows[1:], numbers[1:]
