"""Lifecycle hooks and the ways in which containers are stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.integration.node.machine import LOOP, Machine, is_running
from tests.integration.node.test_probes import restarts, shell, web

SLOW_HOOK = "sleep 0.7; echo hooked > /tmp/hook"
SAY_HOOK = "cat /tmp/hook 2>/dev/null"


def hooks(**handlers: Any) -> dict[str, Any]:
    return {"lifecycle": handlers}


def run(script: str) -> dict[str, Any]:
    return {"exec": {"command": ["sh", "-c", script]}}


def test_what_follows_waits_for_the_hook_after_the_start(machine: Machine, tmp_path: Path) -> None:
    volume = {"name": "v", "hostPath": {"path": str(tmp_path)}}
    hook = run("until [ -e /v/go ]; do sleep 0.05; done")
    first = shell(LOOP, volumeMounts=[{"name": "v", "mountPath": "/v"}], **hooks(postStart=hook))
    machine.create("hooked", first, shell(f"date +%s%N; {LOOP}"), volumes=[volume])
    machine.event("hooked", "Started")
    pod = machine.pod("hooked", lambda pod: bool(pod.status.container_statuses), "a status")
    states = [status.state.waiting for status in pod.status.container_statuses]
    assert [state.reason for state in states if state is not None] == ["ContainerCreating"] * 2
    released = time.time_ns()
    (tmp_path / "go").touch()
    machine.pod("hooked", is_running, "running")
    assert int(machine.logged("hooked", "up\n", "?container=c1").split()[0]) > released
    machine.end("hooked", grace=0)


def test_a_container_whose_hook_fails_is_restarted(machine: Machine) -> None:
    failing = shell("trap 'exit 0' TERM; while :; do sleep 0.05; done", **hooks(postStart=run("echo secret; exit 1")))
    machine.create("unhooked", failing)
    machine.pod("unhooked", lambda pod: restarts(pod) >= 1, "a restart")
    machine.told(
        "unhooked",
        ("FailedPostStartHook", "spec.containers{c}", "PostStartHook failed"),
        ("Killing", "spec.containers{c}", "FailedPostStartHook"),
    )
    assert "secret" not in str(machine.events("unhooked"))
    machine.end("unhooked", grace=0)


def test_the_hook_before_the_end_comes_before_the_signal(machine: Machine) -> None:
    trap = f"trap '{SAY_HOOK}; echo told; exit 0' TERM; while :; do sleep 0.05; done"
    machine.create("ends", shell(trap, **hooks(preStop=run(SLOW_HOOK))))
    machine.create("sleeps", shell(trap, **hooks(preStop={"sleep": {"seconds": 1}})))
    machine.create("asked", web(**hooks(preStop={"httpGet": {"port": "web", "path": "/bye"}})))
    machine.create("fails", shell(trap, **hooks(preStop=run("exit 1"))))
    pods = [machine.pod(name, is_running, "running") for name in ("ends", "sleeps", "asked", "fails")]
    paths = [machine.root / "pods" / pod.metadata.uid / "containers" / "c" / "0.log" for pod in pods]
    logs = [path.open() for path in paths]
    begin = time.monotonic()
    machine.delete("sleeps", grace=20)
    machine.gone("sleeps")
    assert 1 < time.monotonic() - begin < 20  # its grace
    machine.end("ends", "fails", grace=20)
    machine.end("asked", grace=3)
    said = [[line.split(" ", 3)[3].strip() for line in log] for log in logs]
    for log in logs:
        log.close()
    assert said[0] == ["hooked", "told"]
    assert said[1] == said[3] == ["told"]
    assert said[2][0].startswith("/bye kube-lifecycle/1.36 ")
    assert machine.event("fails", "FailedPreStopHook") == "PreStopHook failed"
    assert machine.event("ends", "Killing") == "Stopping container c"


def test_a_hook_that_takes_too_long_leaves_two_seconds(machine: Machine) -> None:
    trap = "trap 'echo told; sleep 1; exit 0' TERM; while :; do sleep 0.05; done"
    machine.create("hangs", shell(trap, **hooks(preStop=run("sleep 60"))))
    pod = machine.pod("hangs", is_running, "running")
    with (machine.root / "pods" / pod.metadata.uid / "containers" / "c" / "0.log").open() as log:
        begin = time.monotonic()
        machine.end("hangs", grace=1)
        assert 2 <= time.monotonic() - begin < 60  # the hook's own time
        assert log.read().endswith("told\n")


def test_a_second_deletion_hastens_the_first(machine: Machine) -> None:
    machine.create("deaf", shell("trap : TERM; while :; do sleep 0.05; done"))
    machine.pod("deaf", is_running, "running")
    machine.delete("deaf", grace=60)
    time.sleep(0.3)
    begin = time.monotonic()
    machine.delete("deaf", grace=1)
    machine.gone("deaf")
    assert time.monotonic() - begin < 55


def test_the_signal_that_a_container_asks_for(machine: Machine) -> None:
    script = "trap 'echo usr1; exit 0' USR1; while :; do sleep 0.05; done"
    machine.create("signal", shell(script, lifecycle={"stopSignal": "SIGUSR1"}), os={"name": "linux"})
    pod = machine.pod("signal", is_running, "running")
    with (machine.root / "pods" / pod.metadata.uid / "containers" / "c" / "0.log").open() as log:
        machine.end("signal", grace=10)
        assert log.read().endswith("usr1\n")


def test_a_pod_that_is_deleted_while_its_hook_is_at_work(machine: Machine) -> None:
    machine.create("early", shell(LOOP, **hooks(postStart=run("sleep 100"))))
    machine.event("early", "Started")
    begin = time.monotonic()
    machine.end("early", grace=50)
    assert time.monotonic() - begin < 45


def test_sidecars_end_when_the_work_is_done(machine: Machine) -> None:
    sidecar = shell("trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.05; done", restartPolicy="Always")
    machine.create("work", shell("echo done"), init=[sidecar], restartPolicy="Never")
    pod = machine.pod("work", lambda pod: pod.status.phase == "Succeeded", "success")
    (status,) = pod.status.init_container_statuses
    assert status.state.terminated is not None
    assert machine.log("work", "?container=i") == "up\ntold\n"
    machine.told("work", ("Killing", "spec.initContainers{i}", "Stopping container i"))
    machine.end("work")
