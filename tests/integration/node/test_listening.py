"""Which address of a real pod accepts on its ports, as its conditions and the agent's metrics tell."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.node.machine import NODE, PREFIX, Machine

from twinstack.api.core import Pod
from twinstack.ip import Address
from twinstack.linux import links, namespaces, netlink
from twinstack.linux.listeners import TCP, UDP, Listener, ListenerReader

SERVE = """
import os, socket, time
def listen(family, address, port, only=0, kind=socket.SOCK_STREAM):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    s.bind((address, port))
    if kind == socket.SOCK_STREAM:
        s.listen()
    return s
held = [
    listen(socket.AF_INET6, "::", 8080),
    listen(socket.AF_INET6, "::", 53, kind=socket.SOCK_DGRAM),
    listen(socket.AF_INET, "0.0.0.0", 81),
]
while not os.path.exists("/tmp/more"):
    time.sleep(0.05)
held += [listen(socket.AF_INET6, "::", 81, 1)]
while True:
    time.sleep(1)
"""


def conditions(pod: Pod) -> dict[str, tuple[str, str]]:
    return {
        c.type.removeprefix("twinstack.io/Listening"): (c.status, c.message)
        for c in pod.status.conditions
        if c.type.startswith("twinstack.io/")
    }


def state(wanted: dict[str, str]) -> Callable[[Pod], bool]:
    return lambda pod: {family: status for family, (status, _) in conditions(pod).items()} == wanted


def test_a_port_that_one_family_lacks(machine: Machine) -> None:
    ports = [{"containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 81}]
    gate = {"conditionType": "twinstack.io/ListeningIPv6"}
    container = {"command": ["python3", "-c", SERVE], "ports": ports}
    machine.create("half", container, {"command": ["sleep", "100"]}, readinessGates=[gate])
    pod = machine.pod("half", state({"IPv4": "True", "IPv6": "False"}), "what each family accepts")
    ipv4, ipv6 = (entry.ip for entry in pod.status.pod_ips)
    assert conditions(pod)["IPv4"][1] == f"{ipv4} accepts on 53/UDP, 81/TCP, 8080/TCP"
    assert conditions(pod)["IPv6"][1] == (
        f"{ipv6} does not accept on 81/TCP (bound to 0.0.0.0); it accepts on 53/UDP, 8080/TCP"
    )
    ready = next(c for c in pod.status.conditions if c.type == "Ready")
    assert (ready.status, ready.reason) == ("False", "ReadinessGatesNotReady")
    path = f"/api/v1/nodes/{NODE}/proxy/metrics"
    text = machine.do(lambda client: client.request("GET", path, accept="*/*")).decode()
    line = 'twinstack_node_pod_port_accepts{namespace="default",pod="half",port="81",protocol="TCP",ip_family='
    assert f'{line}"IPv4"}} 1\n' in text
    assert f'{line}"IPv6"}} 0\n' in text

    machine.end("half", grace=0)


def test_a_port_that_comes_later_and_an_agent_that_is_started_anew(machine: Machine) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/more"]}, "periodSeconds": 1}
    script = f"(sleep 1.5; touch /tmp/more) & exec python3 -c '{SERVE}'"
    container = {"command": ["sh", "-c", script], "ports": [{"containerPort": 81}], "readinessProbe": probe}
    machine.create("late", container)
    machine.pod("late", state({"IPv4": "True", "IPv6": "True"}), "both families")
    machine.kill_agent(signal.SIGKILL)
    machine.start_agent()
    pod = machine.pod("late", state({"IPv4": "True", "IPv6": "True"}), "both families, still")
    assert all(condition.last_transition_time for condition in pod.status.conditions)
    machine.end("late", grace=0)


@pytest.fixture
def place() -> Iterator[Path]:
    path = namespaces.RUN_DIRECTORY / f"{PREFIX}-sockets"
    namespaces.create(path, lambda: None)
    yield path
    namespaces.remove(path)


def test_the_kernel_is_asked_for_what_there_is(place: Path) -> None:
    def work() -> list[Listener]:
        with ExitStack() as stack:
            tcp = stack.enter_context(socket.create_server(("0.0.0.0", 80)))
            stack.enter_context(socket.create_connection(tcp.getsockname()))  # no listener
            stack.enter_context(socket.create_server(("::", 443), family=socket.AF_INET6, dualstack_ipv6=True))
            stack.enter_context(socket.create_server(("::1", 444), family=socket.AF_INET6))
            udp = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            udp.bind(("::", 53))
            reader = ListenerReader()
            try:
                return reader.read([TCP, UDP])
            finally:
                reader.close()

    def up() -> list[Listener]:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        route.request([links.link_up(1)])
        route.close()
        return work()

    wildcard4, wildcard6 = Address.parse("0.0.0.0"), Address.parse("::")
    assert sorted(namespaces.inside(place, up)) == [
        Listener(TCP, 80, wildcard4),
        Listener(TCP, 443, wildcard6),
        Listener(TCP, 444, Address.parse("::1"), only_ipv6=True),
        Listener(UDP, 53, wildcard6, only_ipv6=True, device=1),
    ]
