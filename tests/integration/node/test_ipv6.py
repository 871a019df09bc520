"""A node of IPv6 alone: what dials a pod, and what leads to it, does so by its only address."""

from __future__ import annotations

from tests.integration.node.machine import Machine, is_running
from tests.integration.node.test_probes import shell, web
from tests.integration.node.test_surroundings import LISTEN, ask


def test_probes_hooks_and_ports(machine6: Machine) -> None:
    machine = machine6
    get = {"httpGet": {"port": "web"}, "periodSeconds": 1}
    machine.create("web", web(readinessProbe=get, lifecycle={"postStart": {"exec": {"command": ["sleep", "0.3"]}}}))
    ports = [{"containerPort": 80, "hostPort": 8088}]
    listener = {"command": ["python3", "-c", LISTEN], "ports": ports, "livenessProbe": {"tcpSocket": {"port": 80}}}
    machine.create("port", listener)
    machine.create("closed", shell("sleep 100", readinessProbe={"tcpSocket": {"port": 81}, "periodSeconds": 1}))
    pod = machine.pod("web", is_running, "ready")
    assert [entry.ip for entry in pod.status.pod_ips] == [pod.status.pod_ip]
    assert machine.log("web").splitlines()[0] == f"/ kube-probe/1.36 [{pod.status.pod_ip}]:8080 None"
    machine.pod("port", is_running, "running")
    assert ask(machine, machine.node_ips[0], 8088) == "port"
    address = machine.pod("closed", lambda pod: bool(pod.status.pod_ip), "an address").status.pod_ip
    text = f"Readiness probe failed: dial tcp [{address}]:81: connect: connection refused"
    assert machine.event("closed", "Unhealthy") == text
    machine.end("web", "port", "closed", grace=1)
