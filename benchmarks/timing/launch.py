"""Run a command and write the cost of all its processes together: python launch.py RESULT COMMAND...

This is a small process of its own for two reasons. On Linux, the peak memory of a process includes that of its parent
at the start, and a benchmark with PyTorch in it holds much. And orphaned processes of a command become children of this
one, so their time counts too.
"""

import ctypes
import json
import os
import resource
import sys
import time

_SET_CHILD_SUBREAPER = 36  # of Linux; see prctl(2)


def main(result: str, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)
    start = time.perf_counter()
    started = os.posix_spawnp(command[0], command, os.environ)
    _, status = os.waitpid(started, 0)
    wall = time.perf_counter() - start
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "megabytes": usage.ru_maxrss * 1024 / 1e6}
    with open(result, "w") as file:  # noqa: PTH123 (an import that costs)
        json.dump(taken, file)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
