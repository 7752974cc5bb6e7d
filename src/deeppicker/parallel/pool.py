"""Who does a job: this process, processes on this machine, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deeppicker.config import ClusterConfig, WorkConfig
from deeppicker.core import MicrographEntry
from deeppicker.parallel.dask import dask_workers
from deeppicker.parallel.jobs import Workers, here
from deeppicker.parallel.processes import processes, sensible_workers, start_early, usable_cores


@dataclass(frozen=True)
class Pool:
    """Workers, wherever they are.

    Parameters
    ----------
    mapper : callable
        The workers; see `parallel.jobs`.
    number : int
        Of workers; 0 if unknown, or none but this process.
    threads : int
        That each worker may use; 0 in this process, where PyTorch uses as many as it does anyway.
    local : bool
        Whether the workers are on this machine.
    """

    mapper: Workers
    number: int
    threads: int
    local: bool = True

    def reachable(self, entries: Iterable[MicrographEntry]) -> Iterable[MicrographEntry]:
        """Return the micrographs with paths that the workers find, whose current folder may be another."""
        return entries if self.local else (replace(entry, path=entry.path.absolute()) for entry in entries)


@contextmanager
def open_pool(
    work: WorkConfig,
    cluster: ClusterConfig,
    items: int,
    output: Path,
    say: Callable[[str], None],
    *,
    most: int | None = None,
) -> Iterator[Pool]:
    """Provide workers for a number of items, as long as the context lasts.

    Logs of SLURM jobs go to the output folder; ``say`` tells people what is waited for. There are not more workers on
    this machine than ``most``, unless their number is set.

    Raises
    ------
    InputError
        If the cluster cannot be reached or used.
    """
    if cluster.cluster is not None:
        with dask_workers(cluster, work, output, say, most) as mapper:
            yield Pool(mapper, 0, 1, local=False)
        return
    number = work.workers if work.workers is not None else min(sensible_workers(items), most or items)
    if work.workers is None and items <= 1:
        number = 0  # to start another process takes longer than a micrograph
    if number == 0:
        yield Pool(here, 0, 0)
        return
    start_early()
    threads = max(1, usable_cores() // number)
    with processes(number, float(work.time_limit)) as mapper:
        yield Pool(mapper, number, threads)
