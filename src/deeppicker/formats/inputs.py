"""The micrographs that a user means by files, folders, patterns, and tables of RELION and cryoSPARC."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from deeppicker.core import MicrographEntry, Picks
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.formats.coordinates import cryosparc
from deeppicker.formats.coordinates.cryosparc import MicrographSize
from deeppicker.formats.images.read import IMAGE_EXTENSIONS, is_image, read_header
from deeppicker.formats.names import micrograph_of, uid_of
from deeppicker.formats.recorded import TABLES
from deeppicker.formats.relion import star
from deeppicker.formats.text import files_in, is_file, one_line

_LOOKED_AT = 20  # micrographs whose pixel size is compared
_CONTRADICTION = 1.5  # factor between two pixel sizes of which one must be wrong
_SAME = 1.02  # factor up to which pixel sizes count as the same
_EXTENSIONS = ", ".join(IMAGE_EXTENSIONS)


def find_micrographs(inputs: Sequence[str]) -> list[MicrographEntry]:
    """List the micrographs that the inputs name, in order, each file once.

    Parameters
    ----------
    inputs : sequence of str
        Each an image file, a folder (its images, sorted; not those of folders in it), a pattern with ``*``,
        ``?``, ``[]`` or ``**``, a RELION STAR file, or a cryoSPARC ``.cs`` file. The images that such a file
        names need not exist.

    Raises
    ------
    InputError
        If an input names nothing, or a file that is no image.
    FormatError
        If a STAR file does not name micrographs.
    """
    unique: dict[str, MicrographEntry] = {}
    for text in inputs:
        for entry in _entries(text):
            unique.setdefault(os.path.realpath(entry.path), entry)
    if not unique:
        raise InputError(f"no micrographs are given; give files, folders, patterns or STAR files ({_EXTENSIONS})")
    return list(unique.values())


def named_micrographs(source: Path, picks: Sequence[Picks]) -> list[MicrographEntry]:
    """Return the micrographs that coordinates name, with what their table says of them.

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
    return entries


def doubtful_pixel_sizes(entries: Sequence[MicrographEntry], given: float | None) -> list[str]:
    """Return warnings, if the pixel size that is given contradicts the micrographs, or theirs differ.

    Parameters
    ----------
    entries : sequence of MicrographEntry
        Micrographs; some of them, spread over all, are looked at. What cannot be read is left to others.
    given : float or None
        Å per pixel that overrides what tables and headers say.
    """
    step = max(1, len(entries) // _LOOKED_AT)
    known = {entry.name: size for entry in entries[::step] if (size := _known_pixel_size(entry)) is not None}
    if not known:
        return []
    name, least = min(known.items(), key=lambda item: item[1])
    other, most = max(known.items(), key=lambda item: item[1])
    if given is not None:
        far, size = max(((name, least), (other, most)), key=lambda item: abs(math.log(item[1] / given)))
        if abs(math.log(size / given)) < math.log(_CONTRADICTION):
            return []
        return [f"--pixel-size {given:g} Å is used, but {far} says {size:.4g} Å; check which is right"]
    if most < _SAME * least:
        return []
    return [f"the micrographs have different pixel sizes, from {least:.4g} Å ({name}) to {most:.4g} Å ({other})"]


def _known_pixel_size(entry: MicrographEntry) -> float | None:
    """Return what the table or else the header says; a header that says 1 Å may well say nothing."""
    if entry.pixel_size is not None:
        return entry.pixel_size
    try:
        size = read_header(entry.path).pixel_size
    except DeepPickerError:
        return None
    return None if size == 1.0 else size


def size_of(entry: MicrographEntry) -> MicrographSize:
    """Return the size of a micrograph, its pixel size and cryoSPARC's number, as its table or else its image says.

    Raises
    ------
    InputError
        If the image is needed and cannot be opened.
    FormatError
        If it is no image.
    """
    uid = entry.uid if entry.uid is not None else uid_of(entry.name)
    if entry.shape is not None:
        return MicrographSize(*entry.shape, entry.pixel_size, uid)
    header = read_header(entry.path)
    return MicrographSize(header.height, header.width, entry.pixel_size or header.pixel_size, uid)


def _entries(text: str) -> Iterator[MicrographEntry]:
    path = Path(text)
    if os.path.isdir(text):  # noqa: PTH112 - False where Path.is_dir raises: names that no file can have
        names = [str(file) for file in files_in(path)]
        yield from _images(names, f"folder {text} holds no images")
    elif is_file(path) or not glob.has_magic(text):
        yield from _file(path, text)
    else:
        names = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
        yield from _images(names, f"{text} matches no images")


def _file(path: Path, text: str) -> Iterator[MicrographEntry]:
    if not is_file(path):
        raise InputError(one_line(f"{text} does not exist; give a file, a folder, a quoted pattern or a STAR file"))
    if path.suffix.lower() == ".star":
        yield from star.read_micrographs(path)
    elif path.suffix.lower() == ".cs":
        yield from cryosparc.read_micrographs(path)
    elif is_image(path):
        yield MicrographEntry(text, path)
    elif path.suffix.lower() == ".eer":
        raise InputError(one_line(f"{text} is a movie; motion-correct it and give the resulting micrograph"))
    else:
        raise InputError(one_line(f"{text} is not a supported image, STAR or .cs file; supported are {_EXTENSIONS}"))


def _images(names: Sequence[str], problem: str) -> Iterator[MicrographEntry]:
    images = [name for name in names if is_image(name) and is_file(Path(name))]
    if not images:
        if any(name.lower().endswith(".eer") for name in names):
            raise InputError(one_line(f"{problem}, only movies; motion-correct them and give the results"))
        raise InputError(one_line(f"{problem}; looked for {_EXTENSIONS}"))
    for name in images:
        yield MicrographEntry(name, Path(name))
