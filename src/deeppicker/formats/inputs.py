"""The micrographs that a user means by files, folders, patterns, and tables of RELION and cryoSPARC."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from deeppicker.core import MicrographEntry, Picks
from deeppicker.errors import InputError
from deeppicker.formats.coordinates import cryosparc
from deeppicker.formats.coordinates.cryosparc import MicrographSize
from deeppicker.formats.images.read import IMAGE_EXTENSIONS, is_image, read_header
from deeppicker.formats.names import micrograph_of, uid_of
from deeppicker.formats.recorded import AUTOPICK
from deeppicker.formats.relion import star
from deeppicker.formats.text import files_in, is_file, one_line

_EXTENSIONS = ", ".join(IMAGE_EXTENSIONS)
_TABLES_IN_FOLDER = (AUTOPICK, "particles.star")


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
    files = [source / name for name in _TABLES_IN_FOLDER] if source.is_dir() else [source]
    entries = []
    for file in files:
        bare = len(picks) == 1 and picks[0].micrograph == micrograph_of(file)
        if file.suffix.lower() == ".cs":
            entries += cryosparc.read_micrographs(file)
        elif file.suffix.lower() == ".star" and file.is_file() and not bare:
            entries += star.read_micrographs(file)
    return entries


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
