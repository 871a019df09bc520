"""Probes of real containers, by a real agent."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.node.machine import LOOP, Machine, is_running

from twinstack.api.core import Pod
from twinstack.api.kinds import PODS

PATIENT = {"timeoutSeconds": 30}  # for a probe whose time is not what is tested
# Answers every request with the contents of /tmp/status, on both families; logs the user agent.
SERVER = """
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, self.headers["User-Agent"], self.headers["Host"], self.headers.get("X-A"), flush=True)
        status = open("/tmp/status").read()
        self.send_response(int(status))
        self.send_header("Location", "http://example.com/")
        self.end_headers()
    def log_message(self, *a): pass
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6
open("/tmp/status", "w").write(os.environ.get("STATUS", "200"))
Server(("::", 8080), Handler).serve_forever()
"""


def web(status: str = "200", **more: Any) -> dict[str, Any]:
    return {
        "command": ["python3", "-c", SERVER],
        "ports": [{"name": "web", "containerPort": 8080}],
        "env": [{"name": "STATUS", "value": status}],
        **more,
    }


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"command": ["sh", "-c", script], **more}


def gated(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """For a container that shows a directory of the test at /gate, and for its pod."""
    mount = {"name": "gate", "mountPath": "/gate"}
    return {"volumeMounts": [mount]}, {"volumes": [{"name": "gate", "hostPath": {"path": str(directory)}}]}


def restarts(pod: Pod) -> int:
    return sum(status.restart_count for status in pod.status.container_statuses)


def listens(pod: Pod) -> bool:
    """Whether it has been seen on all its addresses; the last that a status tells."""
    told = [c.status for c in pod.status.conditions if c.type.startswith("twinstack.io/Listening")]
    return told == ["True"] * len(pod.status.pod_ips)


def test_a_pod_is_ready_once_it_answers(machine: Machine) -> None:
    get = {"path": "/ok?a=1", "port": "web", "httpHeaders": [{"name": "X-A", "value": "b"}]}
    machine.create("answers", web(readinessProbe={"httpGet": get, "periodSeconds": 300, "timeoutSeconds": 30}))
    pod = machine.pod("answers", is_running, "ready")  # long before a whole period
    assert pod.status.container_statuses[0].started is True
    assert machine.log("answers").splitlines()[0] == f"/ok?a=1 kube-probe/1.36 {pod.status.pod_ip}:8080 b"
    assert not [reason for reason, _, _ in machine.events("answers") if reason == "Unhealthy"]
    machine.end("answers", grace=0)


def test_a_pod_that_answers_wrongly_is_not_ready(machine: Machine) -> None:
    probe = {"httpGet": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30}
    machine.create("wrong", web("503", readinessProbe=probe))
    machine.create("away", web("302", readinessProbe=probe))
    machine.create("closed", shell(LOOP, readinessProbe={"tcpSocket": {"port": 81}, "periodSeconds": 1}))
    machine.create("nameless", shell(LOOP, readinessProbe={"tcpSocket": {"port": "x"}, "periodSeconds": 1}))
    assert (
        machine.event("wrong", "Unhealthy", "503") == "Readiness probe failed: HTTP probe failed with statuscode: 503"
    )
    assert (
        machine.event("away", "ProbeWarning") == "Readiness probe warning: Probe terminated redirects, Response body: "
    )
    machine.pod("away", is_running, "ready all the same")
    address = machine.pod("closed", lambda pod: bool(pod.status.pod_ip), "address").status.pod_ip
    text = f"Readiness probe failed: dial tcp {address}:81: connect: connection refused"
    assert machine.event("closed", "Unhealthy") == text
    text = 'Readiness probe errored and resulted in unknown state: strconv.Atoi: parsing "x": invalid syntax'
    assert machine.event("nameless", "Unhealthy") == text
    pod = machine.pod("wrong", lambda pod: pod.status.phase == "Running", "running")
    conditions = {c.type: (c.status, c.reason, c.message) for c in pod.status.conditions}
    unready = ("False", "ContainersNotReady", "containers with unready status: [c]")
    assert conditions["Ready"] == conditions["ContainersReady"] == unready
    assert (pod.status.container_statuses[0].started, restarts(pod)) == (True, 0)
    machine.end("wrong", "away", "closed", "nameless", grace=0)


def test_readiness_comes_and_goes(machine: Machine, tmp_path: Path) -> None:
    gate, volumes = gated(tmp_path)
    probe = {"exec": {"command": ["test", "-e", "/gate/ok"]}, "periodSeconds": 1, "failureThreshold": 1}
    machine.create("comes", shell(LOOP, readinessProbe=probe | PATIENT, **gate), **volumes)
    pod = machine.pod("comes", lambda pod: pod.status.phase == "Running", "running")
    assert not is_running(pod)
    (tmp_path / "ok").touch()
    machine.pod("comes", is_running, "ready")
    (tmp_path / "ok").unlink()
    machine.pod("comes", lambda pod: not is_running(pod), "unready")
    assert machine.event("comes", "Unhealthy") == "Readiness probe failed: "
    machine.end("comes", grace=0)


def test_a_container_that_is_not_alive_is_restarted(machine: Machine) -> None:
    probe = {
        "exec": {"command": ["sh", "-c", "echo no; echo good >&2; exit 3"]},
        "periodSeconds": 1,
        "failureThreshold": 2,
        "terminationGracePeriodSeconds": 1,
        **PATIENT,
    }
    machine.create(
        "sick",
        shell(
            "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done",
            livenessProbe=probe | {"terminationGracePeriodSeconds": 30},
        ),
    )
    machine.create("never", shell("sleep 100", livenessProbe=probe), restartPolicy="Never")
    machine.create("failing", shell(LOOP, livenessProbe=probe), restartPolicy="OnFailure")
    pod = machine.pod("sick", lambda pod: restarts(pod) >= 1, "a restart")
    ended = pod.status.container_statuses[0].last_state.terminated
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (0, "Completed")
    assert machine.log("sick", "?previous=true") == "up\nbye\n"
    machine.told(
        "sick",
        ("Unhealthy", "spec.containers{c}", "Liveness probe failed: no\ngood\n"),
        ("Killing", "spec.containers{c}", "Container c failed liveness probe, will be restarted"),
    )
    assert machine.event("never", "Killing") == "Container c failed liveness probe"
    pod = machine.pod("never", lambda pod: pod.status.phase == "Failed", "failure")
    ended = pod.status.container_statuses[0].state.terminated
    assert ended is not None
    assert ended.exit_code == 137
    # It ends well, and is started again all the same: it was its probe that failed.
    machine.pod("failing", lambda pod: restarts(pod) >= 1, "a restart")
    machine.end("sick", "never", "failing", grace=0)


def test_startup_holds_the_others_back(machine: Machine, tmp_path: Path) -> None:
    gate, volumes = gated(tmp_path)
    startup = {"exec": {"command": ["test", "-e", "/gate/up"]}, "periodSeconds": 1, "failureThreshold": 60, **PATIENT}
    liveness = startup | {"failureThreshold": 1}
    machine.create("slow", shell(LOOP, startupProbe=startup, livenessProbe=liveness, **gate), **volumes)
    late = startup | {"failureThreshold": 2, "terminationGracePeriodSeconds": 1}
    machine.create("late", shell(LOOP, startupProbe=late))
    pod = machine.pod("slow", lambda pod: pod.status.phase == "Running", "running")
    status = pod.status.container_statuses[0]
    assert (status.started, status.ready) == (False, False)
    machine.pod("late", lambda pod: restarts(pod) >= 1, "a restart")  # `slow` could have been asked twice meanwhile
    (tmp_path / "up").touch()
    pod = machine.pod("slow", is_running, "ready")
    assert (pod.status.container_statuses[0].started, restarts(pod)) == (True, 0)
    assert machine.event("late", "Killing") == "Container c failed startup probe, will be restarted"
    machine.end("slow", "late", grace=0)


def test_programs_that_take_too_long_or_are_missing(machine: Machine) -> None:
    probe = {"exec": {"command": ["sleep", "20"]}, "periodSeconds": 1, "failureThreshold": 1}
    machine.create("hangs", shell(LOOP, readinessProbe=probe))
    machine.create("lacks", shell(LOOP, readinessProbe=probe | {"exec": {"command": ["/no/such"]}}))
    text = 'Readiness probe failed: command timed out: "sleep 20" timed out after 1s'
    assert machine.event("hangs", "Unhealthy") == text
    assert "no such file or directory" in machine.event("lacks", "Unhealthy")
    machine.end("hangs", "lacks", grace=0)


def test_sidecars_start_before_and_end_after(machine: Machine, tmp_path: Path) -> None:
    gate, volumes = gated(tmp_path)
    say = "trap 'date +%s%N; sleep 0.3; date +%s%N; exit 0' TERM; date +%s%N; while :; do sleep 0.05; done"
    startup = {"exec": {"command": ["test", "-e", "/gate/up"]}, "periodSeconds": 1, "failureThreshold": 60, **PATIENT}
    sidecar = shell(say, restartPolicy="Always", startupProbe=startup, **gate)
    machine.create("served", shell(say), init=[sidecar, shell(say, restartPolicy="Always")], **volumes)
    pod = machine.pod(
        "served", lambda pod: any(s.state.running for s in pod.status.init_container_statuses), "a sidecar"
    )
    assert pod.status.phase == "Pending"
    initialized = next(c for c in pod.status.conditions if c.type == "Initialized")
    assert (initialized.status, initialized.message) == ("False", "containers with incomplete status: [i i1]")
    (tmp_path / "up").touch()
    machine.pod("served", is_running, "ready")
    paths = [machine.root / "pods" / pod.metadata.uid / "containers" / name / "0.log" for name in ("i", "i1", "c")]
    logs = [path.open("rb") for path in paths]
    machine.delete("served", grace=50)
    machine.gone("served")
    times = [[int(line.split()[3]) for line in log.read().splitlines()] for log in logs]
    for log in logs:
        log.close()
    (first, first_told, first_ended), (second, second_told, second_ended), (main, main_told, main_ended) = times
    assert first < second < main
    assert main_told < main_ended <= second_told < second_ended <= first_told < first_ended


def test_an_agent_that_comes_later_keeps_what_was_known(machine: Machine) -> None:
    probe = {"httpGet": {"port": 8080}, "periodSeconds": 30}
    machine.create("kept", web(readinessProbe=probe, startupProbe=probe))
    before = machine.pod("kept", lambda pod: is_running(pod) and listens(pod), "ready")
    machine.kill_agent(signal.SIGKILL)
    machine.start_agent()
    machine.event("kept", "Started")
    time.sleep(1)
    after = machine.pod("kept", is_running, "ready still").status
    assert after.container_statuses == before.status.container_statuses
    known = {condition.type for condition in before.status.conditions}
    assert [condition for condition in after.conditions if condition.type in known] == before.status.conditions
    machine.end("kept", grace=0)


@pytest.mark.parametrize("gate", ["True", "False"])
def test_readiness_gates(machine: Machine, gate: str) -> None:
    name = f"gate-{gate.lower()}"
    machine.create(name, shell(LOOP), readinessGates=[{"conditionType": "example.com/x"}])
    pod = machine.pod(name, lambda pod: pod.status.phase == "Running", "running")
    ready = next(c for c in pod.status.conditions if c.type == "Ready")
    text = 'corresponding condition of pod readiness gate "example.com/x" does not exist.'
    assert (ready.status, ready.reason, ready.message) == ("False", "ReadinessGatesNotReady", text)
    patch = {"status": {"conditions": [{"type": "example.com/x", "status": gate}]}}
    machine.do(lambda client: client.patch(PODS, name, "default", patch, subresource="status"))
    if gate == "True":
        machine.pod(name, is_running, "ready")
    else:
        text = 'the status of pod readiness gate "example.com/x" is not "True", but False'
        machine.pod(name, lambda pod: any(c.message == text for c in pod.status.conditions), "still unready")
    machine.end(name, grace=0)
