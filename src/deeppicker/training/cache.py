"""What a training run reads again and again, on disk: complete or not there at all, and seen through memory maps."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from deeppicker.errors import OutputError
from deeppicker.formats.atomic import make_folder
from deeppicker.formats.text import one_line

_MARK = "fingerprint"  # the file that tells a complete cache, and whose it is


def ensure(folder: Path, fingerprint: str, make: Callable[[Path], None]) -> None:
    """Let ``make`` fill a folder, unless an interrupted run of the same fingerprint has left it undamaged.

    Parameters
    ----------
    folder : Path
        Appears when it is complete. A complete one of another run is replaced.
    fingerprint : str
        Tells the data and settings from others.
    make : callable
        Writes its files into the folder that it is given.

    Raises
    ------
    OutputError
        If the folder cannot be written, or something else has its name.
    """
    mark = folder / _MARK
    if mark.is_file() and mark.read_text(encoding="utf-8", errors="replace") == _mark(folder, fingerprint):
        return
    if not mark.is_file() and folder.exists():
        raise OutputError(f"{folder} is in the way of the training's cache; move it, or choose another --output")
    discard(folder)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    try:
        make(make_folder(part))
        with writing(part):
            (part / _MARK).write_text(_mark(part, fingerprint), encoding="utf-8")
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _mark(folder: Path, fingerprint: str) -> str:
    """Return what tells a complete cache of a fingerprint: that, and a checksum of all files."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / _MARK):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "blake2b").hexdigest()
        digest.update(f"{path.relative_to(folder)} {content}\n".encode())
    return f"{fingerprint}\n{digest.hexdigest()}\n"


def discard(folder: Path) -> None:
    """Remove a cache if there is one; nothing else that may have its name."""
    if (folder / _MARK).is_file():
        shutil.rmtree(folder, ignore_errors=True)


def new_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Return a new array of zeros that lives in a ``.npy`` file.

    Its space on the disk is taken at once: a memory map into a full disk would end the program without a word.

    Raises
    ------
    OutputError
        If the file cannot be written, for example because the disk is too small for it.
    """
    with writing(path):
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def open_array(path: Path) -> np.ndarray:
    """Return an array whose parts are read from its file when they are used."""
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the file system into an `OutputError` that names ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        message = f"{path} cannot be written: {reason}; check the folder, its permissions and free space"
        raise OutputError(one_line(message)) from error
