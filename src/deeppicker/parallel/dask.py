"""Workers of a Dask cluster, also in SLURM jobs."""

from __future__ import annotations

import logging
import os
import pickle
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeppicker.config import ClusterConfig, WorkConfig
from deeppicker.errors import DeepPickerError, InputError, TransientError
from deeppicker.parallel.jobs import Job, Mapper, attempt
from deeppicker.parallel.processes import WORKER, sensible_workers, usable_cores
from deeppicker.parallel.slurm import NO_DASHBOARD, slurm_cluster, state_of_jobs

if TYPE_CHECKING:
    from distributed import Client

_PATIENCE = 30  # seconds in which a scheduler must answer
_ASKED = 15  # seconds between two questions to SLURM
_PAGES = ("distributed.scheduler.http.routes", "distributed.worker.http.routes")  # which Dask shows to anybody
_IN_FLIGHT = 1000  # items that the scheduler knows of at a time: enough to see how many workers are wanted


@contextmanager
def dask_workers(
    config: ClusterConfig, work: WorkConfig, output: Path, say: Callable[[str], None], most: int | None = None
) -> Iterator[Callable[[Job], Mapper[Any]]]:
    """Provide the workers of a cluster, as long as the context lasts; yield what makes a mapper of a job.

    There are not more workers on this machine than ``most``, unless their number is set.

    Raises
    ------
    InputError
        If the cluster cannot be reached or used.
    """
    workers = work.workers or sensible_workers(most or usable_cores())
    with _connected(config, workers, output) as client:
        say("waiting for a worker of the cluster")
        _check(client, config, say)
        yield lambda job: _mapper(client, job, float(work.time_limit))


@contextmanager
def _connected(config: ClusterConfig, workers: int, output: Path) -> Iterator[Client]:
    """Connect to a Dask cluster, or start one; it ends with the context if it was started."""
    try:
        import cryptography  # noqa: F401 - makes the keys
        import dask
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
    dask.config.set({name: [] for name in _PAGES})
    security = Security.temporary()  # type: ignore[no-untyped-call]
    cluster: Any
    if config.cluster == "local":
        cluster = LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            security=security,
            dashboard_address=None,
            scheduler_kwargs=NO_DASHBOARD,
        )
    elif config.cluster == "slurm":
        cluster = slurm_cluster(config, output, security)
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


def _check(client: Client, config: ClusterConfig, say: Callable[[str], None]) -> None:
    """Wait for a worker, telling what SLURM says meanwhile, and refuse another version of this program, or none.

    Raises
    ------
    InputError
        If they have.
    """
    try:
        theirs = _awaited(client.submit(version, "deeppicker", pure=False), client, config, say)
    except DeepPickerError:
        raise
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
        reason = state_of_jobs(client.cluster)
        if reason != told:
            told = reason
            say(reason)
    return future.result()


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
    from distributed import get_worker

    os.environ[WORKER] = _number(str(get_worker().name))
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


def _number(name: str) -> str:
    """Return the number in which the name of a worker ends: ``3``, ``SLURMCluster-0-3``, or an address with a port."""
    digits = re.search(r"\d+$", name)
    return digits[0] if digits else str(os.getpid())
