"""A few random sequences with real processes, in a program of its own, because it forks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("real_machine.py")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="suspends and kills process groups as Linux does")
def test_suspended_overtaken_and_killed_processes_leave_what_a_fresh_run_gives():
    paths = os.pathsep.join([str(HARNESS.parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    words = [sys.executable, HARNESS, "--sequences", "6", "--seed", "20"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert done.stdout.splitlines()[-1] == "6 sequences of 14 steps: no fault"
