"""Scipion's and Xmipp's ``.pos``: centres in whole pixels, row 0 first; one micrograph a file; Xmipp's STAR.

Manual picks stand in ``data_particles``, automatic ones in ``data_particles_auto``; those that a user has removed
are kept in the file with ``enabled`` -1 and are left out here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deeppicker.core import Picks
from deeppicker.errors import FormatError
from deeppicker.formats.names import micrograph_of
from deeppicker.formats.star_table import Table, format_values, read_tables
from deeppicker.formats.text import one_line

_HEAD = "# XMIPP_STAR_1 *\n#\ndata_header\nloop_\n _pickingMicrographState\nManual\n"
_TABLES = ("particles", "particles_auto")
_XY = ("xcoor", "ycoor")
_SCORE = "cost"
_ENABLED = "enabled"


def read(path: Path) -> list[Picks]:
    """Read one file; the micrograph's name comes from the file name.

    Raises
    ------
    FormatError
        If there are no coordinates in it, or bad ones; the message gives the row and the line.
    InputError
        If the file cannot be opened.
    """
    tables = read_tables(path)
    wanted = [table for table in tables if table.name in _TABLES]
    if not wanted:
        found = ", ".join(f"data_{table.name}" for table in tables) or "no table"
        raise FormatError(one_line(f"{path} is not a Scipion file: needs table data_{_TABLES[0]}; found {found}"))
    parts = [_enabled(table) for table in wanted]
    positions = np.concatenate([part.positions for part in parts])
    return [Picks(micrograph_of(path), positions, np.concatenate([part.scores for part in parts]))]


def text_of(picks: Picks) -> str:
    """Return the file of one micrograph's picks; positions are rounded, halves up."""
    columns: dict[str, Sequence[str]] = {
        label: [str(math.floor(value + 0.5)) for value in picks.positions[:, i].tolist()] for i, label in enumerate(_XY)
    }
    columns[_ENABLED] = ["1"] * len(picks)
    if picks.has_scores:
        columns[_SCORE] = [f"{score!r}" for score in picks.scores.tolist()]
    return _HEAD + format_values(_TABLES[0], columns)


def _enabled(table: Table) -> Picks:
    positions = np.stack([table.numbers(label) for label in _XY], axis=1)
    keep = ~(table.numbers_or_nan(_ENABLED) <= 0)
    return Picks("", positions, table.numbers_or_nan(_SCORE)).where(np.asarray(keep))
