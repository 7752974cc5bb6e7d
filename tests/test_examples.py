"""The workflows in ``examples`` run as they stand, where the program that runs them is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="needs snakemake")
def test_the_snakemake_workflow_runs_and_has_nothing_to_do_the_second_time(tmp_path: Path):
    shutil.copytree(ROOT / "sample", tmp_path / "sample")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["snakemake", "--snakefile", str(ROOT / "examples" / "Snakefile"), "--cores", "1"]
    for _ in range(2):
        done = subprocess.run(
            words, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert "Nothing to be done" in done.stderr
    assert (tmp_path / "picks" / "sheet.png").is_file()
