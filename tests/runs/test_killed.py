"""Whatever is killed, at whatever moment: the same command ends with the same result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scenes
from deeppicker.networks.model import save_model
from scenes import DIAMETER, files_of_run

HARNESS = Path(__file__).with_name("killed.py")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small micrographs and a model."""
    folder = tmp_path_factory.mktemp("project")
    for seed in range(6):
        image = scenes.scene(seed, faintest=0.05).micrograph.image
        scenes.write_mrc(folder / "micrographs" / f"{seed}.mrc", image)
    save_model(scenes.uncertain(), folder / "model.safetensors")
    words = ["micrographs", "--output", "whole", *options("0")]
    subprocess.run([sys.executable, "-m", "deeppicker", "pick", *words], cwd=folder, check=True, env=one_thread())
    return folder


def options(workers: str) -> list[str]:
    return ["--diameter", str(DIAMETER), "--model", "model.safetensors", "--workers", workers, "--retries", "9"]


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.parametrize(("what", "workers", "kills"), [("run", "0", 50), ("run", "2", 5), ("worker", "2", 4)])
def test_killed_at_random_moments_the_same_command_ends_with_the_same_result(
    project: Path, what: str, workers: str, kills: int
):
    words = ["pick", "micrographs", "--output", "killed", *options(workers)]
    program = [sys.executable, HARNESS, str(kills), what, "--", *words]
    done = subprocess.run(program, cwd=project, capture_output=True, text=True, check=False, env=one_thread())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= kills / 2  # these hit a run that was at work
    assert files_of_run(project / "killed") == files_of_run(project / "whole")
