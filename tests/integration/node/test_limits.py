"""Limits of memory and CPU, where the machine has control groups for them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.integration.node.machine import LOOP, PREFIX, SOON, Machine, is_running
from tests.integration.node.test_probes import shell

from twinstack.linux import cgroups

PLACE = cgroups.place(f"twinstack-{PREFIX}")

pytestmark = pytest.mark.skipif(PLACE.unified or not {"memory", "cpu"} <= PLACE.limited, reason="no groups of v1")

EAT = "python3 -c 'a = []\nwhile True: a.append(bytearray(1 << 20))'"


def groups() -> list[str]:
    """Those that containers of the agent have."""
    found = [f"{parent}/{name}" for parent in PLACE.directories if os.path.isdir(parent) for name in os.listdir(parent)]
    return [path for path in found if os.path.isdir(path)]


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
    assert len({os.path.basename(group) for group in groups()}) == 1
    machine.end("later")
    assert groups() == []


def test_too_much_cpu(machine: Machine) -> None:
    machine.create("spins", shell("while :; do :; done", resources={"limits": {"cpu": "200m"}}))
    machine.pod("spins", is_running, "running")
    group = next(group for group in groups() if os.path.exists(f"{group}/cpu.shares"))
    values = {name: Path(group, name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.shares")}
    assert values == {"cpu.cfs_quota_us": "20000", "cpu.shares": "204"}
    end = time.monotonic() + SOON
    while not int(dict(line.split() for line in Path(group, "cpu.stat").read_text().splitlines())["nr_throttled"]):
        assert time.monotonic() < end  # as soon as the machine gives it more than that
        time.sleep(0.05)
    assert not [reason for reason, _, _ in machine.events("spins") if reason == "NotEnforced"]
    machine.end("spins", grace=1)


def test_a_limit_that_cannot_be(machine: Machine) -> None:
    """Too little memory for any program: the container does not start, and says why."""
    machine.create("tiny", shell("true", resources={"limits": {"memory": "4Ki"}}), restartPolicy="Never")
    pod = machine.pod("tiny", lambda pod: pod.status.phase == "Failed", "failure")
    ended = pod.status.container_statuses[0].state.terminated
    assert ended is not None
    assert ended.reason in ("OOMKilled", "StartError")
    machine.end("tiny", grace=0)
