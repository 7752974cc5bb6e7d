"""Start the schedulers that the program starts, try to get in without the keys, and print what came of it as JSON.

usage: strangers.py local|slurm|jobs. A program of its own, because workers are processes that import it, and
because it forks: root tries as another user too. ``slurm`` looks at a cluster without SLURM, ``jobs`` starts one.
"""

import json
import os
import re
import signal
import stat
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import psutil
from distributed import Client, LocalCluster
from distributed.security import Security

from deeppicker.config import ClusterConfig
from deeppicker.parallel import dask as cluster
from deeppicker.parallel import slurm as slurm_jobs
from other_user import as_other_user

PATIENCE = 5  # seconds in which a scheduler answers whoever it lets in


def enter(address: str, security: Security | None) -> str:
    """Return whether a scheduler lets somebody in, or how it does not."""
    try:
        Client(address, timeout=PATIENCE, security=security)
    except (OSError, TimeoutError, ValueError) as error:
        return type(error).__name__
    return "connected"


def without_keys(address: str) -> list[str]:
    """Return how a scheduler answers whoever has other keys or none."""
    return [enter(address, Security.temporary()), enter(address.replace("tls", "tcp"), None)]


def keys_in(script: str) -> list[str]:
    """Return the files of keys that a job script names."""
    return re.findall(r"--tls-(?:key|cert|ca-file) (\S+)", script)


def pages() -> list[str]:
    """Return what the doors of this program and its workers show to whoever asks by HTTP: the status, or the error."""
    me, shown = psutil.Process(), set()
    doors = [door for process in (me, *me.children(recursive=True)) for door in process.net_connections("inet")]
    for port in {door.laddr.port for door in doors if door.status == psutil.CONN_LISTEN}:
        for page in ("health", "metrics", "info/main/workers.html", "json/identity.json", "status"):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=PATIENCE)
                shown.add(page)
            except urllib.error.HTTPError as error:
                shown.add(str(error.code))
            except OSError as error:
                shown.add(type(error).__name__)
    return sorted(shown)


class Stranger:
    """Another user, who waits in a process of his own for the names of places to enter and of files to read.

    He is forked before this program has threads, and so must be told later.
    """

    def __init__(self) -> None:
        self._questions, ask = os.pipe()
        reader, answer = os.pipe()
        if os.fork() == 0:
            os.close(ask)
            os.write(answer, as_other_user(self._try_all).encode())
            os._exit(0)
        os.close(answer)
        self._ask, self._reader = ask, reader

    def _try_all(self) -> str:
        with os.fdopen(self._questions) as questions:
            asked = json.loads(questions.read())
        answers = {"open": enter(asked["open"], None), "guarded": without_keys(asked["guarded"]), "keys": []}
        for name in asked["keys"]:
            try:
                Path(name).read_bytes()
                answers["keys"].append("read")
            except OSError as error:
                answers["keys"].append(type(error).__name__)
        return json.dumps(answers)

    def ask(self, **places: object) -> dict[str, object]:
        """Return what comes of these places."""
        os.write(self._ask, json.dumps(places).encode())
        os.close(self._ask)
        with os.fdopen(self._reader) as answer:
            return dict(json.loads(answer.read()))


def visited(config: ClusterConfig, folder: Path) -> dict[str, object]:
    """Return the address of a scheduler, whether it works, and how it answers strangers."""
    stranger = Stranger() if os.geteuid() == 0 else None
    with cluster._connected(config, 1, folder) as client:
        address = client.scheduler.address
        keys = keys_in(client.cluster.job_script()) if config.cluster == "slurm" else []
        (folder / "readable").write_text("")
        found: dict[str, object] = {"address": address, "works": client.submit(pow, 2, 5).result(), "keys": keys}
        found["answers"] = without_keys(address)
        found["pages"] = pages()
        if stranger is not None:
            options = {"n_workers": 0, "host": "127.0.0.1", "dashboard_address": None}
            with LocalCluster(**options) as unguarded:  # which lets him in, so that a refusal means something
                found["stranger"] = stranger.ask(
                    open=unguarded.scheduler_address, guarded=address, keys=[*keys, str(folder / "readable")]
                )
        return found


def local(folder: Path) -> dict[str, object]:
    """Visit a local scheduler."""
    return visited(ClusterConfig(cluster="local"), folder)


def jobs(folder: Path) -> dict[str, object]:
    """Visit a scheduler whose worker is a job of the SLURM that is there."""
    return visited(ClusterConfig(cluster="slurm", jobs=1, job_cores=1, job_memory="2GB", interface="lo"), folder)


def slurm(folder: Path) -> dict[str, object]:
    """Return the address of a scheduler for SLURM jobs, their script, and the modes of the files of keys."""
    for name in ("sbatch", "scancel"):
        (folder / name).write_text("#!/bin/sh\necho Submitted batch job 17\n")
        (folder / name).chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    config = ClusterConfig(cluster="slurm", partition="cpu", interface="lo", job_option=("--qos=normal",), job_gpus=2)
    started = slurm_jobs.slurm_cluster(config, folder, Security.temporary())
    script = started.job_script()
    interrupt = getattr(signal.getsignal(signal.SIGINT), "__name__", None)
    modes = [stat.S_IMODE(Path(path).stat().st_mode) for path in keys_in(script)]
    address = started.scheduler_address
    started.close()
    return {"address": address, "script": script, "modes": modes, "interrupt": str(interrupt)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)  # so that others are kept out by the modes of the files alone
        found = {"local": local, "slurm": slurm, "jobs": jobs}[sys.argv[1]](Path(name))
    print(json.dumps(found), flush=True)
