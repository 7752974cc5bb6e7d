"""Which images coordinates belong to, for the commands that take both."""

from __future__ import annotations

from collections.abc import Sequence

from deeppicker.core import Picks, micrograph_key
from deeppicker.errors import InputError
from deeppicker.formats import MicrographEntry
from deeppicker.formats.text import one_line


def pair(picks: Sequence[Picks], entries: Sequence[MicrographEntry]) -> dict[str, MicrographEntry]:
    """Return each micrograph's image by name: the same name, else the same without folder and extension.

    Raises
    ------
    InputError
        If there are two such images.
    """
    by_name = {entry.name: entry for entry in entries}
    by_key: dict[str, list[MicrographEntry]] = {}
    for entry in entries:
        by_key.setdefault(micrograph_key(entry.name), []).append(entry)
    matched = {}
    for item in picks:
        candidates = [by_name[item.micrograph]] if item.micrograph in by_name else by_key.get(item.key, [])
        if len(candidates) > 1:
            both = f"{candidates[0].name} and {candidates[1].name}"
            raise InputError(one_line(f"{item.micrograph} could be {both}; give --micrographs with one of them"))
        if candidates:
            matched[item.micrograph] = candidates[0]
    return matched
