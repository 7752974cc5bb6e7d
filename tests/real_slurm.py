"""Whether there is a real SLURM for the tests; a cluster of one node, this one, is enough."""

import shutil
import subprocess

import pytest


def answers_slurm() -> bool:
    """Return whether a SLURM answers here."""
    if shutil.which("sinfo") is None or shutil.which("sbatch") is None:
        return False
    done = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and any(state in done.stdout for state in ("idle", "mixed", "allocated"))


needs_slurm = pytest.mark.skipif(not answers_slurm(), reason="needs a SLURM that answers; one node is enough")
