"""Find out before long work whether its result can be written."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from deeppicker.errors import OutputError
from deeppicker.formats.text import one_line


def refuse_unwritable_file(*paths: Path | None) -> None:
    """Check that files can be written where they are to be; None is left out.

    Raises
    ------
    OutputError
        If one cannot: there is no such folder, no permission, or a folder in its place.
    """
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise OutputError(one_line(f"{path} is a folder; choose another name for the file"))
        _try(Path(os.path.realpath(path)).parent, path)


def refuse_unwritable_new_file(path: Path) -> None:
    """Check likewise a file whose folder is made if need be."""
    if path.is_dir():
        refuse_unwritable_file(path)
    refuse_unwritable_folder(path.absolute().parent)


def refuse_unwritable_folder(*paths: Path | None) -> None:
    """Check likewise that folders can be made and filled."""
    for path in paths:
        if path is not None:
            absolute = path.absolute()
            _try(next(place for place in (absolute, *absolute.parents) if os.path.lexists(place)), path)


def _try(folder: Path, path: Path) -> None:
    probe = folder / f".deeppicker-{secrets.token_hex(8)}.tmp"
    try:
        probe.touch()
    except OSError as error:
        reason = error.strerror or error
        message = f"{path} cannot be written: {reason}; check the folder, its permissions and free space"
        raise OutputError(one_line(message)) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
