"""What another user of this machine can do: a process of somebody who owns nothing here. Needs root to become one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest

NOBODY = 65534
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user")


def as_other_user(act: Callable[[], str]) -> str:
    """Return what a function returns there, or the name of the error in which it ends.

    The process is forked, so the function finds all modules that are loaded already, wherever they lie.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _become_nobody_and(act, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def _become_nobody_and(act: Callable[[], str], writer: int) -> NoReturn:
    try:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        answer = act()
    except BaseException as error:
        answer = type(error).__name__
    os.write(writer, answer.encode())
    os._exit(0)
