"""The micrographs that a user means by files, folders, patterns, and tables of RELION and cryoSPARC."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from deeppicker.core import MicrographEntry
from deeppicker.errors import InputError
from deeppicker.formats.coordinates import cryosparc
from deeppicker.formats.images.read import IMAGE_EXTENSIONS, is_image
from deeppicker.formats.relion import star
from deeppicker.formats.text import files_in, is_file, one_line

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
        raise InputError(one_line(f"{text} is no supported image, STAR or .cs file; supported are {_EXTENSIONS}"))


def _images(names: Sequence[str], problem: str) -> Iterator[MicrographEntry]:
    images = [name for name in names if is_image(name) and is_file(Path(name))]
    if not images:
        if any(name.lower().endswith(".eer") for name in names):
            raise InputError(one_line(f"{problem}, only movies; motion-correct them and give the results"))
        raise InputError(one_line(f"{problem}; looked for {_EXTENSIONS}"))
    for name in images:
        yield MicrographEntry(name, Path(name))
