"""Nobody without the keys reaches a scheduler that this program starts, and no option adds lines to a job script."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deeppicker.config import ClusterConfig
from deeppicker.errors import InputError
from deeppicker.parallel import dask as cluster

pytest.importorskip("distributed")
STRANGERS = Path(__file__).with_name("strangers.py")


def strangers(kind: str, folder: Path) -> dict[str, Any]:
    """Return what the program of that name has found."""
    words = [sys.executable, STRANGERS, kind, folder]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_a_local_scheduler_listens_on_this_machine_only_and_refuses_whoever_has_not_its_keys(tmp_path: Path):
    found = strangers("local", tmp_path)
    assert found["address"].startswith("tls://127.0.0.1:")
    assert found["works"] == 32
    assert "connected" not in found["answers"]  # another user of this machine has no more than these


@pytest.mark.slow
def test_slurm_jobs_get_keys_that_only_this_user_can_read(tmp_path: Path):
    found = strangers("slurm", tmp_path)
    assert found["address"].startswith("tls://")
    assert "--no-dashboard" in found["script"]
    assert found["modes"] == [0o600] * 3


@pytest.mark.parametrize("name", ["partition", "account", "interface", "job_memory", "job_time"])
@pytest.mark.parametrize("value", ["a\n#SBATCH --uid=0", "a b", "a;reboot", "$(reboot)", ""])
def test_a_value_that_would_add_to_a_job_script_is_refused(name: str, value: str):
    with pytest.raises(InputError, match=rf"--{name.replace('_', '-')} .* cannot stand in a job script"):
        ClusterConfig(**{name: value})


@pytest.mark.parametrize("name", ["job_option", "job_setup"])
def test_an_option_of_a_job_is_one_line(name: str):
    with pytest.raises(InputError, match="more than one line"):
        ClusterConfig(**{name: ("--qos=normal\nreboot",)})
    assert ClusterConfig(job_setup=('echo "two words"; module load python',)).job_setup


@pytest.mark.parametrize("name", ["two words", "line\nreboot", "$HOME"])
def test_an_output_folder_that_a_job_script_cannot_name_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster.shutil, "which", lambda _: sys.executable)
    with pytest.raises(InputError, match="a job script cannot; choose another --output"):
        cluster._slurm(ClusterConfig(cluster="slurm"), tmp_path / name, None)
