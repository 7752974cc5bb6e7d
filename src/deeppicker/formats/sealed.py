"""JSON files of ours with a checksum of their own content, so that damage is noticed."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeppicker.errors import FormatError
from deeppicker.formats.text import one_line

_CHECKSUM = "checksum"
_MOST_BYTES = 1 << 24


def checksum(*parts: bytes) -> str:
    """Return a short checksum of some bytes."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def seal(content: Mapping[str, Any], indent: int | None = 1) -> str:
    """Return the text of a file that `read_json` reads and checks; one line without ``indent``."""
    return json.dumps({**content, _CHECKSUM: _of(content)}, indent=indent) + "\n"


def unseal(text: str | bytes) -> dict[str, Any]:
    """Return the content of what `seal` wrote; ValueError if it is damaged."""
    content = parse_json(text)
    if not isinstance(content, dict) or content.pop(_CHECKSUM, None) != _of(content):
        raise ValueError("its checksum does not fit")
    return content


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds; ValueError if it is none, also where it has brackets without end."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def read_json(path: Path, *, sealed: bool = False) -> dict[str, Any]:
    """Read a JSON file that holds a mapping; check its checksum if it has one, or must have one as ours do.

    Raises
    ------
    FormatError
        If it is damaged.
    OSError
        If it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe may never end
        raise FormatError(one_line(f"{path} is no regular file"))
    with path.open("rb") as file:
        raw = file.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise FormatError(one_line(f"{path} is damaged: longer than {_MOST_BYTES:,} bytes"))
    try:
        content = parse_json(raw.decode("utf-8"))
    except ValueError as error:
        raise FormatError(one_line(f"{path} is damaged: {error}")) from error
    if not isinstance(content, dict):
        if sealed:
            raise FormatError(one_line(f"{path} is damaged: no mapping"))
        return {}
    stored = content.pop(_CHECKSUM, None)
    if (sealed or stored is not None) and stored != _of(content):
        raise FormatError(one_line(f"{path} is damaged: its checksum does not fit"))
    return content


def _of(content: Mapping[str, Any]) -> str:
    return checksum(json.dumps(content, sort_keys=True).encode())
