"""Limits of memory and CPU, where the machine has control groups for them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.integration.node.machine import LOOP, PREFIX, SOON, Machine, is_running
from tests.integration.node.test_probes import shell

from twinstack.linux import cgroups
from twinstack.node.machine import memory

PLACE = cgroups.place(f"twinstack-{PREFIX}")

pytestmark = pytest.mark.skipif(PLACE.unified or not {"memory", "cpu"} <= PLACE.limited, reason="no groups of v1")

EAT = "python3 -c 'a = []\nwhile True: a.append(bytearray(1 << 20))'"


def groups() -> list[str]:
    """Those that pods of the agent and their containers have, the pods' first."""
    return [
        str(path) for pattern in ("*/", "*/*/") for parent in PLACE.directories for path in Path(parent).glob(pattern)
    ]


def test_too_much_memory(machine: Machine) -> None:
    limits = {"limits": {"memory": "32Mi"}}
    machine.create("eats", shell(EAT, resources=limits), restartPolicy="Never")
    machine.create("child", shell(f"{EAT}; echo $?; exit 3", resources=limits), restartPolicy="Never")
    for name, code in (("eats", 137), ("child", 3)):
        pod = machine.pod(name, lambda pod: pod.status.phase == "Failed", "failure")
        ended = pod.status.container_statuses[0].state.terminated
        assert ended is not None
        assert (ended.exit_code, ended.reason) == (code, "OOMKilled")
    assert "137" in machine.log("child").split()
    machine.end("eats", "child")
    assert groups() == []


def test_a_limit_holds_for_what_is_run_later(machine: Machine) -> None:
    probe = {"exec": {"command": ["sh", "-c", f"{EAT}; echo $?; exit 1"]}, "periodSeconds": 1, "timeoutSeconds": 30}
    container = shell(LOOP, resources={"limits": {"memory": "32Mi", "cpu": "1"}}, readinessProbe=probe)
    machine.create("later", container)
    assert machine.event("later", "Unhealthy", "137")  # the kernel may have taken the shell of the first probe, too
    assert len({os.path.basename(group) for group in groups()}) == 2
    machine.end("later")
    assert groups() == []


def test_too_much_cpu(machine: Machine) -> None:
    machine.create("spins", shell("while :; do :; done", resources={"limits": {"cpu": "200m"}}))
    machine.pod("spins", is_running, "running")
    of_pod, group = (group for group in groups() if os.path.exists(f"{group}/cpu.shares"))
    for path in (of_pod, group):
        values = {name: Path(path, name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.shares")}
        assert values == {"cpu.cfs_quota_us": "20000", "cpu.shares": "204"}
    end = time.monotonic() + SOON
    while not int(dict(line.split() for line in Path(group, "cpu.stat").read_text().splitlines())["nr_throttled"]):
        assert time.monotonic() < end  # as soon as the machine gives it more than that
        time.sleep(0.05)
    assert not [reason for reason, _, _ in machine.events("spins") if reason == "NotEnforced"]
    machine.end("spins", grace=1)


def test_a_pod_as_a_whole(machine: Machine) -> None:
    """What no container is limited to by itself, all are together; who is killed first follows from the class."""
    show = f"cat /proc/self/oom_score_adj; {LOOP}"
    whole = {"requests": {"memory": "16Mi"}, "limits": {"memory": "64Mi", "cpu": "1"}}
    machine.create("whole", shell(show), shell(show, resources={"requests": {"cpu": "100m"}}), resources=whole)
    machine.create("least", shell(show))
    for name in ("whole", "least"):
        machine.pod(name, is_running, "running")
    uid = machine.pod("whole", is_running, "running").metadata.uid
    of_pod = [Path(directory, f"pod{uid}") for directory in PLACE.by_controller.values()]
    values = {
        name: (path / name).read_text().strip()
        for name in ("memory.limit_in_bytes", "cpu.cfs_quota_us", "cpu.shares")
        for path in of_pod
        if (path / name).exists()
    }
    assert values == {"memory.limit_in_bytes": str(64 << 20), "cpu.cfs_quota_us": "100000", "cpu.shares": "1024"}
    score = min(999, 1000 - 1000 * (8 << 20) // memory())
    assert machine.log("whole", "?container=c1").splitlines()[0] == str(score)
    assert machine.log("least").splitlines()[0] == "1000"
    machine.end("whole", "least")
    assert groups() == []


def test_a_limit_that_cannot_be(machine: Machine) -> None:
    """Too little memory for any program: the container does not start, and says why."""
    machine.create("tiny", shell("true", resources={"limits": {"memory": "4Ki"}}), restartPolicy="Never")
    pod = machine.pod("tiny", lambda pod: pod.status.phase == "Failed", "failure")
    ended = pod.status.container_statuses[0].state.terminated
    assert ended is not None
    assert ended.reason in ("OOMKilled", "StartError")
    machine.end("tiny", grace=0)
