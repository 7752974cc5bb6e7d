"""What the limits of batch systems and containers leave of the memory: the control groups of Linux."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Files:
    """Names of the files of a group, and of the entries of ``memory.stat`` that the system frees when it needs to."""

    limit: str
    used: str
    cached: tuple[str, str]


_OLD = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
_NEW = _Files("memory.max", "memory.current", ("inactive_file", "active_file"))


def free_in_cgroups(root: Path = Path("/")) -> float:
    """Return the bytes that the control groups of this process leave to it; infinity if nothing limits them.

    Parameters
    ----------
    root : Path
        Folder that holds ``proc`` and ``sys``.
    """
    return min((_free(folder, files) for folder, files in _groups(root)), default=math.inf)


def _groups(root: Path) -> Iterator[tuple[Path, _Files]]:
    """Yield the groups of this process and those above them; a container may see the uppermost only."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, files = (root / "sys/fs/cgroup", _NEW) if not controllers else (root / "sys/fs/cgroup/memory", _OLD)
        group = top / path.lstrip("/")
        yield from ((folder, files) for folder in (group, *group.parents) if folder.is_relative_to(top))


def _free(group: Path, files: _Files) -> float:
    limit = _text(group / files.limit).strip()
    if not limit.isdecimal():  # "max", or the group has none
        return math.inf
    entries = dict(line.split() for line in _text(group / "memory.stat").splitlines())
    cached = sum(int(entries.get(name, 0)) for name in files.cached)
    return float(max(0, int(limit) - int(_text(group / files.used) or 0) + cached))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
