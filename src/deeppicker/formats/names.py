"""Which micrograph coordinates belong to: its name in files, and the image of that name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from deeppicker.core import MicrographEntry, Picks, micrograph_key
from deeppicker.errors import InputError, OutputError
from deeppicker.formats.recorded import CANDIDATES, JUNK, PICKS, RECORD
from deeppicker.formats.star_table import format_rows
from deeppicker.formats.text import one_line

# What RELION, Topaz wrappers and we ourselves append to the micrograph's name.
_SUFFIXES = ("_autopick", "_manualpick", "_automatch", "_particles", "_candidates")
_EMAN2_SUFFIX = "_info"
_LONGEST_NAME = 255  # bytes, of most file systems
_UID_PREFIX = re.compile(r"^((?:.*/)?)(\d{21})_(?=.)", re.DOTALL)


def micrograph_of(path: str | Path) -> str:
    """Return the micrograph's name that a file of one micrograph's coordinates carries in its own name.

    >>> micrograph_of("AutoPick/job007/mic_001_autopick.star")
    'mic_001'
    """
    stem = Path(path).stem
    for suffix in (_EMAN2_SUFFIX,) if Path(path).suffix.lower() == ".json" else _SUFFIXES:
        if stem.endswith(suffix) and stem != suffix:
            return stem.removesuffix(suffix)
    return stem


def unusable(name: str) -> str | None:
    """Return why the files of a micrograph cannot be named after it, or None if they can."""
    longest = max(PICKS, CANDIDATES, JUNK, RECORD, key=lambda kind: len(Path(kind).name))
    if len(os.fsencode(Path(longest).name.format(micrograph_key(name)))) > _LONGEST_NAME:
        return one_line(f"{micrograph_key(name)} is too long for the names of its output files; rename the micrograph")
    try:
        format_rows({"name": [name]})
    except OutputError as error:
        return str(error)
    return None


def without_uid(name: str) -> str:
    """Return a micrograph's name without the UID, 21 digits, that cryoSPARC puts before it.

    >>> without_uid("J2/imported/000123456789012345678_mic_001.mrc")
    'J2/imported/mic_001.mrc'
    """
    return _UID_PREFIX.sub(r"\1", name)


def uid_of(name: str) -> int | None:
    """Return the UID of the exposure from a name that cryoSPARC has made, None for other names.

    >>> uid_of("J2/imported/000123456789012345678_mic_001.mrc"), uid_of("mic_001.mrc")
    (123456789012345678, None)
    """
    found = _UID_PREFIX.match(name)
    uid = int(found[2]) if found else None
    return uid if uid is not None and uid < 1 << 64 else None


def group(names: list[str], positions: Float[np.ndarray, "n 2"], scores: Float[np.ndarray, " n"]) -> list[Picks]:
    """Split the rows of a table by micrograph, in order of first appearance; rows keep their order."""
    order: dict[str, int] = {}
    labels = np.array([order.setdefault(name, len(order)) for name in names], dtype=np.int64)
    rows = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(order)))
    parts = np.split(rows, ends[:-1]) if order else []
    return [Picks(name, positions[part], scores[part]) for name, part in zip(order, parts, strict=True)]


def merge(picks: Iterable[Picks]) -> list[Picks]:
    """Join picks that carry the same micrograph name, in order of first appearance."""
    by_name: dict[str, list[Picks]] = {}
    for item in picks:
        by_name.setdefault(item.micrograph, []).append(item)
    return [
        parts[0]
        if len(parts) == 1
        else Picks(
            name,
            np.concatenate([part.positions for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )
        for name, parts in by_name.items()
    ]


def distinct_keys(picks: Iterable[Picks]) -> None:
    """Refuse micrographs that would become one where only the name without folder and extension is kept.

    Raises
    ------
    InputError
        If two names have the same `micrograph_key`.
    """
    seen: dict[str, str] = {}
    for item in picks:
        key = micrograph_key(item.micrograph)
        if seen.setdefault(key, item.micrograph) != item.micrograph:
            raise InputError(
                one_line(
                    f"{seen[key]} and {item.micrograph} would both be called {key}; "
                    "write a RELION STAR file or a CSV, or rename one"
                )
            )


def match_names(picks: Sequence[Picks], entries: Sequence[MicrographEntry]) -> dict[str, MicrographEntry]:
    """Return each micrograph's image by name.

    That is the same name, else the same without folder and extension, else the same without cryoSPARC's UID too.

    Raises
    ------
    InputError
        If a name could be that of several images.
    """
    by_name = {entry.name: [entry] for entry in entries}
    by_key: dict[str, list[MicrographEntry]] = {}
    by_rest: dict[str, list[MicrographEntry]] = {}
    for entry in entries:
        by_key.setdefault(micrograph_key(entry.name), []).append(entry)
        by_rest.setdefault(without_uid(micrograph_key(entry.name)), []).append(entry)
    matched = {}
    for item in picks:
        candidates = by_name.get(item.micrograph) or by_key.get(item.key) or by_rest.get(without_uid(item.key), [])
        if len(candidates) > 1:
            both = f"{candidates[0].name} and {candidates[1].name}"
            raise InputError(one_line(f"{item.micrograph} could be {both}; give --micrographs with one of them"))
        if candidates:
            matched[item.micrograph] = candidates[0]
    return matched
