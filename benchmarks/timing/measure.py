"""The cost of an action or a command: wall time, CPU time, memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

DEEPPICKER = (sys.executable, "-m", "deeppicker")
_LAUNCH = (sys.executable, "-I", "-S", Path(__file__).with_name("launch.py"))
_SAMPLED = 0.05  # seconds between two samples of the memory
_LOOKS = 5  # samples between two searches for new processes, which cost more than a sample


@dataclass(frozen=True)
class Cost:
    """The cost of a command, all its processes together.

    Parameters
    ----------
    wall : float
        Seconds from before its start until after its end.
    cpu : float
        Seconds of CPU time, user and system.
    megabytes : float
        Peak memory: the exact peak of the largest process or, if larger, the sum over all processes, sampled 20 times
        a second. Memory that processes may share (libraries, files) counts once in the sum.
    """

    wall: float
    cpu: float
    megabytes: float

    def to_json(self) -> dict[str, float]:
        """Return the numbers by name."""
        return asdict(self)


def run(command: Sequence[str | Path]) -> Cost:
    """Run a command and return its cost; a failure ends the benchmark."""
    with tempfile.NamedTemporaryFile("r") as result, tempfile.TemporaryFile("w+") as log:
        parts = [str(part) for part in (*_LAUNCH, result.name, *command)]
        process = subprocess.Popen(parts, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        peak = _watch(process)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(map(str, command))}\n{log.read()}\nended with {process.returncode}")
        taken = json.load(result)
    return Cost(taken["wall"], taken["cpu"], max(taken["megabytes"], peak))


def _watch(process: subprocess.Popen[Any]) -> float:
    """Wait for the end of a process; return the peak memory of the process and its children together, in MB."""
    family: list[psutil.Process] = []
    peak = 0.0
    look = 0
    while True:
        try:
            process.wait(_SAMPLED)
            return peak
        except subprocess.TimeoutExpired:
            pass
        if look % _LOOKS == 0:
            try:
                family = psutil.Process(process.pid).children(recursive=True)
            except psutil.Error:
                family = []
        look += 1
        used = [_memory(member) for member in family]
        peak = max(peak, sum(own for own, _ in used) + max((shared for _, shared in used), default=0.0))


def _memory(process: psutil.Process) -> tuple[float, float]:
    """Return the private and the shareable memory of a process in MB."""
    try:
        memory = process.memory_info()
    except psutil.Error:  # it has ended
        return 0.0, 0.0
    return (memory.rss - memory.shared) / 1e6, memory.shared / 1e6


def best(repeats: int, command: Sequence[str | Path], before: Callable[[], Any] = lambda: None) -> Cost:
    """Return the shortest time and the peak memory of several runs; ``before`` is called before each."""
    costs = []
    for _ in range(repeats):
        before()
        costs.append(run(command))
    return least(costs)


def least(costs: Sequence[Cost]) -> Cost:
    """Return the shortest time and the peak memory."""
    return Cost(min(c.wall for c in costs), min(c.cpu for c in costs), max(c.megabytes for c in costs))


def warm(repeats: int, action: Callable[[], object]) -> float:
    """Return the shortest time in seconds of an action in this process, after a warm-up run."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)
