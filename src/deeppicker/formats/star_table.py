"""STAR files as tables of text, parsed by gemmi, written as RELION does. `star` gives them their meaning."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload
from urllib.parse import quote, unquote

import numpy as np
from gemmi import cif
from jaxtyping import Float64

from deeppicker.errors import FormatError, OutputError
from deeppicker.formats.text import (
    Lines,
    finite_floats,
    floats,
    numbered_lines,
    one_line,
    read_text,
    row_name,
    usual_floats,
)

_ASCII = "".join(map(chr, range(128))).replace("%", "")
_NUMERIC = re.compile(r"[0-9.e+-]+")  # characters of numbers, which mean nothing else in a STAR file
_RESERVED = re.compile(r"[_#$'\"\[\];]|data_|loop_|global_|save_|stop_", re.IGNORECASE)
_MARKS = ("'", '"', ";")
_VERSION = "# version 30001"  # RELION 3.1 wrote this and later versions read it


@dataclass(frozen=True)
class Table:
    """One table of a STAR file.

    Parameters
    ----------
    path : Path
        The file, for messages.
    name : str
        What follows ``data_``; empty in many files.
    columns : mapping of str to sequence of str
        By label without the leading underscore; unquoted. Texts are made when they are asked for.
    start : dict of str to int
        By label, the line of the file where its value stands, or where the loop that holds it begins.
    """

    path: Path
    name: str
    columns: Mapping[str, Sequence[str]]
    start: dict[str, int] = field(default_factory=dict)

    def __contains__(self, label: str) -> bool:
        return label in self.columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def text(self, label: str) -> list[str]:
        """Return a column that must be there.

        Raises
        ------
        FormatError
            If it is not.
        """
        self._require(label)
        return list(self.columns[label])

    def numbers(self, label: str) -> Float64[np.ndarray, " n"]:
        """Return a column of finite numbers that must be there (FormatError with the row otherwise)."""
        self._require(label)
        values = self.numbers_or_nan(label)
        if np.isnan(values).any():  # say where
            return finite_floats(self.columns[label], f"{self.path}: {label}", self._lines(label))
        return values

    def numbers_or_nan(self, label: str) -> Float64[np.ndarray, " n"]:
        """Return a column of numbers, NaN where one is missing; all NaN without the column."""
        if label not in self.columns:
            return np.full(len(self), np.nan)
        column = self.columns[label]
        with suppress(ValueError):  # numbers are nearly never quoted
            return usual_floats(column.values if isinstance(column, _Column) else column, len(column))
        return floats(column, f"{self.path}: {label}", self._lines(label))

    def row_name(self, label: str, row: int) -> str:
        """Return how messages call a row (the first is 0) of a column, with its line if that can be told."""
        return row_name(row, self._lines(label))

    def _require(self, label: str) -> None:
        if label not in self.columns:
            found = ", ".join(self.columns) or "no columns"
            raise FormatError(one_line(f"{self.path}: table data_{self.name} has no column {label}; found {found}"))

    def _lines(self, label: str) -> Lines:
        """Find lines only when a message needs one: the parser does not keep them."""
        return lambda row: _line_of_row(read_text(self.path), self.start.get(label), row, len(self.columns[label]))


@dataclass(frozen=True, eq=False)
class _Column(Sequence[str]):
    """A column of a loop, as the parser keeps it; its texts would take several times as much memory."""

    values: cif.Column
    escaped: bool
    document: cif.Document  # without which the values are gone

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[index] for index in range(*row.indices(len(self)))]
        return _unquoted(self.values[row], self.escaped)

    def __iter__(self) -> Iterator[str]:
        before = text = ""
        for value in self.values:
            if value != before:  # else the rows share a text, such as those of a micrograph
                plain = not self.escaped and value[:1] not in _MARKS  # as most values are, and there may be millions
                before, text = value, value if plain else _unquoted(value, self.escaped)
            yield text


def read_tables(path: Path) -> list[Table]:
    """Read every table of a STAR file; a list of label-value pairs becomes a table of one row.

    Raises
    ------
    FormatError
        If it is not a STAR file; the message gives the line.
    InputError
        If it cannot be opened.
    """
    text = read_text(path)
    escaped = not text.isascii()
    if escaped:  # gemmi reads ASCII only, names of files are not
        text = quote(text, safe=_ASCII, errors="surrogateescape")
    try:
        document = cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        raise FormatError(one_line(f"{path} is not a valid STAR file: {_reason(error, text)}")) from error
    return [
        Table(path, block.name.strip(), columns, start)
        for block in document
        for columns, start in (_columns(document, block, escaped),)
        if columns
    ]


def format_table(name: str, columns: Mapping[str, Sequence[str]]) -> str:
    """Return a table as text, also one without rows. Values are quoted where needed.

    Raises
    ------
    OutputError
        If a value cannot be stored in a STAR file.
    """
    return f"\n{_VERSION}\n\n{format_values(name, columns)}"


def format_values(name: str, columns: Mapping[str, Sequence[str]]) -> str:
    """Return a table as text, as `format_table`, but without RELION's line about its version."""
    lines = [f"data_{name}", "", "loop_"]
    lines += [f"_{label} #{i}" for i, label in enumerate(columns, start=1)]
    return "\n".join([*lines, format_rows(columns) + "\n"])


