"""EMAN2 ``info/<micrograph>_info.json``: under ``boxes`` a list of ``[x, y, kind, score]``; centres, row 0 first.

EMAN2 keeps much else about a micrograph in the same file, so writing leaves that as it is.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from deeppicker.core import Picks
from deeppicker.errors import FormatError
from deeppicker.formats.names import micrograph_of
from deeppicker.formats.sealed import parse_json
from deeppicker.formats.text import is_file, one_line, read_text

SUFFIX = "_info.json"
_BOXES = "boxes"
_KIND = "deeppicker"
_SEPARATOR = re.compile(r"\s*,?\s*")


def read(path: Path) -> list[Picks]:
    """Read one file; the micrograph's name comes from the file name, without ``_info``.

    Raises
    ------
    FormatError
        If it is not JSON (the message gives the line), or there are no boxes in it, or bad ones.
    InputError
        If the file cannot be opened.
    """
    boxes = _load(path).get(_BOXES)
    if not isinstance(boxes, list):
        found = "boxes of a tomogram" if "boxes_3d" in _load(path) else "none"
        raise FormatError(
            one_line(f"{path} holds no EMAN2 boxes of a micrograph: needs a list {_BOXES!r}; found {found}")
        )
    table = np.array([_row(path, i, item) for i, item in enumerate(boxes)], dtype=np.float64).reshape(-1, 3)
    return [Picks(micrograph_of(path), table[:, :2], table[:, 2])]


def text_of(picks: Picks, path: Path) -> str:
    """Return the file of one micrograph's picks, with whatever else the file ``path`` holds already.

    Raises
    ------
    FormatError
        If there is a file that is not EMAN2's.
    InputError
        If there is one that cannot be read.
    """
    content = _load(path) if is_file(path) else {}
    rows: list[list[float | str]] = [[x, y, _KIND] for x, y in picks.positions.tolist()]
    for row, score in zip(rows, picks.scores.tolist(), strict=True):
        if not math.isnan(score):
            row.append(score)
    return json.dumps(content | {_BOXES: rows}, indent=1) + "\n"


def _load(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_text(path))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}: {error.msg}"
        raise FormatError(one_line(f"{path} is not a valid JSON file: {where}; check the file")) from error
    except ValueError as error:  # digits without end, brackets without end
        raise FormatError(one_line(f"{path} is not an EMAN2 file: {error}; check the file")) from error
    if not isinstance(content, dict):
        raise FormatError(one_line(f"{path} is not an EMAN2 file: holds no names with values; check the file"))
    return content


def _row(path: Path, index: int, item: object) -> tuple[float, float, float]:
    values = item if isinstance(item, list) else []
    x, y = (_number(value) for value in [*values[:2], None, None][:2])
    if x is None or y is None:
        shown = json.dumps(item)[:60]
        line = _line_of_box(read_text(path), index)
        where = f"box {index + 1}" + (f" (line {line})" if line is not None else "")
        raise FormatError(one_line(f"{path}: {where} is {shown}, not [x, y, kind]; correct or remove it"))
    score = _number(values[3]) if len(values) > 3 else None
    return x, y, math.nan if score is None else score


def _line_of_box(text: str, index: int) -> int | None:
    """Return the line on which a box (the first is 0) begins, by reading the list again; None if it is not found."""
    start = re.search(rf'"{_BOXES}"\s*:\s*\[\s*', text)
    if start is None:
        return None
    at, decoder = start.end(), json.JSONDecoder()
    try:
        for _ in range(index):
            _, end = decoder.raw_decode(text, at)
            at = end + len(_SEPARATOR.match(text, end)[0])  # type: ignore[index]  # always matches
    except ValueError:
        return None
    return text.count("\n", 0, at) + 1


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
