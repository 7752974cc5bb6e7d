"""Workers in SLURM jobs: how they are started, and what SLURM says of them."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from deeppicker.config import ClusterConfig
from deeppicker.errors import InputError
from deeppicker.formats.atomic import make_folder
from deeppicker.formats.text import one_line

NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
"""Options of a Dask scheduler. It has an HTTP server all the same: without pages, and for this machine only."""

_NO_PAGES = "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'"
_PATIENCE = 30  # seconds in which SLURM must answer
_UNSAFE = re.compile(r"[^A-Za-z0-9_@%+=:,./-]")  # what SLURM or a shell would not take as it is


def slurm_cluster(config: ClusterConfig, output: Path, security: Any) -> Any:
    """Return a cluster whose workers are SLURM jobs, between one and the largest number, by the work there is.

    The keys that the jobs need lie in the folder of their logs, in files that only this user can read, while it runs.

    Raises
    ------
    InputError
        If there is no SLURM here, or it cannot be used.
    """
    if shutil.which("sbatch") is None:
        raise InputError(
            "--cluster slurm needs the command sbatch, which this machine lacks; run it where SLURM is installed"
        )
    before = signal.getsignal(signal.SIGINT)
    from dask_jobqueue.slurm import SLURMCluster

    signal.signal(signal.SIGINT, before)  # after that import, Ctrl-C would end the program with status 0 and no word
    logs = (output / "slurm").resolve()
    if _UNSAFE.search(str(logs)):
        raise InputError(
            one_line(
                f"--output {str(output)!r}: the folder {logs} holds a space or another character that a job script "
                "cannot; choose another --output"
            )
        )
    given = {"queue": config.partition, "account": config.account, "interface": config.interface}
    cards = [f"--gpus={config.job_gpus}"] if config.job_gpus else []
    try:
        cluster = SLURMCluster(
            cores=config.job_cores,
            processes=config.job_cores,
            memory=config.job_memory,
            walltime=config.job_time,
            job_extra_directives=[*cards, *config.job_option],
            job_script_prologue=[_NO_PAGES, *config.job_setup],
            log_directory=str(make_folder(logs)),
            security=security,
            shared_temp_directory=str(logs),
            worker_extra_args=["--no-dashboard", "--dashboard-address", "127.0.0.1:0"],
            scheduler_options=NO_DASHBOARD,
            **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"--cluster slurm cannot be used: {error}") from error
    cluster.adapt(minimum_jobs=1, maximum_jobs=config.jobs)
    return cluster


def state_of_jobs(cluster: Any) -> str:
    """Return what SLURM says of the jobs of a cluster, none of which works yet.

    Raises
    ------
    InputError
        If it takes no such job.
    """
    jobs = [job.job_id for job in getattr(cluster, "workers", {}).values() if job.job_id]
    return _said_of(jobs) if jobs else _not_taken(cluster)


def _not_taken(cluster: Any) -> str:
    """Return that SLURM has taken no job yet; refuse if it would never take such a one."""
    words = ["sbatch", "--test-only"]
    with suppress(OSError, subprocess.TimeoutExpired):
        script = cluster.job_script()
        done = subprocess.run(words, input=script, capture_output=True, text=True, check=False, timeout=_PATIENCE)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"sbatch ends with {done.returncode}"])[-1]
            raise InputError(
                one_line(
                    f"--cluster slurm: SLURM takes no such job ({reason}); set other --job-cores, --job-memory, "
                    "--job-time or --partition"
                )
            )
    return "SLURM has taken no job yet; see the log files in the folder slurm of the output"


def _said_of(jobs: Sequence[str]) -> str:
    """Return what SLURM says of jobs that have not started."""
    words = ["squeue", "--noheader", "--format=%i %T %r", "--jobs", ",".join(jobs)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"still waiting for SLURM jobs; squeue says nothing ({error})"
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line.strip()]
    states = [f"job {job} is {state} ({reason})" for job, state, reason in (line for line in lines if len(line) == 3)]
    if not states:
        return "the SLURM jobs are gone; see the log files in the folder slurm of the output"
    return f"SLURM: {states[0]}; if that cannot change, stop and set other --job-cores, --job-memory or --partition"
