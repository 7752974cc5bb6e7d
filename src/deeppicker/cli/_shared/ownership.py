"""Which commands own their output while they run, so that no second one writes it at the same time.

The commands that pick are not among them: several may work in one folder (see `runs.state`).
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from deeppicker.formats.lock import owned

_OWNERS = ("adapt", "classify", "ctf", "extract", "simulate", "train")


def ownership(verb: str, options: Any) -> AbstractContextManager[None]:
    """Return the context in which a command runs with some options.

    Of the processes that `torchrun` started the first owns the output, since it writes all files.
    """
    first = os.environ.get("RANK", "0") == "0"
    return owned(options.output) if verb in _OWNERS and first else nullcontext()
