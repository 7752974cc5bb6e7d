"""Who may write: a lock that many share or one command holds, and outputs that one command owns while it runs.

Locks are those of the operating system (``flock``), so whatever ends a process releases what it holds.
"""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deeppicker.errors import InputError, OutputError
from deeppicker.formats.atomic import make_folder
from deeppicker.formats.text import one_line

LOCK, OWNER = ".lock", ".owner.lock"
"""The file by which many share a folder, and the end of the name of that by which one command owns an output."""
_LONGEST = 200  # characters of a name that a longer one is made of


@contextmanager
def locked(file: Path, *, shared: bool = False, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock as long as the context lasts; on a file system without locks, warn and go on.

    Parameters
    ----------
    file : Path
        Created in an existing folder; it stays, empty.
    shared : bool
        Whether others may hold it too that share it.
    waiting : callable
        Called once if somebody else must be waited for.

    Raises
    ------
    OutputError
        If the file cannot be opened.
    """
    descriptor = _open(file)
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        if not _try(descriptor, kind, file):
            waiting()
            fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def owned(output: Path) -> Iterator[None]:
    """Own an output, a file or a folder, as long as the context lasts, so that no other command writes it.

    The lock is a hidden file beside the output, or in it where that is not allowed, and is removed at the end.

    Raises
    ------
    InputError
        If another command owns it.
    OutputError
        If its folder cannot be written.
    """
    path = Path(os.path.realpath(output))
    inside = path.is_dir() and not os.access(path.parent, os.W_OK)
    file = path / OWNER if inside else make_folder(path.parent) / f".{path.name[-_LONGEST:]}{OWNER}"
    descriptor = _owned_file(file)
    if descriptor is None:
        raise InputError(
            one_line(f"another command is writing {output}; wait until it has ended, or choose another --output")
        )
    try:
        yield
    finally:
        with suppress(OSError):
            if _is_at(descriptor, file):  # nobody has removed it, perhaps with the folder
                file.unlink()
        os.close(descriptor)


def _owned_file(file: Path) -> int | None:
    """Return the open file whose lock is ours now; None if it is somebody else's."""
    while True:
        descriptor = _open(file)
        if not _try(descriptor, fcntl.LOCK_EX, file):
            os.close(descriptor)
            return None
        if _is_at(descriptor, file):
            return descriptor
        os.close(descriptor)  # its owner removed it just now


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            one_line(f"{file.parent} cannot be written: {reason}; check the folder, its permissions and free space")
        ) from error


def _try(descriptor: int, kind: int, file: Path) -> bool:
    """Take a lock if that is possible at once; True also where there are no locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        message = f"{file.parent} cannot be locked ({error}); do not run two commands in it at the same time"
        warnings.warn(one_line(message), stacklevel=5)
    return True


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
