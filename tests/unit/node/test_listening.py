"""Which address of a pod accepts on which port, and when that is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.node.building import UID, pod, run, view

from twinstack.api.core import ContainerPort, PodStatus
from twinstack.ip import Address
from twinstack.linux.listeners import TCP, UDP, Listener
from twinstack.node import metrics
from twinstack.node.listening import observer, verdict
from twinstack.node.listening.observer import Observer, Target
from twinstack.node.listening.verdict import Finding, Port, condition, declared, judge
from twinstack.node.pods import Situation, pod_status

V4, V6 = Address.parse("10.244.1.5"), Address.parse("fd00:10:244:1::5")
WEB, DNS = Port(80, "TCP"), Port(53, "UDP")


def listener(text: str, port: int = 80, protocol: int = TCP, *, only_ipv6: bool = False, device: int = 0) -> Listener:
    return Listener(protocol, port, Address.parse(text), only_ipv6, device)


@pytest.mark.parametrize(
    ("bound", "ipv4", "ipv6"),
    [
        (listener("0.0.0.0"), True, False),
        (listener("::"), True, True),
        (listener("::", only_ipv6=True), False, True),
        (listener(str(V4)), True, False),
        (listener(str(V6)), False, True),
        (listener("::ffff:10.244.1.5"), True, False),
        (listener("::ffff:10.244.1.6"), False, False),
        (listener("127.0.0.1"), False, False),
        (listener("::1"), False, False),
        (listener("::", device=1), False, False),
        (listener("::", device=2), True, True),
        (listener("::", port=81), False, False),
        (listener("::", protocol=UDP), False, False),
    ],
)
def test_who_is_heard(bound: Listener, ipv4: bool, ipv6: bool) -> None:
    assert [not judge([WEB], address, [bound]).refusing for address in (V4, V6)] == [ipv4, ipv6]


def test_what_is_told() -> None:
    sockets = [listener("0.0.0.0"), listener("::", 443, only_ipv6=True), listener("127.0.0.1", 53, UDP)]
    ports = [DNS, WEB, Port(443, "TCP"), Port(9090, "TCP")]
    told = condition(judge(ports, V6, sockets))
    assert (told.type, told.status, told.reason) == ("twinstack.io/ListeningIPv6", "False", "PortsDoNotAccept")
    assert told.message == (
        "fd00:10:244:1::5 does not accept on 53/UDP (bound to 127.0.0.1), 80/TCP (bound to 0.0.0.0), "
        "9090/TCP (not bound); it accepts on 443/TCP"
    )
    told = condition(judge([Port(443, "TCP")], V4, sockets))
    assert told.message == "10.244.1.5 does not accept on 443/TCP (bound to :: for IPv6 alone)"
    told = condition(judge([WEB], V4, sockets))
    assert (told.type, told.status, told.reason) == ("twinstack.io/ListeningIPv4", "True", "AllPortsAccept")
    assert told.message == "10.244.1.5 accepts on 80/TCP"
    many = condition(judge([Port(number, "TCP") for number in range(1, 101)], V4, []))
    assert many.message.endswith("20/TCP (not bound) and 80 more")


def test_ports_that_are_looked_at() -> None:
    given = pod("web", "log", init=("once",), sidecars=("proxy",))
    given.spec.containers[0].ports = [
        ContainerPort(container_port=80),
        ContainerPort(container_port=53, protocol="UDP"),
    ]
    given.spec.containers[1].ports = [
        ContainerPort(container_port=80),
        ContainerPort(container_port=9, protocol="SCTP"),
    ]
    given.spec.init_containers[0].ports = [ContainerPort(container_port=15001)]
    given.spec.init_containers[1].ports = [ContainerPort(container_port=1)]
    assert declared(given) == (DNS, WEB, Port(15001, "TCP"))


def watched() -> observer._Watched:
    return observer._Watched(Target(Path("/run/netns/x"), (V4, V6), (WEB,)))


def look(*texts: str) -> tuple[Finding, ...]:
    sockets = [listener(text) for text in texts]
    return tuple(judge([WEB], address, sockets) for address in (V4, V6))


def test_what_is_good_is_told_at_once_and_what_is_bad_when_it_lasts() -> None:
    it = watched()
    assert not it.note(look(), 100.0)
    assert not it.note(look("0.0.0.0"), 101.0)  # of a pod that begins
    assert it.note(look("::"), 101.5)
    assert not it.note(look(), 110.0)  # its container is started again
    assert it.told == look("::")
    assert not it.note(look("::"), 111.0)
    assert not it.note(look("0.0.0.0"), 120.0)
    assert it.due <= 121.0
    assert not it.note(look("0.0.0.0"), 121.0)
    assert it.note(look("0.0.0.0"), 122.0)
    assert it.told == look("0.0.0.0")
    assert it.note(look("0.0.0.0", "::1"), 123.0)  # no worse: why it does not accept may have changed


def test_looks_become_rare() -> None:
    it, now, looks = watched(), 0.0, 0
    it.hurry(now)
    while now < 3600:
        now, looks = it.due, looks + 1
        it.note(look("::"), now)
    assert looks < 130


def test_a_socket_that_comes_and_goes_does_not_make_them_many() -> None:
    it, now, looks, told = watched(), 0.0, 0, 0
    while now < 3600:
        now, looks = max(now + 0.1, it.due), looks + 1
        told += it.note(look("::" if looks % 2 else "0.0.0.0"), now)
    assert looks <= 3600
    assert told < 3600 / observer.DOUBT


def test_conditions_of_a_pod() -> None:
    given = pod("c")
    running = view(run("c"))
    shown = pod_status(
        given, Situation(running, [str(V4), str(V6)], [], listening=look("0.0.0.0")), "2026-01-01T00:00:00Z"
    )
    kinds = {c.type: c.status for c in shown.conditions}
    assert list(kinds)[-2:] == ["twinstack.io/ListeningIPv4", "twinstack.io/ListeningIPv6"]
    assert [kinds[kind] for kind in verdict.CONDITIONS.values()] == ["True", "False"]
    given.status = shown
    again = pod_status(given, Situation(running, [str(V4), str(V6)], [], listening=look("::")), "2026-01-01T00:01:00Z")
    times = {c.type: c.last_transition_time for c in again.conditions}
    assert times["twinstack.io/ListeningIPv4"] == "2026-01-01T00:00:00Z"
    assert times["twinstack.io/ListeningIPv6"] == "2026-01-01T00:01:00Z"


def test_of_a_pod_that_ended() -> None:
    given = pod("c", policy="Never", status=PodStatus(conditions=[condition(found) for found in look("::")]))
    shown = pod_status(given, Situation(view(run("c", code=0)), [], [], ended=True))
    ended = [c for c in shown.conditions if c.type in verdict.CONDITIONS.values()]
    assert [(c.status, c.reason) for c in ended] == [("False", "PodCompleted")] * 2


def test_metrics() -> None:
    class Agent:
        pods = {UID: pod("c")}
        observer = Observer(print)

    Agent.observer.follow(UID, Target(Path("/run/netns/x"), (V4, V6), (WEB,)))
    Agent.observer._watched[UID].told = look("0.0.0.0")
    lines = [line for line in metrics.text(Agent).splitlines() if "accepts{" in line]
    head = 'twinstack_node_pod_port_accepts{namespace="default",pod="web",port="80",protocol="TCP",ip_family='
    assert lines == [f'{head}"IPv4"}} 1', f'{head}"IPv6"}} 0']
