"""When and where a benchmark ran."""

from __future__ import annotations

import platform
import subprocess
import time
from pathlib import Path

import torch


def describe(cores: str) -> dict[str, object]:
    changed = _git("status", "--porcelain", "--", "src")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": _git("rev-parse", "--short", "HEAD") + (" and changes" if changed else ""),
        "machine": f"{_processor()}, {cores}",
        "torch": torch.__version__,
    }


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


def _processor() -> str:
    """Return the name of the processor where the system tells it, and the architecture."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return ", ".join([*names[:1], platform.machine()])
