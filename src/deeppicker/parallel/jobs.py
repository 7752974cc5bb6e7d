"""One job for many items: what comes of an item, and which items are tried again.

A *job* is a callable of one item that can be pickled. A *mapper* does it for many items and yields each item with its
outcome, in the order in which they end: what the job returns, or the `DeepPickerError` in which it ends. *Workers* make
a mapper of a job.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from deeppicker.errors import DeepPickerError, OutputError, SpentWorkerError, TransientError, UnreadableError
from deeppicker.formats.text import one_line

Item = TypeVar("Item")
Job = Callable[[Any], Any]
Mapper = Callable[[Iterable[Item]], Iterator[tuple[Item, Any]]]
"""Does a job for each item; yields the item with its outcome."""
Workers = Callable[[Job], Mapper[Any]]
"""Make what has them do a job for each item: this process (`here`), others on this machine, or a cluster."""

_RETRIED = (TransientError, UnreadableError, OutputError)


def attempt(job: Job, item: Any) -> Any:
    """Return what the job returns, or the DeepPickerError in which it ends; nothing that one item does ends the run."""
    try:
        return job(item)
    except DeepPickerError as error:
        return error
    except MemoryError:
        return TransientError("not enough memory; check --diameter and --pixel-size, or set a smaller --tile")
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # of PyTorch, which this module does not load
            return TransientError("the graphics card has not enough memory; set fewer --workers, or --device cpu")
        if _spoils_the_process(error):
            gist = str(error).partition("\n")[0]
            return SpentWorkerError(f"the graphics card failed ({gist}); repeat the command, or set --device cpu")
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(where.filename)}:{where.lineno}"  # noqa: PTH119
        return DeepPickerError(one_line(f"unexpected {type(error).__name__} at {place} ({error}); please report this"))


def _spoils_the_process(error: Exception) -> bool:
    """Return whether PyTorch says that a card failed, after which it fails all that this process asks for."""
    said = isinstance(error, RuntimeError) and str(error).startswith(("CUDA error: ", "HIP error: "))
    return said or type(error).__name__ == "AcceleratorError"  # of PyTorch 2.8 and newer


def here(job: Job) -> Mapper[Any]:
    """Return a mapper that does the job in this process, one item after the other."""
    return lambda items: ((item, attempt(job, item)) for item in items)


def with_retries(mapper: Mapper[Item], items: Iterable[Item], retries: int) -> Iterator[tuple[Item, Any]]:
    """Do the job for each item; what may succeed later is tried again after all others, so many times."""
    for left in range(retries, -1, -1):
        again: list[Item] = []
        for item, outcome in mapper(items):
            if left and isinstance(outcome, _RETRIED):
                again.append(item)
            else:
                yield item, outcome
        if not again:
            return
        items = again
