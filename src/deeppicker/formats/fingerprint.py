"""By what a file is recognised as the one that was read: where it is, its size, its times, and some of its bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeppicker.errors import TransientError
from deeppicker.formats.room import refuse_special
from deeppicker.formats.text import one_line, unreadable

_BLOCK = 4096  # bytes
_BLOCKS = 16  # that are looked at, the first and the last among them


@dataclass(frozen=True)
class Fingerprint:
    """What a file was like when it was read.

    Parameters
    ----------
    path : str
        Full path.
    size : int
        Bytes.
    modified, changed : int
        Times in ns since 1970 when content, and content or attributes, were last changed.
    checksum : str
        Of the header and of blocks spread over the file.
    """

    path: str
    size: int
    modified: int
    changed: int
    checksum: str

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Return the fingerprint of a file.

        Raises
        ------
        UnreadableError
            If it cannot be read.
        """
        refuse_special(path)
        try:
            status = path.stat()
            times = status.st_mtime_ns, status.st_ctime_ns
            return cls(str(path.absolute()), status.st_size, *times, _checksum(path))
        except OSError as error:
            raise unreadable(path, error) from error

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Fingerprint:
        """Return what was stored as a mapping (KeyError, TypeError or ValueError if that is none)."""
        size, modified, changed = (int(content[name]) for name in ("size", "modified", "changed"))
        return cls(str(content["path"]), size, modified, changed, str(content["checksum"]))

    def fits(self, path: Path) -> bool:
        """Return whether a file is still the one that was read; False if it cannot be read.

        A file of another time of modification is another one. If only its place or its attributes changed, as when a
        project is moved, its content decides.
        """
        try:
            status = path.stat()
            if (status.st_size, status.st_mtime_ns) != (self.size, self.modified):
                return False
            untouched = status.st_ctime_ns == self.changed and str(path.absolute()) == self.path
            return untouched or _checksum(path) == self.checksum
        except OSError:
            return False

    def refuse_change(self, path: Path) -> None:
        """Check after a file was read that it is what it was before.

        Raises
        ------
        TransientError
            If it changed meanwhile, or is gone.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) != (self.size, self.modified, self.changed):
            raise TransientError(one_line(f"{path} changed while it was read; repeat the command when it is complete"))


def _checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb", buffering=0) as file:
        last = max(0, os.fstat(file.fileno()).st_size - _BLOCK)
        for place in sorted({round(last * part / (_BLOCKS - 1)) for part in range(_BLOCKS)}):
            digest.update(os.pread(file.fileno(), _BLOCK, place))
    return digest.hexdigest()
