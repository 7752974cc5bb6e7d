"""Processes on this machine that do one job for many items, whatever becomes of these processes.

A process that dies, takes too long or can do nothing any more costs the item that it had, and is replaced.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

import psutil

from deeppicker.errors import InputError, SpentWorkerError, TransientError
from deeppicker.parallel.cgroups import free_in_cgroups
from deeppicker.parallel.jobs import Item, Job, Mapper, Workers, attempt

_MEMORY = 1.5e9  # bytes that a worker may need; more than one does for the largest camera (benchmarks/results/speed.md)
_POLL = 60.0  # seconds after which the state of the processes is looked at, though nothing was heard of them
WORKER = "DEEPPICKER_WORKER"
"""Environment variable with the number of a worker process, by which graphics cards are dealt."""
_NOTHING: Any = object()
_PRELOADED = "deeppicker.runs.pick_job"  # a name, since imports run downward only


def usable_cores() -> int:
    """Return the number of cores that this process may use: what a batch system grants, not what the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sensible_workers(items: int) -> int:
    """Return how many processes to use for a number of items: one for each core, if there is memory for them."""
    room = min(psutil.virtual_memory().available, free_in_cgroups()) // _MEMORY
    return int(max(1, min(usable_cores(), items, room)))


@contextmanager
def processes(number: int, time_limit: float) -> Iterator[Workers]:
    """Provide processes of this machine, which do one job after another; yield what makes a mapper of a job.

    Parameters
    ----------
    number : int
        Of processes.
    time_limit : float
        Seconds after which a process is ended and its item given back with a TransientError.
    """
    workers = [_Worker(index) for index in range(number)]

    def mapper(job: Job) -> Mapper[Any]:
        pickled = pickle.dumps(job)  # sent once to each process
        return lambda items: _map(workers, pickled, items, time_limit)

    try:
        yield mapper
    finally:
        for worker in workers:
            worker.stop()


@dataclass
class _Assignment:
    item: Any
    deadline: float


class _Worker:
    """A process with this end of its pipe, and what it is doing; started when it is first needed."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._job: bytes | None = None
        self._process: BaseProcess | None = None
        self._pipe: Connection[Any, Any] | None = None
        self.assignment: _Assignment | None = None

    def start(self, job: bytes, item: Any, time_limit: float) -> None:
        """Give an item to the process, and the pickled job if it does not have it yet."""
        left = self.assignment is not None  # by a mapping that was left and is not closed yet
        if self._process is None or left or not self._process.is_alive():
            self.stop()
            start_early()
            context = _context()
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._index), daemon=True)  # type: ignore[attr-defined]
            self._process.start()
            theirs.close()
            self._job = None
        assert self._pipe is not None
        self.assignment = _Assignment(item, time.monotonic() + time_limit)
        with suppress(OSError):  # if it died just now, `outcome` will find that
            self._pipe.send((job if self._job is not job else None, item))
            self._job = job

    @property
    def handles(self) -> Sequence[Any]:
        """What becomes ready when there is a result, or when the process has died."""
        assert self._process is not None
        return [self._pipe, self._process.sentinel]

    def outcome(self, time_limit: float) -> Any:
        """Return the outcome of the present item, or `_NOTHING` if there is none yet."""
        assert self._process is not None
        assert self._pipe is not None
        assert self.assignment is not None
        alive = self._process.is_alive()  # before the pipe is looked at: a result may be its last deed
        try:
            if self._pipe.poll():
                outcome = self._pipe.recv()
                if isinstance(outcome, SpentWorkerError):
                    self.stop()
                return outcome
        except (EOFError, OSError, pickle.UnpicklingError):
            alive = False
        if not alive:
            self._process.join(1)
            code = self._process.exitcode
            self.stop()
            hint = "is there enough memory?" if code is None or code < 0 else "what it printed says why"
            return TransientError(f"its worker process was ended ({_how(code)}); {hint}")
        if time.monotonic() > self.assignment.deadline:
            self.stop()
            return TransientError(
                f"not finished after {time_limit:g} s, so given up; check the disk, or set a longer --time-limit"
            )
        return _NOTHING

    def stop(self) -> None:
        """End the process, whatever it does; one that the system itself cannot end is left behind."""
        if self._process is not None:
            self._process.kill()
            self._process.join(1)
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _map(
    workers: Sequence[_Worker], job: bytes, items: Iterable[Item], time_limit: float
) -> Iterator[tuple[Item, Any]]:
    waiting = deque(workers)
    busy: list[_Worker] = []
    source = iter(items)
    try:
        while True:
            while waiting and (item := next(source, _NOTHING)) is not _NOTHING:
                worker = waiting.popleft()
                worker.start(job, item, time_limit)
                busy.append(worker)
            if not busy:
                return
            nearest = min(worker.assignment.deadline for worker in busy if worker.assignment) - time.monotonic()
            wait([handle for worker in busy for handle in worker.handles], min(max(0.0, nearest), _POLL))
            for worker in list(busy):
                outcome = worker.outcome(time_limit)
                if outcome is _NOTHING:
                    continue
                assert worker.assignment is not None
                item, worker.assignment = worker.assignment.item, None
                busy.remove(worker)
                waiting.append(worker)
                yield item, outcome
    finally:
        for worker in busy:  # the caller wants no more
            worker.stop()
            worker.assignment = None


def start_early() -> None:
    """Begin to load, in the background, what processes need, if this system allows it.

    Raises
    ------
    InputError
        If a worker process calls this because it imports the script that started it.
    """
    if _context().get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()  # the server needs it, and its start would undo what follows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the server inherits it: no traceback at Ctrl-C
    try:
        forkserver.ensure_running()
    except RuntimeError:  # this is a process that imports the script which started it
        raise InputError(
            "the script starts itself again in each worker process; put what it does below `if __name__ == '__main__':`"
        ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _context() -> BaseContext:
    """Return how processes start: from a server that has loaded PyTorch but never used it, where there is such a thing.

    A process forked from one that has used PyTorch may hang.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_PRELOADED])
    return context


def _serve(pipe: Connection[Any, Any], index: int) -> None:
    """Do what comes through the pipe, until its other end is closed: items, before the first one of a job that too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ[WORKER] = str(index)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job: Job | None = None
    while True:
        try:
            pickled, item = pipe.recv()
        except (EOFError, OSError):
            return
        if pickled is not None:
            job = pickle.loads(pickled)
        assert job is not None
        pipe.send(attempt(job, item))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit status {code}"
