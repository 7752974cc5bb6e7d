"""Files that appear complete or not at all: written beside the target, then moved over it."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from deeppicker.errors import OutputError
from deeppicker.formats.text import one_line

_WAITING = 16  # files that wait for the disk at once
_START, _END = ".deeppicker-", ".tmp"  # of the names of temporary files


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces ``path``, on failure it is removed.

    A link at ``path`` stays a link: the file it points to is replaced. A ``durable`` file is on the disk before this
    returns, so that it survives a power cut; that takes some milliseconds.

    Raises
    ------
    OutputError
        If the file cannot be written (no such folder, no permission, disk full).
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{_START}{secrets.token_hex(8)}{_END}")
    try:
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, target)  # noqa: PTH105 - the point of this function
        if durable:
            sync(target.parent)
    except OSError as error:
        reason = error.strerror or error
        message = f"{path} cannot be written: {reason}; check the folder, its permissions and free space"
        raise OutputError(one_line(message)) from error
    finally:
        with suppress(OSError):  # such as a file in the place of the folder: that error is under way already
            temporary.unlink(missing_ok=True)


def atomic_write(path: str | Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a whole file atomically (see `atomic_path`); text becomes UTF-8 with line feeds.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def remove_left_behind(folder: Path) -> None:
    """Remove temporary files of commands that were killed; only for a folder that nobody else is writing to."""
    for path in folder.glob(f"{_START}*{_END}"):
        with suppress(OSError):
            path.unlink()


def remove_links(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove links in the places of our files, so that nothing is written through them to files elsewhere."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink() and not entry.is_dir() and is_ours(entry.name):
                Path(entry.path).unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file or folder written to the disk, as far as the file system can do that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def secure(paths: Iterable[Path]) -> None:
    """Have files that were written earlier, and their folders, on the disk when this returns.

    Raises
    ------
    OutputError
        If the disk fails.
    """
    with ThreadPoolExecutor(_WAITING) as pool:  # a disk writes many files at once nearly as fast as one
        every = list(paths)
        there = pool.map(_secured, every)
        folders = dict.fromkeys(path.parent for path, found in zip(every, there, strict=True) if found)
        list(pool.map(_secured, folders))


def _secured(path: Path) -> bool:
    """Have a file or folder on the disk; return whether it is there, and can be by its name."""
    try:
        sync(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return False
        raise OutputError(one_line(f"{path} cannot be written: {error.strerror or error}; check the disk")) from error
    return True


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents if they do not exist, and return its path.

    Raises
    ------
    OutputError
        If it cannot be created, for example because a file has its name.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(one_line(f"folder {folder} cannot be created: {reason}")) from error
    return folder
