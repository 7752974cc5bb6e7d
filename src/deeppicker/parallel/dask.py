"""Workers of a Dask cluster, also in SLURM jobs."""

from __future__ import annotations

import logging
import pickle
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeppicker.config import ClusterConfig, WorkConfig
from deeppicker.errors import DeepPickerError, InputError, TransientError
from deeppicker.formats.atomic import make_folder
from deeppicker.formats.text import one_line
from deeppicker.parallel.jobs import Job, Mapper, attempt
from deeppicker.parallel.processes import sensible_workers, usable_cores

if TYPE_CHECKING:
    from distributed import Client

_PATIENCE = 30  # seconds in which a scheduler must answer
_ASKED = 15  # seconds between two questions to SLURM
_UNSAFE = re.compile(r"[^A-Za-z0-9_@%+=:,./-]")  # what SLURM or a shell would not take as it is
_IN_FLIGHT = 1000  # items that the scheduler knows of at a time: enough to see how many workers are wanted


@contextmanager
def dask_workers(
    config: ClusterConfig, work: WorkConfig, output: Path, say: Callable[[str], None]
) -> Iterator[Callable[[Job], Mapper[Any]]]:
    """Provide the workers of a cluster, as long as the context lasts; yield what makes a mapper of a job.

    Raises
    ------
    InputError
        If the cluster cannot be reached or used.
    """
    with _connected(config, work.workers, output) as client:
        say("waiting for a worker of the cluster")
        _check(client, config, say)
        yield lambda job: _mapper(client, job, float(work.time_limit))


@contextmanager
def _connected(config: ClusterConfig, workers: int | None, output: Path) -> Iterator[Client]:
    """Connect to a Dask cluster, or start one; it ends with the context if it was started."""
    try:
        import cryptography  # noqa: F401 - makes the keys
        from distributed import Client, LocalCluster
        from distributed.security import Security
    except ImportError as error:
        raise InputError(
            f"--cluster {config.cluster} needs Dask ({error}); install it: pip install 'deeppicker[cluster]'"
        ) from error
    for name in ("distributed", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is said in our words
    # Whoever reaches a scheduler that asks for no keys can run anything as this user.
    security = Security.temporary()  # type: ignore[no-untyped-call]
    cluster: Any
    if config.cluster == "local":
        cluster = LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers or sensible_workers(usable_cores()),
            threads_per_worker=1,
            host="127.0.0.1",
            security=security,
            dashboard_address=None,
        )
    elif config.cluster == "slurm":
        cluster = _slurm(config, output, security)
    else:
        cluster = config.cluster
    try:
        try:
            client = Client(cluster, timeout=_PATIENCE)  # type: ignore[no-untyped-call]
        except (OSError, TimeoutError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"--cluster {config.cluster} cannot be reached: {reason}; check the address") from error
        try:
            yield client
        finally:
            client.close()  # type: ignore[no-untyped-call]
    finally:
        if not isinstance(cluster, str):
            cluster.close()


def _slurm(config: ClusterConfig, output: Path, security: Any) -> Any:
    """Return a cluster whose workers are SLURM jobs, between one and the largest number, by the work there is.

    The keys that the jobs need lie in the folder of their logs, in files that only this user can read, while it runs.
    """
    if shutil.which("sbatch") is None:
        raise InputError(
            "--cluster slurm needs the command sbatch, which this machine lacks; run it where SLURM is installed"
        )
    from dask_jobqueue.slurm import SLURMCluster

    logs = (output / "slurm").resolve()
    if _UNSAFE.search(str(logs)):
        raise InputError(
            one_line(
                f"--output {str(output)!r}: the folder {logs} holds a space or another character that a job script "
                "cannot; choose another --output"
            )
        )
    given = {"queue": config.partition, "account": config.account, "interface": config.interface}
    try:
        cluster = SLURMCluster(
            cores=config.job_cores,
            processes=config.job_cores,
            memory=config.job_memory,
            walltime=config.job_time,
            job_extra_directives=list(config.job_option),
            job_script_prologue=list(config.job_setup),
            log_directory=str(make_folder(logs)),
            security=security,
            shared_temp_directory=str(logs),
            worker_extra_args=["--no-dashboard"],
            scheduler_options={"dashboard_address": None},
            **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"--cluster slurm cannot be used: {error}") from error
    cluster.adapt(minimum_jobs=1, maximum_jobs=config.jobs)
    return cluster


