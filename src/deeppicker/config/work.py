"""Settings of the workers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from deeppicker.config.limits import within
from deeppicker.errors import InputError


@dataclass(frozen=True, kw_only=True)
class WorkConfig:
    """Workers, and how often to retry failures. The result does not depend on these settings."""

    workers: int | None = None
    """Processes on this machine (or of a local cluster); default: one for each core, as far as memory allows. 0: no
    other process, and no time limit."""

    time_limit: float | int = 600
    """Seconds after which to give up a micrograph, for example because the file system hangs."""

    retries: int = 2
    """How often to retry a micrograph, after all others, if it cannot be read or written, its worker is lost or its
    time is up."""

    def __post_init__(self) -> None:
        within(self, workers=(0, 4096), time_limit=(0.001, math.inf), retries=(0, 100))


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Work on several machines, with Dask (needs ``pip install deeppicker[cluster]``). All must see the same files."""

    cluster: str | None = None
    """``local``: a Dask cluster on this machine; ``tcp://HOST:PORT``: an existing one; ``slurm``: workers in SLURM
    jobs, as many as there is work for. Default: no cluster."""

    jobs: int = 10
    """Largest number of SLURM jobs at one time."""

    job_cores: int = 4
    """Cores of a SLURM job; it runs one worker on each."""

    job_gpus: int = 0
    """Graphics cards of a SLURM job (``--gpus``), which its workers share."""

    job_memory: str = "8GB"
    """Memory of a SLURM job; 2 GB per core are enough for all cameras."""

    job_time: str = "02:00:00"
    """Wall time of a SLURM job, ``HH:MM:SS``; when it ends, another job takes its place."""

    partition: str | None = None
    """SLURM partition; default: that of your site, or of Dask's configuration file ``jobqueue.yaml``."""

    account: str | None = None
    """SLURM account."""

    job_option: tuple[str, ...] = ()
    """More lines for ``#SBATCH``, such as ``--qos=normal``."""

    job_setup: tuple[str, ...] = ()
    """Shell commands that each job runs first, such as ``module load python``."""

    interface: str | None = None
    """Network interface by which the jobs reach this machine, such as ``ib0``; default: the usual one."""

    def __post_init__(self) -> None:
        within(self, jobs=(1, 100_000), job_cores=(1, 4096), job_gpus=(0, 64))
        for name in ("partition", "account", "interface", "job_memory", "job_time"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[\w@%+=:,./-]+", value, re.ASCII):
                raise InputError(f"--{name.replace('_', '-')} {value!r} cannot stand in a job script; leave out spaces")
        for name in ("job_option", "job_setup"):
            for value in getattr(self, name):
                if not value.isprintable():
                    raise InputError(f"--{name.replace('_', '-')} {value!r} is more than one line; give one for each")
        kinds = self.cluster in (None, "local", "slurm") or "://" in self.cluster
        if not kinds:
            raise InputError(
                f"--cluster {self.cluster} is not a cluster; choose local, slurm or an address such as tcp://HOST:8786"
            )
