"""Questions about packets, and the answers in words and as JSON."""

from __future__ import annotations

import json

import pytest
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import ServicePort
from twinstack.dataplane.claims import Claims
from twinstack.dataplane.fate import Outcome
from twinstack.dataplane.model import NodeView, Surroundings
from twinstack.dataplane.tracker import Tracker
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.proxy.explain import Question, as_json, as_text, explain
from twinstack.proxy.snapshot import Snapshot

V6 = IPFamily.IPV6
AROUND = Surroundings(
    frozenset([Address.parse("fd00:30::b")]),
    frozenset([CIDR.parse("fd00:96::/112")]),
    frozenset([CIDR.parse("fd00:10::/64")]),
)


def snapshot() -> Snapshot:
    tracker, claims = Tracker([V6], NodeView("here")), Claims()
    ports = [ServicePort(name="http", protocol="TCP", port=80, node_port=30080)]
    tracker.put_service(service("web", "fd00:96::a", ports=ports, type="NodePort"))
    behind = [
        endpoint("fd00:10::1", node="here"),
        endpoint("fd00:11::1"),
        endpoint("fd00:11::2", ready=False),
        endpoint("fd00:11::3", ready=False, terminating=True),
        endpoint("fd00:11::4", ready=False, serving=False, terminating=True),
    ]
    tracker.put_slice(slice_("web", V6, behind))
    claims.apply(tracker.take())
    return Snapshot({V6: claims}, {V6: AROUND}, tracker)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.96.0.1:443", "10.96.0.1:443/TCP"),
        ("10.96.0.1:53/udp", "10.96.0.1:53/UDP"),
        ("[fd00:0::1]:53/UDP", "[fd00::1]:53/UDP"),
        ("fd00::1:9/SCTP", "[fd00::1]:9/SCTP"),
    ],
)
def test_destinations_are_read_in_every_usual_form(text: str, shown: str) -> None:
    assert str(Question.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "10.96.0.1", "10.96.0.1:0", "10.96.0.1:65536", "10.0.0.1:80/ICMP", "web:80"])
def test_other_destinations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ADDRESS:PORT/PROTO|not an IP address"):
        Question.parse(text)


def test_a_source_of_the_other_family_cannot_be() -> None:
    with pytest.raises(ValueError, match="different families"):
        Question.parse("10.96.0.1:80", "fd00::1")


def test_what_is_told_of_a_packet_from_a_pod_that_is_an_endpoint_itself() -> None:
    question = Question.parse("[fd00:96::a]:80", "fd00:10::1")
    told = explain(snapshot(), question)
    assert as_text(question, told).splitlines() == [
        "[fd00:96::a]:80/TCP: Service port default/web:http/TCP (ClusterIP)",
        "  from fd00:10::1, a local pod: forward: endpoints are there",
        "    source kept: the source is a local pod",
        "    → [fd00:10::1]:8080  (on this node, the source itself, so masqueraded)",
        "    → [fd00:11::1]:8080",
        "    ✗ [fd00:11::2]:8080  (not ready)",
        "    ✗ [fd00:11::3]:8080  (terminating, and others are ready)",
        "    ✗ [fd00:11::4]:8080  (terminating, and no longer serving)",
    ]
    packet = json.loads(as_json(question, told))["packets"][0]
    assert packet["service"] == "default/web"
    assert [candidate["hairpin"] for candidate in packet["candidates"]] == [True, False]
    assert packet["leftOut"][0] == {"endpoint": "[fd00:11::2]:8080", "reason": "not ready"}


def test_without_a_source_each_origin_is_answered_for() -> None:
    told = explain(snapshot(), Question.parse("[fd00:96::a]:80"))
    assert [each.fate.masquerade for each in told] == [False, True, True]
    by_port = explain(snapshot(), Question.parse("[fd00:30::b]:30080"))
    assert {each.fate.masquerade_reason for each in by_port} == {"externalTrafficPolicy is Cluster"}
    assert len(as_text(Question.parse("[fd00:30::b]:30080"), by_port).splitlines()) == 8  # all alike: said once


@pytest.mark.parametrize(
    ("destination", "outcome", "reason"),
    [
        ("[fd00:96::a]:81", Outcome.REJECT, "the Service at this address has no such port"),
        ("[fd00:96::a]:80/UDP", Outcome.REJECT, "the Service at this address has no such port"),
        ("[fd00:96::b]:80", Outcome.DROP, "no Service has this address of the Service range"),
        ("[fd00:30::b]:30081", Outcome.PASS, "no Service answers here"),
        ("[fd00::1]:80", Outcome.PASS, "no Service answers here"),
    ],
)
def test_packets_that_meet_no_front_end(destination: str, outcome: Outcome, reason: str) -> None:
    told = explain(snapshot(), Question.parse(destination))
    assert {(each.fate.outcome, each.fate.reason) for each in told} == {(outcome, reason)}
    assert "no front end" in as_text(Question.parse(destination), told)
