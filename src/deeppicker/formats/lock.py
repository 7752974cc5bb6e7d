"""Who may write: a lock that many share or one command holds, and outputs that one command owns while it runs.

Locks are those of the operating system (``flock``), so whatever ends a process releases what it holds.
"""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deeppicker.errors import InputError, OutputError
from deeppicker.formats.atomic import make_folder
from deeppicker.formats.text import one_line

LOCK = ".lock"  # in a folder that is shared or owned
_owned: set[str] = set()  # by this process, which may own an output and call what owns it too


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

    Raises
    ------
    InputError
        If another command owns it.
    OutputError
        If its folder cannot be written.
    """
    path = os.path.realpath(output)
    if path in _owned:
        yield
        return
    with _lock_of(Path(path)):
        _owned.add(path)
        try:
            yield
        finally:
            _owned.discard(path)


@contextmanager
def _lock_of(output: Path) -> Iterator[None]:
    """Hold the lock of an output without waiting; a lock beside a file is removed at the end."""
    folder = output.is_dir()
    file = output / LOCK if folder else make_folder(output.parent) / f".{output.name}{LOCK}"
    while True:
        descriptor = _open(file)
        try:
            if not _try(descriptor, fcntl.LOCK_EX, file):
                raise InputError(
                    one_line(
                        f"another command is writing {output}; wait until it has ended, or choose another --output"
                    )
                )
            if not _is_at(descriptor, file):  # its owner removed it just now
                continue
            try:
                yield
            finally:
                if not folder:
                    file.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


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
