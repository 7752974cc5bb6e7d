"""The same job for many items: here and in processes, whatever becomes of these."""

import math
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deeppicker.errors import DeepPickerError, InputError, OutputError, TransientError, UnreadableError
from deeppicker.parallel import processes as workers
from deeppicker.parallel.jobs import attempt, here, with_retries
from deeppicker.parallel.processes import processes, sensible_workers, usable_cores

LONG = 60.0


class AcceleratorError(RuntimeError):
    """Stands for that of PyTorch."""


def job(item: str | int) -> object:
    """Do what the item says."""
    match item:
        case int():
            return item * item
        case "refuse":
            raise InputError("bad item; give another")
        case "bug":
            raise ValueError("two\nlines")
        case "broken card":
            raise AcceleratorError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`")
        case "broken card of before":
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nFor debugging")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leave":
            os._exit(3)
        case "hang":
            threading.Event().wait()
        case "pid":
            return os.getpid()
        case "nothing":
            return None
    raise AssertionError(item)


def squares_of(pairs: list[tuple[object, object]]) -> dict[object, object]:
    return {item: outcome for item, outcome in pairs if isinstance(item, int)}


def test_processes_give_what_this_process_does():
    alone = list(here(job)(range(20)))
    with processes(2, LONG) as mapper:
        together = list(mapper(job)(range(20)))
    assert alone == [(i, i * i) for i in range(20)]
    assert sorted(together) == alone


def double(item: int) -> int:
    return 2 * item


def test_a_mapping_that_was_left_does_not_answer_for_the_next_one():
    with processes(2, LONG) as mapper:
        left = mapper(job)(["nothing", "hang", "nothing"])
        assert next(left) == ("nothing", None)  # while it is kept, as by a traceback, one process hangs
        assert sorted(mapper(double)(range(5))) == [(i, 2 * i) for i in range(5)]
        left.close()
        assert sorted(mapper(double)(range(5))) == [(i, 2 * i) for i in range(5)]


def test_the_same_processes_do_one_job_after_another():
    with processes(2, LONG) as mapper:
        each = mapper(job)
        pids = {pid for _, pid in each(["pid"] * 8)}
        assert sorted(mapper(double)(range(5))) == [(i, 2 * i) for i in range(5)]
        assert {pid for _, pid in each(["pid"] * 8)} <= pids
        assert isinstance(dict(each(["die"]))["die"], TransientError)
        assert sorted(each([3, 4])) == [(3, 9), (4, 16)]  # also by the new process


def test_a_job_that_returns_nothing_ends_too():
    assert _outcomes(["nothing", 3]) == [None, 9]


def test_a_job_that_refuses_its_item_comes_back_with_the_reason():
    for outcome in (attempt(job, "refuse"), next(iter(_outcomes(["refuse"])))):
        assert isinstance(outcome, InputError)
        assert str(outcome) == "bad item; give another"


def test_a_mistake_in_the_program_costs_one_item_and_is_one_line():
    for outcome in (attempt(job, "bug"), next(iter(_outcomes(["bug"])))):
        assert type(outcome) is DeepPickerError
        assert "ValueError" in str(outcome)
        assert "test_processes.py" in str(outcome)
        assert "\n" not in str(outcome)


def test_no_memory_is_a_reason_to_try_again():
    def greedy(_: object) -> None:
        raise MemoryError

    assert isinstance(attempt(greedy, 1), TransientError)


@pytest.mark.parametrize("deed", ["broken card", "broken card of before"])
def test_a_process_whose_card_fails_is_replaced_and_its_item_may_be_tried_again(deed: str):
    before, lost, after, same = _outcomes(["pid", deed, "pid", "pid"])
    assert before != after == same
    assert isinstance(lost, TransientError)
    assert str(lost).startswith("the graphics card failed (CUDA error: ")
    assert "\n" not in str(lost)


def _outcomes(items: list[object], number: int = 1, limit: float = LONG) -> list[object]:
    with processes(number, limit) as mapper:
        return [outcome for _, outcome in mapper(job)(items)]


@pytest.mark.parametrize(
    ("deed", "how"),
    [("die", "signal SIGKILL); is there enough memory"), ("leave", "exit status 3); what it printed says why")],
)
def test_a_process_that_dies_costs_its_item_only(deed: str, how: str):
    items = [1, deed, 2, 3, deed, 4]
    with processes(2, LONG) as mapper:
        outcomes = list(mapper(job)(items))
    assert squares_of(outcomes) == {1: 1, 2: 4, 3: 9, 4: 16}
    lost = [outcome for item, outcome in outcomes if item == deed]
    assert len(lost) == 2
    assert all(isinstance(outcome, TransientError) and how in str(outcome) for outcome in lost)


@pytest.mark.slow
def test_what_takes_too_long_is_given_up_and_its_process_ended():
    assert _outcomes([1]) == [1]  # what all processes start from runs now, and stays
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with processes(2, 10.0) as mapper:
        outcomes = list(mapper(job)(["hang", 1, 2, "hang", 3]))
    assert squares_of(outcomes) == {1: 1, 2: 4, 3: 9}
    given_up = [outcome for item, outcome in outcomes if item == "hang"]
    assert all(isinstance(outcome, TransientError) and "--time-limit" in str(outcome) for outcome in given_up)
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert psutil.wait_procs(left, timeout=LONG)[1] == []


def test_each_process_is_used_again_and_an_iterator_is_taken_as_it_comes():
    taken = []

    def source():
        for item in ["pid"] * 12:
            taken.append(item)
            yield item

    with processes(2, LONG) as mapper:
        each, pids = mapper(job), []
        for _, pid in each(source()):
            pids.append(pid)
            assert len(taken) <= len(pids) + 2  # no more than the processes can begin
        more = [pid for _, pid in each(["pid"] * 6)]
    assert 1 <= len(set(pids)) <= 2
    assert set(more) <= set(pids)
    assert os.getpid() not in pids


@pytest.mark.slow
def test_processes_killed_at_random_moments_lose_nothing_when_all_is_tried_again():
    chance = random.Random(0)
    done: Counter[object] = Counter()
    with processes(3, LONG) as mapper:
        for item, outcome in with_retries(mapper(job), range(300), retries=100):
            assert outcome == item * item
            done[item] += 1
            if chance.random() < 0.2:
                with suppress(psutil.NoSuchProcess):
                    workers_alive = [p for p in psutil.Process().children(recursive=True) if p.ppid() != os.getpid()]
                    if workers_alive:
                        chance.choice(workers_alive).kill()
    assert done == Counter(range(300))


@pytest.mark.parametrize("error", [TransientError("t"), UnreadableError("u"), OutputError("o")])
def test_what_may_succeed_later_is_tried_again_after_all_others(error: DeepPickerError):
    tries: Counter[int] = Counter()

    def fickle(item: int) -> int:
        tries[item] += 1
        if item == 1 and tries[1] < 3:
            raise error
        return item

    assert list(with_retries(here(fickle), range(3), retries=2)) == [(0, 0), (2, 2), (1, 1)]
    tries.clear()
    outcomes = list(with_retries(here(fickle), range(3), retries=1))
    assert [item for item, _ in outcomes] == [0, 2, 1]
    assert str(outcomes[-1][1]) == str(error)
    assert tries == {0: 1, 1: 2, 2: 1}


def test_what_cannot_succeed_is_not_tried_again():
    tries: Counter[object] = Counter()

    def refusing(item: int) -> int:
        tries[item] += 1
        raise InputError("no")

    assert len(list(with_retries(here(refusing), [1, 2], retries=5))) == 2
    assert tries == {1: 1, 2: 1}


def test_there_are_as_many_workers_as_cores_memory_and_items_allow(monkeypatch: pytest.MonkeyPatch):
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(workers, "usable_cores", lambda: 64)
    memory = psutil.virtual_memory()
    for available, granted, items, expected in (
        (1e12, math.inf, 1000, 64),
        (1e12, math.inf, 5, 5),
        (4.6e9, math.inf, 1000, 3),
        (1e12, 3.1e9, 1000, 2),
        (1e6, math.inf, 1000, 1),
        (1e12, 0, 1000, 1),
    ):
        monkeypatch.setattr(workers.psutil, "virtual_memory", lambda a=available: memory._replace(available=a))
        monkeypatch.setattr(workers, "free_in_cgroups", lambda g=granted: g)
        assert sensible_workers(items) == expected


CHILD = """
import sys, test_processes
from deeppicker.parallel.processes import processes
if __name__ == "__main__":
    with processes(2, 60.0) as mapper:
        for _, pid in mapper(test_processes.job)(["pid", "pid", "hang", "hang"]):
            print(pid, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at the processes in /proc")
def test_processes_end_with_the_program_even_if_that_is_killed(tmp_path: Path):
    script = tmp_path / "child.py"
    script.write_text(CHILD, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        children = {int(program.stdout.readline()) for _ in range(2)}
        program.kill()
    gone, alive = psutil.wait_procs([psutil.Process(pid) for pid in children if psutil.pid_exists(pid)], timeout=20)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []  # ended, if not yet reaped
    assert len(gone) <= 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked from a server on Linux only")
def test_the_server_that_loads_what_processes_need_says_nothing_at_ctrl_c():
    lines = (
        "import os, signal",
        "from multiprocessing import forkserver",
        "from deeppicker.parallel.processes import processes, start_early",
        "start_early()",
        "os.kill(forkserver._forkserver._forkserver_pid, signal.SIGINT)",  # while it loads
        "assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())",
        "with processes(1, 60.0) as mapper: print(list(mapper(abs)([-3])))",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[(-3, 3)]", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, Python itself says this")
def test_a_script_that_would_start_itself_again_in_each_process_is_told_what_to_change(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "from deeppicker.parallel.processes import processes\n"
        "with processes(1, 60.0) as mapper: print(list(mapper(abs)([-3])))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "put what it does below `if __name__ == '__main__':`" in done.stderr
    assert "exit status 1); what it printed says why" in done.stdout
