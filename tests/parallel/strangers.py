"""Start the schedulers that the program starts, try to get in without the keys, and print what came of it as JSON.

usage: strangers.py local|slurm FOLDER. A program of its own, because workers are processes that import it.
"""

import json
import re
import shutil
import stat
import sys
from pathlib import Path

from deeppicker.config import ClusterConfig
from deeppicker.parallel import dask as cluster


def local(folder: Path) -> dict[str, object]:
    """Return the address of a local scheduler, whether it works, and how it answers whoever has other or no keys."""
    from distributed import Client
    from distributed.security import Security

    with cluster._connected(ClusterConfig(cluster="local"), 1, folder) as client:
        address = client.scheduler.address
        answers = []
        for place, security in ((address, Security.temporary()), (address.replace("tls", "tcp"), None)):
            try:
                Client(place, timeout=5, security=security)
                answers.append("connected")
            except (OSError, TimeoutError, ValueError) as error:
                answers.append(type(error).__name__)
        return {"address": address, "works": client.submit(pow, 2, 5).result(), "answers": answers}


def slurm(folder: Path) -> dict[str, object]:
    """Return the address of a scheduler for SLURM jobs, their script, and the modes of the files of keys."""
    from dask_jobqueue.slurm import SLURMCluster
    from distributed.security import Security

    shutil.which = lambda *_, **__: sys.executable  # type: ignore[assignment]
    SLURMCluster.adapt = lambda *_, **__: None
    config = ClusterConfig(cluster="slurm", partition="cpu", interface="lo", job_option=("--qos=normal",))
    started = cluster._slurm(config, folder, Security.temporary())
    script = started.job_script()
    keys = [Path(path) for path in re.findall(r"--tls-(?:key|cert|ca-file) (\S+)", script)]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in keys]
    return {"address": started.scheduler_address, "script": script, "modes": modes}


if __name__ == "__main__":
    found = {"local": local, "slurm": slurm}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(found), flush=True)
