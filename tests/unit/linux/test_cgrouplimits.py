"""Limits of control groups, as files of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinstack.linux.cgrouplimits import Amounts, make, settings, weight
from twinstack.linux.cgroups import Place


def test_values_in_both_versions() -> None:
    amounts = Amounts(memory=1 << 20, cpu=1500, shares=1024, processes=7)
    assert settings(amounts, unified=False) == {
        "memory": {"memory.limit_in_bytes": "1048576"},
        "cpu": {"cpu.shares": "1024", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"},
        "pids": {"pids.max": "7"},
    }
    assert settings(amounts, unified=True) == {
        "memory": {"memory.max": "1048576"},
        "cpu": {"cpu.weight": "100", "cpu.max": "150000 100000"},
        "pids": {"pids.max": "7"},
    }
    assert settings(Amounts(), unified=True) == {"memory": {}, "cpu": {}, "pids": {}}
    assert settings(Amounts(cpu=1), unified=False)["cpu"]["cpu.cfs_quota_us"] == "1000"  # the kernel takes no less


@pytest.mark.parametrize(("shares", "found"), [(0, 1), (2, 1), (1024, 100), (262144, 10000), (1 << 30, 10000)])
def test_weights(shares: int, found: int) -> None:
    assert weight(shares) == found


def test_a_group_in_the_hierarchies_of_version_1(tmp_path: Path) -> None:
    memory, cpu = tmp_path / "memory", tmp_path / "cpu"
    place = Place(
        (str(memory), str(cpu)),
        "x",
        frozenset({"memory", "cpu"}),
        False,
        by_controller={"memory": str(memory), "cpu": str(cpu)},
    )
    make(place, "pod1", Amounts(memory=4096, shares=2, processes=5))
    assert (memory / "pod1" / "memory.limit_in_bytes").read_text() == "4096"
    assert (cpu / "pod1" / "cpu.shares").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("memory", "cpu")] == []  # no pids here


def test_a_group_of_version_2(tmp_path: Path) -> None:
    """Controllers are handed down from group to group, those that are not yet."""
    own = tmp_path / "twinstack"
    for group, given in ((tmp_path, "memory pids"), (own, "")):
        group.mkdir(exist_ok=True)
        (group / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
        (group / "cgroup.subtree_control").write_text(given)
    limited = frozenset({"memory", "cpu", "pids"})
    place = Place(
        (str(own),), "/twinstack", limited, True, unified=True, by_controller=dict.fromkeys(limited, str(own))
    )
    make(place, "pod1", Amounts(memory=4096, cpu=500, shares=2, processes=5))
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu"
    assert (own / "cgroup.subtree_control").read_text() == "+pids"  # a file keeps the last of them, the kernel all
    written = {path.name: path.read_text() for path in (own / "pod1").iterdir()}
    assert written == {"memory.max": "4096", "cpu.weight": "1", "cpu.max": "50000 100000", "pids.max": "5"}