def format_rows(columns: Mapping[str, Sequence[str]]) -> str:
    """Return the rows of a table without its head, so that a long table can be written part by part.

    Raises
    ------
    OutputError
        If a value cannot be stored in a STAR file.
    """
    rows = zip(*map(_quoted_column, columns.values()), strict=True)
    return "".join(" ".join(row) + "\n" for row in rows)


def _columns(
    document: cif.Document, block: cif.Block, escaped: bool
) -> tuple[dict[str, Sequence[str]], dict[str, int]]:
    columns: dict[str, Sequence[str]] = {}
    start: dict[str, int] = {}
    for item in block:
        if item.loop is not None:
            loop = {tag.removeprefix("_"): _Column(block.find_loop(tag), escaped, document) for tag in item.loop.tags}
            # A block may hold pairs and a loop; the longer is the table.
            if not columns or item.loop.length() >= len(next(iter(columns.values()))):
                columns, start = dict(loop), dict.fromkeys(loop, item.line_number)
        elif item.pair is not None and all(len(column) == 1 for column in columns.values()):
            columns[item.pair[0].removeprefix("_")] = [_unquoted(item.pair[1], escaped)]
            start[item.pair[0].removeprefix("_")] = item.line_number
    return columns, start


def _line_of_row(text: str, start: int | None, row: int, rows: int) -> int | None:
    """Return the line of a row of the table that begins at line ``start``; None if rows and lines do not agree."""
    if start is None:
        return None
    lines = _loop_lines(text, start)
    if not lines:
        return start if rows == 1 else None  # a pair of label and value
    return lines[row][0] if len(lines) == rows else None


def _loop_lines(text: str, start: int) -> list[tuple[int, str]]:
    """Return the numbered lines with the values of the loop that begins at line ``start``."""
    lines = [(number, line.strip()) for number, line in numbered_lines(text) if number >= start]
    values = itertools.dropwhile(lambda line: not _is_value(line[1]), lines)
    return list(itertools.takewhile(lambda line: _is_value(line[1]), values))


def _is_value(line: str) -> bool:
    return not re.match(r"[_#]|(data_|loop_|global_|save_|stop_)", line, re.IGNORECASE)


def _unquoted(value: str, escaped: bool) -> str:
    if not escaped and value[:1] not in _MARKS:
        return value
    if value[:1] in ("'", '"'):
        value = value[1:-1]
    elif value[:1] == ";":
        value = cif.as_string(value)
    return unquote(value, errors="surrogateescape") if escaped else value


def _quoted_column(column: Sequence[str]) -> Sequence[str]:
    """Return the values of a column, quoted where needed; numbers need nothing, and there may be millions."""
    if all(column) and _NUMERIC.fullmatch("".join(column)):
        return column
    return [_quoted(value) for value in column]


def _quoted(value: str) -> str:
    if not value.isprintable() and re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", value):
        raise OutputError(one_line(f"{value!r} holds a control character; a STAR file cannot store it, rename it"))
    if value and not re.search(r"\s", value) and not _RESERVED.match(value):
        return value
    for mark in ('"', "'"):
        if not re.search(mark + r"\s", value):
            return f"{mark}{value}{mark}"
    raise OutputError(one_line(f"{value!r} mixes quotation marks; a STAR file cannot store it, rename it"))


def _reason(error: Exception, text: str) -> str:
    reason = re.sub(r"^string:?(\d+)?(?::\d+)?(?:\(\d+\))?", lambda m: f"line {m[1]}" if m[1] else "", str(error))
    found = re.match(r"line (\d+): Wrong number of values", reason)
    return reason if found is None else reason + _uneven_row(text, int(found[1]))


def _uneven_row(text: str, start: int) -> str:
    """Return which row of a loop has not one value a label, in words; nothing if that cannot be told."""
    lines = _loop_lines(text, start)
    end = lines[0][0] if lines else 0
    width = sum(line.lstrip().startswith("_") for number, line in numbered_lines(text) if start <= number < end)
    for number, line in lines:
        count = len(re.findall(r"""'[^']*'|"[^"]*"|\S+""", line))
        if count != width:
            return f"; line {number} holds {count} of {width} values"
    return ""
