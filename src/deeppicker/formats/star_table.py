"""STAR files as tables of text, parsed by gemmi, written as RELION does. `star` gives them their meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
from gemmi import cif
from jaxtyping import Float64

from deeppicker.errors import FormatError, OutputError
from deeppicker.formats.text import finite_floats, floats, one_line, read_text

_ASCII = "".join(map(chr, range(128))).replace("%", "")
_RESERVED = re.compile(r"[_#$'\"\[\];]|data_|loop_|global_|save_|stop_", re.IGNORECASE)
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
    columns : dict of str to list of str
        By label without the leading underscore; unquoted.
    """

    path: Path
    name: str
    columns: dict[str, list[str]]

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
        if label not in self.columns:
            found = ", ".join(self.columns) or "no columns"
            raise FormatError(one_line(f"{self.path}: table data_{self.name} has no column {label}; found {found}"))
        return self.columns[label]

    def numbers(self, label: str) -> Float64[np.ndarray, " n"]:
        """Return a column of finite numbers that must be there (FormatError with the row otherwise)."""
        return finite_floats(self.text(label), f"{self.path}: {label}")

    def numbers_or_nan(self, label: str) -> Float64[np.ndarray, " n"]:
        """Return a column of numbers, NaN where one is missing; all NaN without the column."""
        if label not in self.columns:
            return np.full(len(self), np.nan)
        return floats(self.columns[label], f"{self.path}: {label}")


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
        raise FormatError(one_line(f"{path} is not a valid STAR file: {_reason(error)}")) from error
    return [Table(path, block.name.strip(), columns) for block in document if (columns := _columns(block, escaped))]


def format_table(name: str, columns: Mapping[str, Sequence[str]]) -> str:
    """Return a table as text, also one without rows. Values are quoted where needed.

    Raises
    ------
    OutputError
        If a value cannot be stored in a STAR file.
    """
    lines = ["", _VERSION, "", f"data_{name}", "", "loop_"]
    lines += [f"_{label} #{i}" for i, label in enumerate(columns, start=1)]
    return "\n".join([*lines, format_rows(columns) + "\n"])


def format_rows(columns: Mapping[str, Sequence[str]]) -> str:
    """Return the rows of a table without its head, so that a long table can be written part by part.

    Raises
    ------
    OutputError
        If a value cannot be stored in a STAR file.
    """
    rows = zip(*([_quoted(value) for value in column] for column in columns.values()), strict=True)
    return "".join(" ".join(row) + "\n" for row in rows)


def _columns(block: cif.Block, escaped: bool) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for item in block:
        if item.loop is not None:
            values = [_unquoted(value, escaped) for value in item.loop.values]
            width = item.loop.width()
            loop = {tag.removeprefix("_"): values[i::width] for i, tag in enumerate(item.loop.tags)}
            # A block may hold pairs and a loop; the longer is the table.
            if not columns or len(values) // width >= len(next(iter(columns.values()))):
                columns = loop
        elif item.pair is not None and all(len(column) == 1 for column in columns.values()):
            columns[item.pair[0].removeprefix("_")] = [_unquoted(item.pair[1], escaped)]
    return columns


def _unquoted(value: str, escaped: bool) -> str:
    if value[:1] in ("'", '"'):
        value = value[1:-1]
    elif value[:1] == ";":
        value = cif.as_string(value)
    return unquote(value, errors="surrogateescape") if escaped else value


def _quoted(value: str) -> str:
    if not value.isprintable() and re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", value):
        raise OutputError(one_line(f"{value!r} holds a control character; a STAR file cannot store it, rename it"))
    if value and not re.search(r"\s", value) and not _RESERVED.match(value):
        return value
    for mark in ('"', "'"):
        if not re.search(mark + r"\s", value):
            return f"{mark}{value}{mark}"
    raise OutputError(one_line(f"{value!r} mixes quotation marks; a STAR file cannot store it, rename it"))


def _reason(error: Exception) -> str:
    return re.sub(r"^string:?(\d+)?(?::\d+)?(?:\(\d+\))?", lambda m: f"line {m[1]}" if m[1] else "", str(error))
