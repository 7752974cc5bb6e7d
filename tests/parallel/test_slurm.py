"""Picking in the jobs of a real SLURM, and what is said of jobs that it cannot start."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import scenes
from deeppicker.networks.model import save_model
from real_slurm import needs_slurm
from scenes import DIAMETER, files_of_run

pytest.importorskip("dask_jobqueue")
pytestmark = [pytest.mark.slow, needs_slurm]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two micrographs and a model, in the current folder."""
    for seed in range(2):
        scenes.write_mrc(tmp_path / "in" / f"{seed}.mrc", scenes.scene(seed, faintest=0.05).micrograph.image)
    save_model(scenes.uncertain(), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pick(output: str, *more: str) -> subprocess.Popen[str]:
    words = ["pick", "in", "--output", output, "--model", "model.safetensors", "--diameter", str(DIAMETER), *more]
    program = [sys.executable, "-m", "deeppicker", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def on_slurm(cores: str, memory: str) -> list[str]:
    cluster = ["--cluster", "slurm", "--jobs", "1", "--interface", "lo"]
    return [*cluster, "--job-cores", cores, "--job-memory", memory, "--log-file", "log.txt"]


def test_jobs_of_slurm_pick_what_this_machine_picks(project: Path):
    for output, more in (("there", on_slurm("1", "2GB")), ("here", ["--workers", "0"])):
        with pick(output, *more) as picking:
            errors = picking.communicate()[1]
        assert picking.returncode == 0, errors
    logs = list((project / "there" / "slurm").iterdir())
    assert [path.suffix for path in sorted(logs)] == [".err", ".out"]  # the keys are gone
    for path in logs:
        path.unlink()
    (project / "there" / "slurm").rmdir()
    assert files_of_run(project / "there") == files_of_run(project / "here")


def test_a_job_that_can_never_start_is_told_on_the_screen_and_in_the_log_and_an_interruption_ends_it(project: Path):
    with pick("out", *on_slurm("4000", "2GB")) as picking:
        assert picking.stdout is not None
        for line in picking.stdout:
            if "PartitionConfig" in line:
                break
        picking.send_signal(signal.SIGINT)
        errors = picking.communicate()[1]
    assert picking.returncode == 130
    assert errors == "deeppicker: interrupted; repeat the command to continue\n"
    assert "PENDING (PartitionConfig); if that cannot change, stop" in (project / "log.txt").read_text()


def test_a_job_that_slurm_does_not_take_ends_the_run_with_its_reason():
    with pick("out", *on_slurm("1", "900000GB")) as picking:
        errors = picking.communicate()[1]
    assert picking.returncode == 2
    assert errors.startswith("deeppicker: --cluster slurm: SLURM takes no such job (")
    assert "--job-memory" in errors
    assert errors.count("\n") == 1
