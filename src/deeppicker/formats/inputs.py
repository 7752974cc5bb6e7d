"""The micrographs that a user means by files, folders, patterns, and tables of RELION and cryoSPARC."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from deeppicker.core import MicrographEntry
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.formats.coordinates import cryosparc
from deeppicker.formats.coordinates.cryosparc import MicrographSize
from deeppicker.formats.images.read import IMAGE_EXTENSIONS, is_image, read_header
from deeppicker.formats.names import uid_of
from deeppicker.formats.recorded import RUN
from deeppicker.formats.relion import star
from deeppicker.formats.room import refuse_special
from deeppicker.formats.text import files_in, is_file, one_line

_PREVIEWS = (".png", ".jpg", ".jpeg")
_LOOKED_AT = 20  # micrographs whose pixel size is compared
_CONTRADICTION = 1.5  # factor between two pixel sizes of which one must be wrong
_SAME = 1.02  # factor up to which pixel sizes count as the same
_EXTENSIONS = ", ".join(IMAGE_EXTENSIONS)


def find_micrographs(inputs: Sequence[str], *, recursive: bool = False) -> list[MicrographEntry]:
    """List the micrographs that the inputs name, in order, each file once.

    Parameters
    ----------
    inputs : sequence of str
        Each an image file, a folder (its images, sorted; not those of folders in it), a pattern with ``*``,
        ``?``, ``[]`` or ``**``, a RELION STAR file, or a cryoSPARC ``.cs`` file. The images that such a file
        names need not exist.
    recursive : bool
        Also the images of folders in folders, as EPU leaves them; previews in PNG and JPEG do not count beside others.

    Raises
    ------
    InputError
        If an input names nothing, or a file that is no image.
    FormatError
        If a STAR file does not name micrographs.
    """
    unique: dict[str, MicrographEntry] = {}
    for text in inputs:
        for entry in _entries_below(text) if recursive and Path(text).is_dir() else _entries(text):
            unique.setdefault(os.path.realpath(entry.path), entry)
    if not unique:
        raise InputError(f"no micrographs are given; give files, folders, patterns or STAR files ({_EXTENSIONS})")
    return list(unique.values())


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
        problem = f"folder {text} holds no images"
        none = not any(is_image(name) for name in names)
        if none and is_file(path / RUN):
            raise InputError(one_line(f"{text} is the output folder of a run; give the micrographs that it has picked"))
        if none and any(is_image(name) for name in _below(text)):
            raise InputError(one_line(f"{problem}, but folders in it do; add --recursive, or give these folders"))
        yield from _images(names, problem)
    elif is_file(path) or not glob.has_magic(text):
        yield from _file(path, text)
    else:
        names = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
        yield from _images(names, f"{text} matches no images")


def _entries_below(text: str) -> Iterator[MicrographEntry]:
    names = _below(text)
    better = [name for name in names if is_image(name) and not name.lower().endswith(_PREVIEWS)]
    yield from _images(better or names, f"folder {text} and those in it hold no images")


def _below(folder: str) -> list[str]:
    """Return the files of a folder and of all folders in it, without hidden ones."""
    return sorted(glob.glob(os.path.join(glob.escape(folder), "**", "*"), recursive=True))  # noqa: PTH118, PTH207


def _file(path: Path, text: str) -> Iterator[MicrographEntry]:
    if not os.path.exists(text):  # noqa: PTH110 - Path.exists raises for names too long
        raise InputError(one_line(f"{text} does not exist; give a file, a folder, a quoted pattern or a STAR file"))
    refuse_special(path)
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
