"""Which micrographs coordinates belong to, with all that is known of them: from their table, and from their run.

A run leaves the names of its inputs beside its picks. Where these are STAR files, they tell later commands what the
list of picks does not: pixel sizes, optics and defocus.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from deeppicker.core import MicrographEntry, Picks, micrograph_key
from deeppicker.errors import FormatError
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.coordinates import cryosparc
from deeppicker.formats.inputs import find_micrographs
from deeppicker.formats.names import micrograph_of
from deeppicker.formats.recorded import INPUTS, TABLES, Recorded
from deeppicker.formats.relion import star
from deeppicker.formats.sealed import read_json, seal
from deeppicker.formats.text import is_file, one_line


def record_inputs(folder: Path, inputs: Sequence[str], tell: Callable[[str], None] = lambda _: None) -> None:
    """Record in a run folder what it picks, after what it picked before; tell if that was damaged.

    Raises
    ------
    OutputError
        If that cannot be written.
    """
    before: list[str] = []
    try:
        before = _recorded(folder)
    except FormatError:
        tell(f"{folder / INPUTS} was damaged; it names only the inputs of this command now")
    both = list(dict.fromkeys([*before, *(os.path.abspath(text) for text in inputs)]))  # noqa: PTH100 - may be patterns
    if both != before:
        atomic_write(folder / INPUTS, seal({"inputs": both}))


def tables_of_run(coordinates: Path) -> list[Path]:
    """Return the STAR files from which the run beside coordinates took its micrographs, as far as they are there.

    Raises
    ------
    FormatError
        If what the run recorded of them is damaged.
    """
    paths = [Path(text) for text in _recorded(Recorded(coordinates).folder)]
    return [path for path in paths if path.suffix.lower() == ".star" and is_file(path)]


def named_micrographs(source: Path, picks: Sequence[Picks]) -> list[MicrographEntry]:
    """Return the micrographs that coordinates name, with what their table and their run say of them.

    Parameters
    ----------
    source : Path
        Coordinates: only STAR and .cs files name micrographs; of a folder its usual STAR files count.
    picks : sequence of Picks
        What was read from it. They tell a STAR file of one micrograph's coordinates, which names none.

    Raises
    ------
    FormatError
        If a file is not what its extension says.
    InputError
        If it cannot be opened.
    """
    files = [source / name for name in TABLES] if source.is_dir() else [source]
    entries = []
    for file in files:
        bare = len(picks) == 1 and picks[0].micrograph == micrograph_of(file)
        if file.suffix.lower() == ".cs":
            entries += cryosparc.read_micrographs(file)
        elif file.suffix.lower() == ".star" and file.is_file() and not bare:
            entries += star.read_micrographs(file)
    return _completed(entries, source)


def _completed(entries: Sequence[MicrographEntry], source: Path) -> list[MicrographEntry]:
    """Return entries with what the run says where their own table does not."""
    size = Recorded(source).pixel_size if _recorded(Recorded(source).folder) else None
    told: dict[str, MicrographEntry] = {}
    for table in tables_of_run(source):
        told |= {micrograph_key(entry.name): entry for entry in find_micrographs([str(table)])}
    complete = []
    for entry in entries:
        more = told.get(micrograph_key(entry.name), entry)
        complete.append(
            replace(
                entry,
                path=entry.path if is_file(entry.path) else more.path,
                pixel_size=next((value for value in (size, entry.pixel_size, more.pixel_size) if value), None),
                defocus=entry.defocus if entry.defocus is not None else more.defocus,
            )
        )
    return complete


def _recorded(folder: Path) -> list[str]:
    path = folder / INPUTS
    if not is_file(path):
        return []
    try:
        return list(map(str, read_json(path, sealed=True)["inputs"]))
    except (OSError, KeyError, TypeError, FormatError) as error:
        raise FormatError(one_line(f"{path} is damaged; repeat the command that picked")) from error


def outside_project(entries: Sequence[MicrographEntry]) -> Path | None:
    """Return the RELION project folder of micrographs if that is not the current folder.

    RELION looks from there for all that its tables name; we have found the micrographs from there too.
    """
    for entry in entries[:1]:
        name, path = Path(entry.name), entry.path
        if name.is_absolute() or is_file(name) or not is_file(path):
            continue
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay what they are
        if absolute.parts[-len(name.parts) :] == name.parts:
            return Path(*absolute.parts[: -len(name.parts)])
    return None