def _check(client: Client, config: ClusterConfig, say: Callable[[str], None]) -> None:
    """Wait for a worker, telling what SLURM says meanwhile, and refuse another version of this program, or none.

    Raises
    ------
    InputError
        If they have.
    """
    try:
        theirs = _awaited(client.submit(version, "deeppicker", pure=False), client, config, say)
    except Exception as error:
        message = f"--cluster {config.cluster}: a worker cannot load DeepPicker ({error}); install it there too"
        raise InputError(message) from error
    if theirs != version("deeppicker"):
        raise InputError(
            f"--cluster {config.cluster}: the workers have DeepPicker {theirs}, this is {version('deeppicker')}; "
            "install the same version on both"
        )


def _awaited(future: Any, client: Client, config: ClusterConfig, say: Callable[[str], None]) -> Any:
    """Return the result of the first task; while it waits for SLURM, say why, whenever that changes."""
    told = ""
    while config.cluster == "slurm" and not future.done():
        with suppress(TimeoutError):
            return future.result(timeout=_ASKED)
        reason = _slurm_says([job.job_id for job in getattr(client.cluster, "workers", {}).values()])
        if reason != told:
            told = reason
            say(reason)
    return future.result()


def _slurm_says(jobs: Sequence[str]) -> str:
    """Return what SLURM says of jobs that have not started."""
    if not jobs:
        return "SLURM has taken no job yet; see the log files in the folder slurm of the output"
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


def _mapper(client: Client, job: Job, time_limit: float) -> Mapper[Any]:
    """Return a mapper by the workers of a Dask cluster; the job is sent to each of them once.

    The scheduler keeps how to make it, so that it is not lost with the worker that happens to hold it.
    """
    shared = client.submit(pickle.loads, pickle.dumps(job), pure=False)
    return lambda items: _map(client, shared, items, time_limit)


def _map(client: Client, shared: Any, items: Iterable[Any], time_limit: float) -> Iterator[tuple[Any, Any]]:
    from distributed import as_completed

    source, of = iter(items), {}
    finished = as_completed()  # type: ignore[no-untyped-call]

    def submit() -> bool:
        for item in source:
            future = client.submit(_limited, shared, item, time_limit, pure=False)
            of[future.key] = (future, item)
            finished.add(future)  # type: ignore[no-untyped-call]
            return True
        return False

    try:
        while len(of) < _IN_FLIGHT and submit():
            pass
        for future in finished:
            _, item = of.pop(future.key)
            try:
                outcome = future.result()
            except Exception as error:  # of Dask: our own come back as results
                if client.status != "running":
                    raise DeepPickerError("the scheduler was lost; repeat the command to continue") from error
                outcome = TransientError(f"its worker was lost ({type(error).__name__})")
            future.release()
            submit()
            yield item, outcome
    finally:
        client.cancel([future for future, _ in of.values()])  # type: ignore[no-untyped-call]


def _limited(job: Job, item: Any, time_limit: float) -> Any:
    """Do the job for an item in a thread that is left behind if it takes too long."""
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(attempt(job, item)), daemon=True)
    thread.start()
    thread.join(time_limit)
    if not outcome:
        return TransientError(
            f"not finished after {time_limit:g} s on {socket.gethostname()}, so given up; "
            "check the disk, or set a longer --time-limit"
        )
    return outcome[0]
