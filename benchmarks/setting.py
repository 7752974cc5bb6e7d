"""What a benchmark records of when and where it ran."""

from __future__ import annotations

import platform
import subprocess
import time

import torch


def describe(cores: str) -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {cores}",
        "torch": torch.__version__,
    }
