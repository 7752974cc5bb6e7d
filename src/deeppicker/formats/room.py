"""Whether there is room for what a file claims to hold: asked before anything is allocated for it.

A few kilobytes can claim gigabytes: compressed zeros, a damaged header, a file with holes. What is refused here, with
the limit and the claim in the message, would otherwise end the program, or the computer.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from deeppicker.errors import FormatError, InputError
from deeppicker.formats.text import one_line, unreadable

MEGAPIXELS = "DEEPPICKER_MEGAPIXELS"
"""Environment variable that raises the limit of an image."""

_MOST_MEGAPIXELS = 300.0  # three times those of the largest camera in super-resolution (11,520×8,184)
_SHARE = 0.8  # of the memory that is free may be used
_BYTES_PER_PIXEL = 8  # while an image is read: as stored, and as float32
_BYTES_PER_CHARACTER = 20  # while a table is read: its text, its values as text and as numbers


def refuse_special(path: Path) -> os.stat_result:
    """Check that a path is that of a regular file, not of a pipe or a device, which may never end; return its status.

    Raises
    ------
    UnreadableError
        If there is none.
    InputError
        If it is something else.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:  # a name that no file can have
        raise InputError(one_line(f"{path} cannot be read: {error}")) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, device or socket"
        raise InputError(one_line(f"{path} is {kind}, not a regular file; give a file"))
    return status


def refuse_large_image(path: Path, height: int, width: int) -> None:
    """Check that an image of this size is one of a microscope, and fits into memory.

    Raises
    ------
    FormatError
        If not.
    """
    megapixels, limit = height * width / 1e6, _limit()
    if megapixels > limit:
        raise FormatError(
            one_line(
                f"{path} claims {width:,}×{height:,} pixels ({megapixels:,.0f} megapixels), more than the "
                f"{limit:,.0f} allowed; check the file, or set {MEGAPIXELS} to allow more"
            )
        )
    _refuse(path, height * width * _BYTES_PER_PIXEL, f"{width:,}×{height:,} pixels")


def refuse_large_text(path: Path, size: int) -> None:
    """Check that a text file of so many bytes can be read as a table.

    Raises
    ------
    FormatError
        If not.
    """
    _refuse(path, size * _BYTES_PER_CHARACTER, f"{size / 1e6:,.0f} MB")


def _refuse(path: Path, needed: int, what: str) -> None:
    if needed < 1 << 26:  # do not ask for what is always there
        return
    free = _free() * _SHARE
    if needed > free:
        raise FormatError(
            one_line(
                f"{path} holds {what}, and to read it takes {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB "
                "can be used; check the file, use a larger computer, or fewer --workers"
            )
        )


def _free() -> float:
    """Return the bytes that this process may still take: of the machine, and of the limits that are set for it."""
    import psutil

    free = psutil.virtual_memory().available
    process = psutil.Process()
    with suppress(AttributeError):  # only Linux has these
        used = process.memory_info()
        for limit, taken in ((psutil.RLIMIT_AS, used.vms), (psutil.RLIMIT_DATA, used.data)):
            most, _ = process.rlimit(limit)
            if most != psutil.RLIM_INFINITY:
                free = min(free, max(0, most - taken))
    return float(free)


def _limit() -> float:
    try:
        return max(float(os.environ.get(MEGAPIXELS, _MOST_MEGAPIXELS)), 0.0)
    except ValueError as error:
        raise InputError(one_line(f"{MEGAPIXELS} {os.environ[MEGAPIXELS]!r} is not a number; set it to one")) from error
