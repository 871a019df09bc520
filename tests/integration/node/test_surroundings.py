"""What containers find around them: names, addresses, the node's network, variables."""

from __future__ import annotations

import signal
import socket
from typing import Any

from tests.integration.node.machine import LOOP, NODE, NODE_IPS, Machine, is_running
from tests.integration.node.test_probes import shell

from twinstack.api.core import Pod
from twinstack.api.kinds import CONFIG_MAPS, SECRETS, SERVICES
from twinstack.linux import namespaces

LISTEN = """
import signal
import socket
server = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection, _ = server.accept()
    connection.sendall(socket.gethostname().encode())
    connection.close()
"""


def ask(machine: Machine, host: str, port: int) -> str:
    def work() -> str:
        with socket.create_connection((host, port), timeout=30) as connection:
            return connection.recv(100).decode()

    return namespaces.inside(machine.namespace, work)


def once(machine: Machine, name: str, script: str, **more: Any) -> tuple[Pod, list[str]]:
    """Run a script in a pod; its pod and its output."""
    spec = {key: more.pop(key) for key in list(more) if key not in ("env", "envFrom", "ports", "resources")}
    machine.create(name, shell(script, **more), restartPolicy="Never", **spec)
    pod = machine.pod(name, lambda pod: pod.status.phase in ("Succeeded", "Failed"), "its end")
    lines = machine.log(name).splitlines()
    machine.end(name, grace=0)
    return pod, lines


def test_names_and_addresses(machine: Machine) -> None:
    aliases = [{"ip": "192.0.2.1", "hostnames": ["one", "two"]}, {"ip": "2001:db8::1", "hostnames": ["six"]}]
    pod, lines = once(
        machine,
        "names",
        "hostname; cat /etc/hostname; cat /etc/hosts; cat /etc/resolv.conf",
        hostname="web",
        subdomain="sub",
        hostAliases=aliases,
        dnsPolicy="None",
        dnsConfig={
            "nameservers": ["192.0.2.53", "2001:db8::53"],
            "searches": ["x.test"],
            "options": [{"name": "ndots", "value": "2"}],
        },
    )
    first, second = (entry.ip for entry in pod.status.pod_ips)
    assert lines[:2] == ["web", "web"]
    full = "web.sub.default.svc.cluster.local\tweb"
    assert [line for line in lines if "web" in line[4:]] == [f"{first}\t{full}", f"{second}\t{full}"]
    assert lines[-7:] == [
        "# Entries added by HostAliases.",
        "192.0.2.1\tone\ttwo",
        "2001:db8::1\tsix",
        "search x.test",
        "nameserver 192.0.2.53",
        "nameserver 2001:db8::53",
        "options ndots:2",
    ]


def test_the_nodes_network(machine: Machine) -> None:
    machine.create("host", shell(f"hostname; ip -o address show dev lo; {LOOP}"), hostNetwork=True)
    pod = machine.pod("host", is_running, "running")
    assert [entry.ip for entry in pod.status.pod_ips] == [entry.ip for entry in pod.status.host_ips] == list(NODE_IPS)
    assert pod.status.pod_ip == NODE_IPS[0]
    log = machine.logged("host", "up\n")
    assert log.splitlines()[0] == NODE
    assert all(ip in log for ip in NODE_IPS)
    machine.end("host", grace=0)


def test_a_port_of_the_node(machine: Machine) -> None:
    ports = [{"containerPort": 80, "hostPort": 8088}]
    container = {
        "command": ["python3", "-c", LISTEN],
        "ports": ports,
        "readinessProbe": {"tcpSocket": {"port": 80}, "timeoutSeconds": 30},
    }
    machine.create("port", container)
    machine.pod("port", is_running, "running")
    for host in (*NODE_IPS, "127.0.0.1"):
        assert ask(machine, host, 8088) == "port"
    machine.create("late", container)
    machine.create("beside", shell(LOOP, ports=[{"containerPort": 80, "hostPort": 8088, "protocol": "UDP"}]))
    pod = machine.pod("late", lambda pod: pod.status.phase == "Failed", "failure")
    text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    assert (pod.status.reason, pod.status.message) == ("NodePorts", f"Pod was rejected: {text}")
    assert machine.event("late", "NodePorts") == text
    machine.pod("beside", is_running, "running")
    machine.kill_agent(signal.SIGKILL)
    machine.start_agent()
    machine.make("marker", LOOP)
    machine.pod("marker", is_running, "running")
    assert [ask(machine, host, 8088) for host in NODE_IPS] == ["port", "port"]
    machine.end("port", "late", "beside", "marker", grace=0)
    machine.create("after", container)
    machine.pod("after", is_running, "running")
    assert ask(machine, NODE_IPS[1], 8088) == "after"
    machine.end("after", grace=0)


def test_variables(machine: Machine) -> None:
    machine.put(SERVICES, "db", spec={"ports": [{"port": 5432, "name": "pg"}], "ipFamilies": ["IPv6"]})
    machine.put(CONFIG_MAPS, "vars", data={"A": "1", "B": "2"}, binaryData={"RAW": "AQI="})
    machine.put(SECRETS, "vars", data={"S": "c2VjcmV0"})
    env: list[dict[str, Any]] = [
        {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
        {"name": "HOSTS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "vars", "key": "S"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "vars", "key": "RAW", "optional": True}}},
        {"name": "ALL", "value": "$(A)-$(KEY)-$(DB_SERVICE_HOST)"},
    ]
    sources = [{"configMapRef": {"name": "vars"}}, {"prefix": "X_", "secretRef": {"name": "vars"}}]
    limits = {"limits": {"cpu": "250m"}}
    pod, lines = once(machine, "vars", "env | sort", env=env, envFrom=sources, resources=limits)
    values = dict(line.split("=", 1) for line in lines)
    assert values["IPS"] == ",".join(entry.ip for entry in pod.status.pod_ips)
    assert values["HOSTS"] == ",".join(NODE_IPS)
    assert (values["A"], values["X_S"], values["CPU"], values["HOSTNAME"]) == ("1", "secret", "250", "vars")
    assert {"RAW", "NONE"}.isdisjoint(values)  # binary data is for files
    assert values["DB_PORT"] == f"tcp://[{values['DB_SERVICE_HOST']}]:5432"
    assert values["ALL"] == f"1-secret-{values['DB_SERVICE_HOST']}"
    assert values["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    _, lines = once(machine, "few", "env", enableServiceLinks=False)
    names = {line.split("=")[0] for line in lines}
    assert "KUBERNETES_SERVICE_HOST" in names
    assert "DB_SERVICE_HOST" not in names
    machine.do(lambda client: client.delete(SERVICES, "db", "default"))
