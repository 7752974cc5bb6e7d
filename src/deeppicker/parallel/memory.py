"""Keep the memory of a process flat that works on one large image after the other."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h
_LARGE = 1 << 20  # bytes
_ARENAS = 2  # for all threads, such as those that answer requests


def give_memory_back() -> None:
    """Have the memory of freed images go back to the system at once.

    Otherwise glibc, after the first one, keeps blocks of such a size in the heaps of all threads, where they lie
    scattered: the program takes twice the memory, and more and more of it. Other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_ARENA_MAX, _ARENAS)
