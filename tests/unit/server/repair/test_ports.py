"""Findings about node ports, in kube-apiserver's words."""

from __future__ import annotations

import json

from tests.unit.server.repair.objects import service

from twinstack.api.core import Service
from twinstack.server.repair.findings import Finding
from twinstack.server.repair.ports import Leaks, held_ports, port_findings
from twinstack.store import Put

PORTS = range(30000, 32768)


def judged(recorded: set[int], *services: Service) -> list[Finding]:
    return list(port_findings(services, recorded, PORTS))


def test_held_ports() -> None:
    assert held_ports(service("a", type_="NodePort", ports=[30001, 30001, 0])) == {30001}
    assert held_ports(service("a", type_="LoadBalancer", ports=[30001], health=30002)) == {30001, 30002}
    assert held_ports(service("a", type_="ClusterIP", ports=[30001], health=30002)) == set()


def test_what_is_right_has_no_findings() -> None:
    assert judged({30001, 30002, 30003}, service("a", type_="LoadBalancer", ports=[30001, 30001], health=30002)) == []


def test_findings() -> None:
    first = service("a", type_="NodePort", ports=[30001, 30002])
    second = service("b", type_="NodePort", ports=[30002, 29999])
    missing, outside, twice = judged({30001, 29999}, first, second)
    assert missing[:4] == (first, "PortNotAllocated", "PortAllocation", "Port 30002 is not allocated; repairing")
    assert isinstance(missing.mend, Put)
    assert (missing.mend.key, missing.mend.expect) == ("nodeports/30002", 0)
    assert json.loads(missing.mend.encode(1)) == {"namespace": "default", "name": "a"}
    note = "Port 30002 was assigned to multiple services; please recreate service"
    assert twice == Finding(second, "PortAlreadyAllocated", "PortAllocation", note)
    note = "Port 29999 is not within the port range 30000-32767; please recreate service"
    assert outside == Finding(second, "PortOutOfRange", "PortAllocation", note)


def test_a_leak_is_three_rounds_in_a_row() -> None:
    leaks = Leaks()
    assert leaks.round({30001, 30002}) == []
    assert leaks.round({30001}) == []
    assert leaks.round({30001, 30002}) == [30001]
    assert leaks.round({30002}) == []
    assert leaks.round({30002}) == [30002]
