"""EMAN ``.box``: corner x, corner y, width, height and perhaps a score; one micrograph a file, no header.

The corner is the box's pixel of lowest x and y. EMAN and RELION take pixel ``n // 2`` of a box of ``n``
pixels for its centre, so centre = corner + size // 2; the format holds whole numbers, writing rounds half up.
crYOLO takes corner + size / 2, so boxes are written with an even size only, on which all agree.
EMAN1 has a type instead of a score in the fifth column: -3 is a particle, -1 and -2 are the ends of a helix.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from deeppicker.core import Picks
from deeppicker.errors import FormatError, InputError, out_of_range
from deeppicker.formats.names import micrograph_of
from deeppicker.formats.text import Lines, finite_floats, floats, numbered_lines, one_line, read_text, row_name

_HELIX_ENDS = {"-1", "-2"}
_EMAN1_PARTICLE = "-3"


def read(path: Path) -> list[Picks]:
    """Read one file; the micrograph's name comes from the file name.

    Raises
    ------
    FormatError
        If a line has too few columns or something else than numbers.
    InputError
        If the file cannot be opened.
    """
    used = [(number, line.split()) for number, line in numbered_lines(read_text(path)) if line.lstrip()[0] != "#"]
    rows, lines = [row for _, row in used], [number for number, _ in used].__getitem__
    _check_columns(path, rows, lines)
    x, y, width, height = (finite_floats([row[i] for row in rows], f"{path}: column {i + 1}", lines) for i in range(4))
    if ((width < 1) | (height < 1)).any():
        row = row_name(int(np.flatnonzero((width < 1) | (height < 1))[0]), lines)
        raise FormatError(one_line(f"{path}: {row} has a box smaller than a pixel; check that it is a .box file"))
    positions = np.stack([x + width // 2, y + height // 2], axis=1)
    return [Picks(micrograph_of(path), positions, _scores(path, rows, lines))]


def text_of(picks: Picks, box_size: int) -> str:
    """Return the file of one micrograph's picks.

    Parameters
    ----------
    picks : Picks
        Positions are rounded so that the corner is a whole pixel.
    box_size : int
        Width and height of the boxes, in pixels.

    Raises
    ------
    InputError
        If the box is smaller than one pixel, or its size odd.
    """
    if box_size < 1:
        raise out_of_range("box_size", box_size, "a positive number")
    if box_size % 2:
        raise InputError(
            f"--box-size {box_size} is odd, and programs disagree about the middle of such boxes; choose an even number"
        )
    corners = [[math.floor(value + 0.5) - box_size // 2 for value in row] for row in picks.positions.tolist()]
    lines = [f"{x}\t{y}\t{box_size}\t{box_size}" for x, y in corners]
    if picks.has_scores:
        lines = [f"{line}\t{float(score)!r}" for line, score in zip(lines, picks.scores, strict=True)]
    return "".join(f"{line}\n" for line in lines)


def _check_columns(path: Path, rows: list[list[str]], lines: Lines) -> None:
    for index, row in enumerate(rows):
        if len(row) < 4 or len(row) < len(rows[0]):
            raise FormatError(
                one_line(
                    f"{path}: {row_name(index, lines)} has {len(row)} columns; a .box file has at least four, "
                    "the same number in every row: corner x, corner y, width, height"
                )
            )


def _scores(path: Path, rows: list[list[str]], lines: Lines) -> Float64[np.ndarray, " n"]:
    if not rows or len(rows[0]) < 5:
        return np.full(len(rows), np.nan)
    fifth = [row[4] for row in rows]
    if set(fifth) == _HELIX_ENDS:
        raise FormatError(one_line(f"{path} holds the ends of helices, not particles; cut them into segments first"))
    if set(fifth) == {_EMAN1_PARTICLE}:
        return np.full(len(rows), np.nan)
    return floats(fifth, f"{path}: column 5", lines)
