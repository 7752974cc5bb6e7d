"""Reading text files and numbers, with errors that say where."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from deeppicker.errors import FormatError, UnreadableError

Lines = Callable[[int], int | None]
"""Tells the line of a file (the first is 1) in which a row of its table (the first is 0) stands, if that is known."""

_PART = 10_000  # values that are parsed at once
_LONGEST_SHOWN = 60
_LONGEST_MESSAGE = 1500
_FORMULA = ("=", "+", "-", "@")


def one_line(value: object) -> str:
    """Return ``str(value)`` on one printable line; error messages must not break over lines.

    Of a very long one, such as one that quotes a damaged file, the middle is left out: file and remedy are at the ends.
    """
    text = " ".join(str(value).split())
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    if len(text) > _LONGEST_MESSAGE:
        text = f"{text[: _LONGEST_MESSAGE * 2 // 3]} … {text[-_LONGEST_MESSAGE // 3 :]}"
    return text


def cell(text: str) -> str:
    """Return a text for a table that people open as a spreadsheet: on one line, and never taken for a formula.

    A path that begins as formulas do gets ``./`` in front, and so stays the same path.
    """
    line = one_line(text)
    return f"./{line}" if line[:1] in _FORMULA else line


def is_file(path: Path) -> bool:
    """Return whether the path is a file; False also for names that no file can have, where pathlib raises."""
    return os.path.isfile(path)  # noqa: PTH113


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder, sorted, without hidden ones (InputError if it cannot be listed)."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and is_file(path))
    except OSError as error:
        raise unreadable(folder, error) from error


def unreadable(path: Path, error: OSError) -> UnreadableError:
    """Return the error for a file that the operating system does not let us read."""
    reason = error.strerror or error
    return UnreadableError(one_line(f"{path} cannot be read: {reason}; check the path and its permissions"))


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file; bytes that are not UTF-8 survive as they do in file names.

    Raises
    ------
    InputError
        If the file does not exist or cannot be read, or is a pipe or device.
    FormatError
        If it is binary, or too large for the memory.
    """
    from deeppicker.formats.room import refuse_large_text, refuse_special  # they need this module for their messages

    refuse_large_text(path, refuse_special(path).st_size)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if b"\0" in content:
        raise FormatError(one_line(f"{path} is not a text file; check that it is a coordinate file"))
    return content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def number(value: float) -> str:
    """Return the shortest text that reads back as the same number; whole numbers without a point."""
    return repr(float(value)).removesuffix(".0")


def unknown_line(_row: int) -> int | None:
    """Return None: nobody kept the line of a row (see `Lines`)."""
    return None


def row_name(row: int, lines: Lines = unknown_line) -> str:
    """Return how messages call a row (the first is 0): its number from 1 and, if known, its line in the file."""
    line = lines(row)
    return f"row {row + 1}" + (f" (line {line})" if line is not None else "")


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """Return the lines that hold anything, each with its number; they end as in Unix, Windows, or old Mac files."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def finite_floats(tokens: Sequence[str], where: str, lines: Lines = unknown_line) -> Float64[np.ndarray, " n"]:
    """Parse numbers, none of which may be missing, NaN or infinite.

    Parameters
    ----------
    tokens : sequence of str
        One a row.
    where : str
        File and column, for the message.
    lines : function
        See `Lines`.

    Raises
    ------
    FormatError
        If a value is not a finite number; the message gives its row (the first is 1) and line.
    """
    values = floats(tokens, where, lines)
    bad = np.flatnonzero(np.isnan(values))
    if len(bad):
        row = int(bad[0])
        raise _not_a_number(tokens[row], where, row_name(row, lines))
    return values


def floats(tokens: Sequence[str], where: str, lines: Lines = unknown_line) -> Float64[np.ndarray, " n"]:
    """Parse numbers; ``nan`` and an empty text mean that there is none. See `finite_floats`."""
    with suppress(ValueError):  # nearly always all are
        return usual_floats(tokens, len(tokens))
    try:
        return np.array([_float(token) for token in tokens], dtype=np.float64)
    except ValueError:
        row = next(row for row, token in enumerate(tokens) if not _is_float(token))
        raise _not_a_number(tokens[row], where, row_name(row, lines)) from None


def usual_floats(tokens: Iterable[str], number: int) -> Float64[np.ndarray, " n"]:
    """Parse so many tokens, of which there may be millions, fast.

    Raises
    ------
    ValueError
        If one is no number as all programs write it, is infinite, or is empty.
    """
    values = np.empty(number)
    rest, start = iter(tokens), 0
    while part := list(itertools.islice(rest, _PART)):
        _refuse_underscores("".join(part))
        values[start : start + len(part)] = list(map(float, part))
        start += len(part)
    if np.isinf(values).any():
        raise ValueError("infinite")
    return values


def _not_a_number(token: str, where: str, row: str) -> FormatError:
    shown = token if len(token) <= _LONGEST_SHOWN else token[:_LONGEST_SHOWN] + "…"
    return FormatError(one_line(f"{where} in {row} is {shown!r}, not a number; correct or remove that row"))


def _refuse_underscores(text: str) -> None:
    if "_" in text:  # Python reads "1_000", no other program does
        raise ValueError(text)


def _float(token: str) -> float:
    if token == "":
        return math.nan
    _refuse_underscores(token)
    value = float(token)
    if math.isinf(value):
        raise ValueError(token)
    return value


def _is_float(token: str) -> bool:
    try:
        _float(token)
    except ValueError:
        return False
    return True
