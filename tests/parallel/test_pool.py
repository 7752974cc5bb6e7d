"""The same run on this computer, on a Dask cluster of separate processes, in shards and on a real SLURM."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import scenes
from deeppicker.cli.main import main
from deeppicker.config import ClusterConfig, WorkConfig
from deeppicker.core import MicrographEntry
from deeppicker.errors import InputError
from deeppicker.formats import read_picks
from deeppicker.networks.model import save_model
from deeppicker.parallel import dask as cluster
from deeppicker.parallel import slurm as jobs
from deeppicker.parallel.pool import open_pool
from deeppicker.parallel.processes import WORKER
from deeppicker.runs.run import part
from scenes import DIAMETER, files_of_run

NUMBER = 24
ROOT = Path(__file__).parents[2]
SLURM = ROOT.parent / "shared" / "tools" / "one-node-slurm.sh"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with micrographs, a model, and what one process picks of them."""
    folder = tmp_path_factory.mktemp("project")
    for seed in range(NUMBER):
        image = scenes.scene(seed, faintest=0.05).micrograph.image
        scenes.write_mrc(folder / "micrographs" / f"{seed:02d}.mrc", image)
    save_model(scenes.uncertain(), folder / "model.safetensors")
    done = subprocess.run(command("whole", "--workers", "0"), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def command(output: str, *words: str) -> list[str]:
    start = [sys.executable, "-m", "deeppicker", "pick", "micrographs", "--output", output, "--diameter", str(DIAMETER)]
    return [*start, "--model", "model.safetensors", *words]


def run(project: Path, output: str, *words: str, status: int = 0) -> str:
    """Pick, and return what was printed."""
    shutil.rmtree(project / output, ignore_errors=True)
    done = subprocess.run(command(output, *words), cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@contextmanager
def dask(*words: str, ready: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a part of a Dask cluster; yield it with the line that says that it is ready."""
    program = [sys.executable, "-m", "dask", *words]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if ready in line)
        yield process, line
    finally:
        process.kill()
        process.communicate()


@contextmanager
def dask_cluster() -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """Yield the address of a scheduler with two workers, and the three processes."""
    with dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", ready="Scheduler at:") as (
        first,
        line,
    ):
        address = line.split()[-1]
        worker = ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        with dask(*worker, ready="Registered to") as (one, _), dask(*worker, ready="Registered to") as (two, _):
            yield address, [first, one, two]


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--workers", "1"], ["--workers", "2"], ["--cluster", "local", "--workers", "2"]])
def test_the_result_does_not_depend_on_who_does_the_work(project: Path, words: list[str]):
    run(project, "other", *words)
    assert files_of_run(project / "other") == files_of_run(project / "whole")


@pytest.mark.slow
def test_a_dask_cluster_of_separate_processes_gives_the_same_result(project: Path):
    with dask_cluster() as (address, _):
        run(project, "other", "--cluster", address)
    assert files_of_run(project / "other") == files_of_run(project / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "status"), [(1, 0), (0, 2)], ids=["worker", "scheduler"])
def test_a_lost_worker_costs_nothing_and_a_lost_scheduler_only_time(project: Path, victim: int, status: int):
    shutil.rmtree(project / "other", ignore_errors=True)
    with dask_cluster() as (address, processes):
        words = command("other", "--cluster", address, "--json")
        picking = subprocess.Popen(words, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert picking.stdout is not None
        seen = 0
        while seen < 3:
            seen += json.loads(picking.stdout.readline())["event"] == "micrograph"
        processes[victim].kill()
        _, errors = picking.communicate(timeout=200)
    assert picking.returncode == status, errors
    assert "Traceback" not in errors
    if status:
        assert "scheduler was lost; repeat the command to continue" in errors
        done = subprocess.run(
            command("other", "--workers", "0"), cwd=project, capture_output=True, text=True, check=True
        )
        assert "(0 were done before)" not in done.stdout
    assert files_of_run(project / "other") == files_of_run(project / "whole")


def test_an_address_without_a_scheduler_is_one_line(project: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(cluster, "_PATIENCE", 1)
    monkeypatch.chdir(project)
    words = ["--diameter", "72", "--model", "model.safetensors", "--cluster", "tcp://127.0.0.1:9"]
    assert main(["pick", "micrographs", "--output", "none", *words]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "tcp://127.0.0.1:9 cannot be reached" in shown


def test_slurm_is_refused_where_there_is_none(project: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(jobs.shutil, "which", lambda _: None)
    monkeypatch.chdir(project)
    assert main(["pick", "micrographs", "--output", "none", "--cluster", "slurm"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "needs the command sbatch" in shown


def number_of_this_worker(_: object) -> str:
    return os.environ[WORKER]


@pytest.mark.parametrize(
    ("name", "number"), [(1, "1"), ("SLURMCluster-0-3", "3"), ("tls://10.0.0.1:41234", "41234"), ("mine", None)]
)
def test_a_worker_of_a_cluster_has_a_number_by_which_it_is_dealt_a_card(
    name: str | int, number: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(WORKER, "")
    monkeypatch.setattr("distributed.get_worker", lambda: SimpleNamespace(name=name))
    assert cluster._limited(number_of_this_worker, None, 60.0) == (number or str(os.getpid()))


def test_a_local_cluster_has_no_more_workers_than_the_cards_have_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    started: list[int] = []

    def connected(_config: ClusterConfig, workers: int, _output: Path) -> object:
        started.append(workers)
        raise InputError("enough")

    monkeypatch.setattr(cluster, "_connected", connected)
    monkeypatch.setattr(cluster, "sensible_workers", lambda items: min(items, 16))
    for number, most in ((None, 1), (3, 1)):
        pool = open_pool(WorkConfig(workers=number), ClusterConfig(cluster="local"), 9, tmp_path, print, most=most)
        with pytest.raises(InputError, match="enough"), pool:
            pass
    assert started == [1, 3]


def test_a_cluster_that_is_none_is_refused():
    with pytest.raises(InputError, match="--cluster pbs is not a cluster; choose local, slurm or an address"):
        ClusterConfig(cluster="pbs")


@pytest.mark.slow
def test_shards_together_give_what_one_run_gives_and_the_last_one_chooses_the_threshold(project: Path):
    shown = run(project, "other", "--shard", "2/3", "--workers", "0")
    assert f"{NUMBER - NUMBER // 3} of all {NUMBER} micrographs are not finished yet" in shown
    assert json.loads((project / "other" / "run.json").read_text())["threshold"] is None
    both = [
        subprocess.Popen(command("other", "--shard", shard, "--workers", "0"), cwd=project, stdout=subprocess.DEVNULL)
        for shard in ("1/3", "3/3")
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert files_of_run(project / "other") == files_of_run(project / "whole")


def test_shards_are_parts_that_make_up_the_whole():
    entries = [MicrographEntry(f"{i}.mrc", Path(f"{i}.mrc")) for i in range(7)]
    for number in range(1, 10):
        parts = [part(entries, f"{index}/{number}") for index in range(1, number + 1)]
        assert sorted(entry.name for one in parts for entry in one) == [entry.name for entry in entries]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert part(entries, None) == entries


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_shard_that_does_not_exist_is_refused(shard: str):
    with pytest.raises(InputError, match=r"--shard .* is not a part; give two numbers such as 3/16"):
        part([], shard)


def test_a_shard_may_not_delete_what_others_pick(project: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(project)
    assert main(["pick", "micrographs", "--output", "whole", "--shard", "1/2", "--overwrite"]) == 2
    assert "--overwrite would delete the picks of other shards" in capsys.readouterr().err


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real SLURM on this machine."""
    if not SLURM.exists():
        pytest.skip(f"needs a script that starts SLURM, {SLURM.name}")
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        pytest.skip("installing and starting SLURM needs root, and Debian's packages")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SLURM, "start", folder], capture_output=True, text=True, check=False)
    if started.returncode:
        pytest.skip(f"SLURM does not start here: {(started.stderr or started.stdout).strip()[-200:]}")
    yield
    subprocess.run([SLURM, "stop", folder], check=False)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_slurm_jobs_give_the_same_result(project: Path):
    job = ["--cluster", "slurm", "--jobs", "1", "--job-cores", "2", "--job-memory", "3GB", "--job-time", "00:10:00"]
    run(project, "other", *job)
    assert files_of_run(project / "other") == files_of_run(project / "whole")
    assert list((project / "other" / "slurm").glob("*.out"))


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_a_slurm_job_array_of_shards_gives_the_same_result(project: Path):
    shutil.rmtree(project / "other", ignore_errors=True)
    words = " ".join(command("other", "--shard", "$SLURM_ARRAY_TASK_ID/4", "--workers", "0"))
    submit = ["sbatch", "--wait", "--array", "1-4", "--output", "array-%a.out", "--wrap", words]
    done = subprocess.run(submit, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read_picks(project / "other" / "autopick.star")) == NUMBER
    assert files_of_run(project / "other") == files_of_run(project / "whole")
