"""Up and down: several clusters side by side, again without effect, and no trace afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.cluster import Cluster, host_network, until

from twinstack.linux import mounts, processes


def test_a_cluster_leaves_no_trace(new_cluster: Callable[[str], Cluster], tmp_path: Path) -> None:
    before = host_network()
    cluster = new_cluster("trace")
    cluster.up()
    cluster.run_hello()
    assert host_network() == before
    started = time.monotonic()
    cluster.down()
    took = time.monotonic() - started
    assert took <= 2.0
    assert host_network() == before
    assert cluster.paths.namespaces() == []
    assert not cluster.paths.run.exists()
    assert list(tmp_path.iterdir()) == []
    assert [point for point, _ in mounts.mounted() if cluster.name in point] == []
    assert processes_that_name(str(tmp_path)) == []
    assert [name for name in cgroup_names() if cluster.name in name] == []


def test_clusters_live_side_by_side(new_cluster: Callable[[str], Cluster]) -> None:
    one, two = new_cluster("one"), new_cluster("two")
    one.up("--nodes", "1")
    two.up("--nodes", "1", "--ip-family", "ipv6")
    reports = [one.status(), two.status()]
    assert all(report["healthy"] for report in reports)
    assert reports[0]["apiPort"] != reports[1]["apiPort"]
    one.kubectl("create", "configmap", "only-here")
    assert "only-here" not in two.kubectl("get", "configmaps")
    one.down()
    assert two.status()["healthy"]
    assert "is removed" in two.twinstack("down", "--all")
    assert "There is no cluster" in two.down()


def test_up_again_changes_nothing_and_completes_what_is_missing(new_cluster: Callable[[str], Cluster]) -> None:
    cluster = new_cluster("again")
    first = cluster.up("--nodes", "1")
    assert f"export KUBECONFIG={cluster.paths.kubeconfig}" in first
    assert (cluster.paths.root.stat().st_mode & 0o777, cluster.paths.kubeconfig.stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    pids = part_ids(cluster)
    assert "is running" in cluster.up()
    assert part_ids(cluster) == pids
    refused = cluster.up("--nodes", "3", "--ip-family", "ipv4", expect=1)
    assert "Services in 10.96.0.0/16 (they are in 10.96.0.0/16,fd00:10:96::/112)" in refused
    assert part_ids(cluster) == pids
    assert f"twinstack down --name {cluster.name}" in refused
    os.kill(supervisor(cluster), 9)
    until(lambda: not cluster.status()["supervisor"], "the supervisor is gone")
    assert "starting" in cluster.up()
    assert part_ids(cluster) == pids
    assert cluster.status()["healthy"]


def test_help_for_those_who_ask_for_what_is_not_there(new_cluster: Callable[[str], Cluster]) -> None:
    cluster = new_cluster("none")
    assert f"`twinstack up --name {cluster.name}` starts it" in cluster.twinstack(
        "kubeconfig", "--name", cluster.name, expect=1
    )
    assert "contradicts the CIDR blocks" in cluster.up("--ip-family", "ipv4", "--pod-cidr", "fd00::/56", expect=1)


def part_ids(cluster: Cluster) -> dict[str, Any]:
    return {part["name"]: part["pid"] for part in cluster.status()["parts"]}


def supervisor(cluster: Cluster) -> int:
    (pid,) = [pid for pid, words in command_lines() if words[-3:] == ["supervise", "--name", cluster.name]]
    return pid


def command_lines() -> list[tuple[int, list[str]]]:
    """Every process that runs, zombies excepted."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            words = Path(f"/proc/{entry}/cmdline").read_text(errors="replace").split("\0")[:-1]
        except (OSError, ValueError):
            continue
        if entry.isdecimal() and processes.identify(int(entry)) is not None:
            found.append((int(entry), words))
    return found


def processes_that_name(text: str) -> list[tuple[int, list[str]]]:
    """Processes with `text` in their command line or, children of such included, their environment."""
    found = []
    for pid, words in command_lines():
        try:
            environment = Path(f"/proc/{pid}/environ").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if pid != os.getpid() and (any(text in word for word in words) or f"TWINSTACK_HOME={text}" in environment):
            found.append((pid, words))
    return found


def cgroup_names() -> set[str]:
    """The paths of all control groups."""
    return {directory for directory, _, _ in os.walk("/sys/fs/cgroup")}
