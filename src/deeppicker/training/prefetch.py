"""Work that threads do ahead of its use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Item = TypeVar("Item")


def ahead(work: Callable[[Task], Item], tasks: Iterable[Task], threads: int = 1) -> Iterator[Item]:
    """Yield what ``work`` makes of each task, in their order, while threads do the next ones.

    Parameters
    ----------
    work : callable
        Must not depend on the order in which tasks are done.
    tasks : iterable
        Looked at in order, in the thread of the caller, and only a few further than what has been yielded.
    threads : int
        How many tasks are done at once.
    """
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[Item]] = deque()
        for task in tasks:
            under_way.append(pool.submit(work, task))
            if len(under_way) > threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
