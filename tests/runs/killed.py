"""Run `deeppicker pick` again and again, killed at random moments.

usage: killed.py KILLS WHAT -- WORDS...

A program of its own, because it forks: what it forks from has loaded PyTorch but never used it. WHAT is ``run`` (all
processes of a run are killed at once, as by a power cut) or ``worker`` (one of its workers is, and the run goes on).
The last run is left to end by itself. Prints how often a killed run had begun to write.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import torch

import deeppicker.runs.pick_job  # noqa: F401 - loaded once for all runs
from deeppicker.cli.main import main
from deeppicker.runs import parts

parts._FEW, parts._TOGETHER = 0, 1  # workers check the records and select the picks, too


def begin(words: list[str]) -> psutil.Process:
    """Start the command in a process group of its own."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(words))
    with suppress(ProcessLookupError, PermissionError):  # whoever is first, this process or its child
        os.setpgid(child, child)
    return psutil.Process(child)


def kill_at(process: psutil.Process, moment: Callable[[], bool], what: str) -> bool:
    """Kill when the moment has come; return whether that was before the end."""
    while not moment():
        with suppress(psutil.TimeoutExpired):
            assert process.wait(timeout=0.005) == 0
            return False
    if what == "run":
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    with suppress(psutil.NoSuchProcess, IndexError):
        random.choice([one for one in process.children(recursive=True) if one.parent() != process]).kill()
    assert process.wait() == 0
    return True


def repeat(kills: int, what: str, words: list[str]) -> int:
    """Kill so many times, half of them after a random time and half after a random number of micrographs."""
    output = Path(words[words.index("--output") + 1])

    def records() -> int:
        return len(list(output.glob("records/*")))

    start = time.monotonic()
    assert begin(words).wait() == 0
    whole, number = time.monotonic() - start, records()
    written, fresh = 0, True
    while kills:
        if fresh:
            shutil.rmtree(output)
        end, enough = time.monotonic() + random.uniform(0, 1.2 * whole), random.randrange(number)
        by_time = kills % 2 == 0
        moment = (lambda end=end: time.monotonic() > end) if by_time else (lambda enough=enough: records() > enough)
        killed = kill_at(begin(words), moment, what)
        kills -= killed
        fresh = not killed or what == "worker"  # else the next run completes this one
        written += killed and records() > 0
    assert begin(words).wait() == 0
    return written


if __name__ == "__main__":
    random.seed(0)
    split = sys.argv.index("--")
    print(repeat(int(sys.argv[1]), sys.argv[2], sys.argv[split + 1 :]))
