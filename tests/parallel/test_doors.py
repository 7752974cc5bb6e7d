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
from deeppicker.parallel import slurm as jobs
from other_user import needs_root
from real_slurm import needs_slurm

pytest.importorskip("distributed")
STRANGERS = Path(__file__).with_name("strangers.py")


def strangers(kind: str) -> dict[str, Any]:
    """Return what the program of that name has found."""
    words = [sys.executable, STRANGERS, kind]
    paths = os.pathsep.join([str(STRANGERS.parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_a_local_scheduler_listens_on_this_machine_only_and_refuses_whoever_has_not_its_keys():
    found = strangers("local")
    assert found["address"].startswith("tls://127.0.0.1:")
    assert found["works"] == 32
    assert "connected" not in found["answers"]
    assert "404" in found["pages"]  # Dask's HTTP servers have no pages
    assert set(found["pages"]) <= {"404", "ConnectionResetError", "RemoteDisconnected"}


@needs_root
@pytest.mark.slow
def test_another_user_of_this_machine_is_refused_where_he_enters_an_unguarded_scheduler():
    found = strangers("local")["stranger"]
    assert found["open"] == "connected"
    assert len(found["guarded"]) == 2
    assert not {"connected", "ModuleNotFoundError"} & set(found["guarded"])


@pytest.mark.slow
@needs_slurm
def test_only_the_jobs_of_a_real_slurm_enter_their_scheduler():
    found = strangers("jobs")
    assert found["address"].startswith("tls://")
    assert found["works"] == 32
    assert "connected" not in found["answers"]
    assert "404" in found["pages"]
    assert set(found["pages"]) <= {"404", "ConnectionResetError", "RemoteDisconnected"}
    if "stranger" in found:  # root runs the tests
        assert found["stranger"]["open"] == "connected"
        assert not {"connected", "ModuleNotFoundError"} & set(found["stranger"]["guarded"])
        assert found["stranger"]["keys"] == ["PermissionError"] * 3 + ["read"]


@pytest.mark.slow
def test_slurm_jobs_get_keys_that_only_this_user_can_read():
    found = strangers("slurm")
    assert found["address"].startswith("tls://")
    assert "--no-dashboard" in found["script"]
    assert "#SBATCH --gpus=2" in found["script"]
    assert found["modes"] == [0o600] * 3
    assert found["interrupt"] == "default_int_handler"  # dask_jobqueue would end the program with status 0 at Ctrl-C


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
    monkeypatch.setattr(jobs.shutil, "which", lambda _: sys.executable)
    with pytest.raises(InputError, match="a job script cannot; choose another --output"):
        jobs.slurm_cluster(ClusterConfig(cluster="slurm"), tmp_path / name, None)
