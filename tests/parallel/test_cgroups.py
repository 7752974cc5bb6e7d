"""Limits of memory that batch systems and containers set."""

from __future__ import annotations

import math
from pathlib import Path

from deeppicker.parallel.cgroups import free_in_cgroups

GB = 10**9
JOB = "slurm/uid_0/job_7/step_0"


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def group(folder: str, limit: object, used: int, cached: int = 0) -> dict[str, str]:
    stat = f"anon {used - cached}\ninactive_file {cached}\nactive_file 0"
    files = {"memory.max": limit, "memory.current": used, "memory.stat": stat}
    return {f"sys/fs/cgroup/{folder}/{name}": f"{content}\n" for name, content in files.items()}


def old_group(folder: str, limit: int, used: int, cached: int = 0) -> dict[str, str]:
    stat = f"cache {cached}\ntotal_inactive_file {cached // 2}\ntotal_active_file {cached // 2}"
    files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}
    return {f"sys/fs/cgroup/memory/{folder}/{name}": f"{content}\n" for name, content in files.items()}


def test_the_limit_of_a_group_or_of_one_above_it_counts(tmp_path: Path):
    write(tmp_path, {"proc/self/cgroup": f"0::/{JOB}\n"})
    assert free_in_cgroups(tmp_path) == math.inf
    write(tmp_path, group(JOB, "max", GB) | group("slurm", 9 * GB, 2 * GB) | group("slurm/uid_0/job_7", 4 * GB, GB))
    assert free_in_cgroups(tmp_path) == 3 * GB
    write(tmp_path, group("slurm", 9 * GB, 8 * GB))
    assert free_in_cgroups(tmp_path) == GB


def test_groups_of_the_first_version_count_too(tmp_path: Path):
    lines = f"12:cpu,cpuacct:/\n4:memory:/{JOB}\n0::/system.slice\n"
    write(tmp_path, {"proc/self/cgroup": lines} | old_group(JOB, 4 * GB, 2 * GB) | old_group("", 2**63 - 4096, 90 * GB))
    assert free_in_cgroups(tmp_path) == 2 * GB


def test_a_container_sees_its_own_group_as_the_uppermost(tmp_path: Path):
    write(tmp_path, {"proc/self/cgroup": "4:memory:/docker/0123\n0::/../.."} | old_group("", 4 * GB, GB))
    assert free_in_cgroups(tmp_path) == 3 * GB


def test_files_that_were_read_do_not_count_as_used(tmp_path: Path):
    write(tmp_path, {"proc/self/cgroup": f"0::/{JOB}\n"} | group(JOB, 4 * GB, 4 * GB, cached=3 * GB))
    assert free_in_cgroups(tmp_path) == 3 * GB
    write(tmp_path, {"proc/self/cgroup": f"4:memory:/{JOB}\n"} | old_group(JOB, 4 * GB, 4 * GB, cached=2 * GB))
    assert free_in_cgroups(tmp_path) == 2 * GB


def test_a_full_group_leaves_nothing(tmp_path: Path):
    write(tmp_path, {"proc/self/cgroup": f"0::/{JOB}\n"} | group(JOB, GB, 2 * GB))
    assert free_in_cgroups(tmp_path) == 0


def test_a_system_without_groups_sets_no_limit(tmp_path: Path):
    assert free_in_cgroups(tmp_path) == math.inf
