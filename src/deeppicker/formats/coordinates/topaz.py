"""Topaz: tab-separated ``image_name  x_coord  y_coord  score``; centres; names have no extension.

Topaz itself writes whole pixels, and cuts particles only at these, so writing rounds; reading takes decimals too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deeppicker.core import Picks
from deeppicker.errors import FormatError, OutputError
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.names import distinct_keys, group
from deeppicker.formats.text import finite_floats, floats, number, numbered_lines, one_line, read_text, row_name

_COLUMNS = ("image_name", "x_coord", "y_coord")
_SCORE = "score"


def read(path: Path) -> list[Picks]:
    """Read the picks of every micrograph in the file.

    Raises
    ------
    FormatError
        If the header or a row is not Topaz's, or a coordinate is not a number.
    InputError
        If the file cannot be opened.
    """
    lines = numbered_lines(read_text(path))
    rows = [line.split("\t") for _, line in lines]
    numbers = [number for number, _ in lines[1:]]
    header = [label.strip() for label in rows[0]] if rows else []
    if not set(_COLUMNS) <= set(header):
        found = ", ".join(header[:8]) or "nothing"
        raise FormatError(
            one_line(f"{path} is not a Topaz file; needs tab-separated {', '.join(_COLUMNS)}; found {found}")
        )
    body = rows[1:]
    bad = next((i for i, row in enumerate(body) if len(row) != len(header)), None)
    if bad is not None:
        row = row_name(bad, numbers.__getitem__)
        raise FormatError(one_line(f"{path}: {row} has {len(body[bad])} columns, the header {len(header)}"))
    columns = {label: [row[i].strip() for row in body] for i, label in enumerate(header)}
    names, x, y = (columns[label] for label in _COLUMNS)
    positions = np.stack(
        [
            finite_floats(column, f"{path}: {label}", numbers.__getitem__)
            for column, label in zip((x, y), _COLUMNS[1:], strict=True)
        ],
        axis=1,
    )
    scores = floats(columns.get(_SCORE, [""] * len(body)), f"{path}: {_SCORE}", numbers.__getitem__)
    return group(names, positions, scores)


def write(path: Path, picks: Sequence[Picks]) -> None:
    """Write the picks of all micrographs; one without picks leaves no trace in the file.

    Raises
    ------
    InputError
        If two micrographs have the same name but for folder and extension.
    OutputError
        If a name cannot be stored, or the file not be written.
    """
    distinct_keys(picks)
    scored = any(item.has_scores for item in picks)
    lines = ["\t".join((*_COLUMNS, _SCORE) if scored else _COLUMNS)]
    for item in picks:
        if set(item.key) & set("\t\n\r") or item.key != item.key.strip():
            raise OutputError(one_line(f"Topaz files cannot store the micrograph name {item.key!r}; rename it"))
        for (x, y), score in zip(item.positions.tolist(), item.scores.tolist(), strict=True):
            row = [item.key, str(math.floor(x + 0.5)), str(math.floor(y + 0.5))]
            lines.append("\t".join([*row, "" if np.isnan(score) else number(score)] if scored else row))
    atomic_write(path, "\n".join([*lines, ""]))
