"""Limits of memory and CPU, where the machine has control groups for them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.node.machine import LOOP, NODE, PREFIX, SOON, Machine, is_running
from tests.integration.node.test_probes import shell

from twinstack.api.core import Pod
from twinstack.api.kinds import NODES, PODS
from twinstack.api.scalars import quantity
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


def resized(machine: Machine, name: str, **wanted: dict[str, Any]) -> None:
    """`wanted`: resources by container."""
    changes = {"spec": {"containers": [{"name": each, "resources": wanted[each]} for each in wanted]}}
    machine.do(lambda client: client.patch(PODS, name, "default", changes, subresource="resize"))


def amounts(cpu: str, memory: str) -> dict[str, dict[str, str]]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def has(name: str, wanted: dict[str, dict[str, str]], restarts: int = 0) -> Callable[[Pod], bool]:
    """Whether a container runs with these resources, and nothing of a resize is left to do."""

    def look(pod: Pod) -> bool:
        status = next((each for each in pod.status.container_statuses if each.name == name), None)
        if status is None or status.state.running is None or status.restart_count != restarts:
            return False
        left = [each for each in pod.status.conditions if each.type.startswith("PodResize")]
        return not left and status.resources == wanted and status.allocated_resources == wanted["requests"]

    return look


def limits_of(pod: Pod, name: str) -> tuple[str, str]:
    """Of memory and of CPU, as its control groups have them."""
    status = next(each for each in pod.status.container_statuses if each.name == name)
    identity = str(status.container_id).removeprefix("twinstack://")
    found = [path for parent in PLACE.directories for path in Path(parent).rglob(identity)]
    files = ("memory.limit_in_bytes", "cpu.cfs_quota_us")
    memory, quota = (next(path / file for path in found if (path / file).exists()) for file in files)
    return memory.read_text().strip(), quota.read_text().strip()


def memory_of(pod: Pod) -> int:
    """That a pod as a whole may have, as its control group has it."""
    files = (Path(parent, f"pod{pod.metadata.uid}", "memory.limit_in_bytes") for parent in PLACE.directories)
    return int(next(file for file in files if file.exists()).read_text())


def test_resources_change_while_it_runs(machine: Machine) -> None:
    small, large = amounts("100m", "64Mi"), amounts("200m", "128Mi")
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    plain = shell(LOOP, resources=small)
    machine.create("sized", plain, plain | {"name": "anew", "resizePolicy": policy})
    machine.pod("sized", is_running, "running")
    resized(machine, "sized", c=large, anew=amounts("200m", "64Mi"))
    machine.pod("sized", has("anew", amounts("200m", "64Mi")), "more CPU")
    pod = machine.pod("sized", has("c", large), "resized")
    assert (limits_of(pod, "c"), limits_of(pod, "anew")) == (("134217728", "20000"), ("67108864", "20000"))
    assert pod.status.observed_generation == 2
    assert memory_of(pod) == (128 + 64) << 20
    machine.kill_agent(signal.SIGKILL)
    machine.start_agent()
    resized(machine, "sized", anew=large)
    pod = machine.pod("sized", has("anew", large, restarts=1), "made anew")
    assert has("c", large)(pod)
    assert limits_of(pod, "anew") == ("134217728", "20000")
    assert "anew" in machine.event("sized", "Killing", "Container anew resize requires restart")
    machine.event("sized", "ResizeStarted", '"generation":3}')
    machine.event("sized", "ResizeCompleted", '"generation":3}')
    machine.end("sized")
    assert not [group for group in groups() if pod.metadata.uid in group]


def test_resources_wait_for_room(machine: Machine) -> None:
    node = machine.do(lambda client: client.get(NODES, NODE))
    cpus = int(quantity(node.status.allocatable["cpu"]) * 1000)
    machine.create("other", shell(LOOP, resources={"requests": {"cpu": f"{cpus - 200}m"}}))
    told = "trap 'exit 0' TERM; while :; do echo has $(cat /d/cpu); sleep 0.2; done"
    mounts = [{"name": "d", "mountPath": "/d"}]
    field = {"containerName": "c", "resource": "requests.cpu", "divisor": "1m"}
    volume = {"name": "d", "downwardAPI": {"items": [{"path": "cpu", "resourceFieldRef": field}]}}
    small = {"requests": {"cpu": "100m"}}
    machine.create("waits", shell(told, resources=small, volumeMounts=mounts), volumes=[volume])
    for name in ("other", "waits"):
        machine.pod(name, is_running, "running")
    resized(machine, "waits", c={"requests": {"cpu": "300m"}})

    def is_deferred(pod: Pod) -> bool:
        return any((each.type, each.reason) == ("PodResizePending", "Deferred") for each in pod.status.conditions)

    pod = machine.pod("waits", is_deferred, "deferred")
    told = f"Node didn't have enough resource: cpu, requested: 300, used: {cpus - 200}, capacity: {cpus}"
    assert told in [each.message for each in pod.status.conditions]
    assert pod.status.container_statuses[0].allocated_resources == {"cpu": "100m"}
    machine.end("other", grace=0)
    pod = machine.pod(
        "waits", lambda pod: pod.status.container_statuses[0].allocated_resources == {"cpu": "300m"}, "room"
    )
    assert "has 100" in machine.logged("waits", "has 300")
    machine.end("waits")


def test_memory_is_not_taken_from_who_uses_it(machine: Machine) -> None:
    hold = "python3 -c 'a = bytearray(40 << 20); print(1, flush=True); import time; time.sleep(600)'"
    machine.create("holds", shell(hold, resources=amounts("100m", "128Mi")))
    machine.logged("holds", "1")
    resized(machine, "holds", c=amounts("100m", "16Mi"))
    message = "cannot decrease memory limits: [attempting to set pod memory limit (16777216) below current usage"
    failed = ("PodResizeInProgress", "Error")
    pod = machine.pod("holds", lambda pod: failed in [(c.type, c.reason) for c in pod.status.conditions], "failure")
    assert [each for each in pod.status.conditions if each.message.startswith(message)]
    resized(machine, "holds", c=amounts("100m", "256Mi"))
    pod = machine.pod("holds", has("c", amounts("100m", "256Mi")), "more memory")
    assert limits_of(pod, "c")[0] == str(256 << 20)
    machine.end("holds", grace=0)


def test_what_a_pod_has_as_a_whole_changes(machine: Machine) -> None:
    machine.create("whole", shell(LOOP, resources={}), resources=amounts("100m", "64Mi"))
    machine.pod("whole", is_running, "running")
    wanted = amounts("300m", "128Mi")
    patch = {"spec": {"resources": wanted}}
    machine.do(lambda client: client.patch(PODS, "whole", "default", patch, subresource="resize"))

    def has_it(pod: Pod) -> bool:
        return (pod.status.resources, pod.status.allocated_resources) == (wanted, wanted["requests"])

    pod = machine.pod("whole", has_it, "resized")
    assert limits_of(pod, "c") == ("134217728", "30000")  # what it does not limit itself
    assert memory_of(pod) == 128 << 20
    assert pod.status.container_statuses[0].restart_count == 0
    machine.end("whole")
