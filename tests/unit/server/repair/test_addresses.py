"""Findings about cluster IPs and their records, in kube-apiserver's words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.server.repair.objects import EARLY, LATE, State, labels, record, service

from twinstack.api.core import Service
from twinstack.api.networking import IPAddress
from twinstack.api.times import parse_time
from twinstack.ip import Address
from twinstack.server.repair.addresses import record_finding, service_findings
from twinstack.server.repair.findings import Finding
from twinstack.store import Delete, Put

NOW = parse_time(LATE)
ADDRESSES = [f"10.96.0.{last}" for last in range(1, 5)]


def judged(subject: Service, state: State) -> list[Finding]:
    return list(service_findings(subject, state, LATE))


def written(finding: Finding) -> tuple[int | None, str, str, dict[str, str]]:
    """Revision expected, name, owner and labels of the record that mends."""
    assert isinstance(finding.mend, Put)
    value = json.loads(finding.mend.encode(9))
    assert finding.mend.key == f"networking.k8s.io/ipaddresses/{value['metadata']['name']}"
    parent = value["spec"]["parentRef"]
    assert (parent["resource"], parent["namespace"]) == ("services", "default")
    return finding.mend.expect, value["metadata"]["name"], parent["name"], value["metadata"]["labels"]


def test_what_is_right_has_no_findings() -> None:
    web, headless, bare = service("web", "10.96.0.9", "fd00:96::9"), service("head", "None"), service("bare")
    state = State(web, headless, bare, record("10.96.0.9", "web"), record("fd00:96::9", "web"))
    assert judged(web, state) == judged(headless, state) == judged(bare, state) == []
    for ip in ("10.96.0.9", "fd00:96::9"):
        held = state.record(Address.parse(ip))
        assert held is not None
        assert record_finding(held, state, NOW) is None


@pytest.mark.parametrize("text", ["fd00:96:0::9", "FD00:96::9", "fd00:0096::0009"])
def test_records_are_matched_by_value(text: str) -> None:
    web, held = service("web", "010.096.000.009", text), record("fd00:96::9", "web")
    state = State(web, held, record("10.96.0.9", "web"))
    assert judged(web, state) == []
    assert record_finding(held, state, NOW) is None


@pytest.mark.parametrize(
    ("ips", "reason", "action", "note"),
    [
        (
            ["ten"],
            "ClusterIPNotValid",
            "ClusterIPValidation",
            "Cluster IP ten is not a valid IP; please recreate Service",
        ),
        *(
            (
                [ip],
                "ClusterIPOutOfRange",
                "ClusterIPAllocation",
                f"Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service",
            )
            for ip, family in (
                ("10.97.0.1", "IPv4"),
                ("10.96.0.0", "IPv4"),
                ("10.96.255.255", "IPv4"),
                ("fd00:96::", "IPv6"),
            )
        ),
    ],
)
def test_what_only_people_can_mend(ips: list[str], reason: str, action: str, note: str) -> None:
    web = service("web", *ips)
    assert judged(web, State(web)) == [Finding(web, reason, action, note)]


def test_the_last_ipv6_address_is_usable() -> None:
    web = service("web", "fd00:96::ffff")
    assert judged(web, State(web, record("fd00:96::ffff", "web"))) == []


def test_a_missing_record_is_written() -> None:
    web = service("web", "fd00:96::9", "10.96.0.9")
    missing, _ = judged(web, State(web))
    assert (missing.reason, missing.action) == ("ClusterIPNotAllocated", "ClusterIPAllocation")
    assert missing.note == "Cluster IP [IPv6]: fd00:96::9 is not allocated; repairing"
    assert written(missing) == (0, "fd00:96::9", "web", labels("IPv6"))


@pytest.mark.parametrize(
    "wrong",
    [
        record("10.96.0.9", "web", resource="gateways", group="example.com"),
        record("10.96.0.9", "web", group="example.com"),
        record("10.96.0.9", "gone"),
        record("10.96.0.9", "other"),  # is there, but has another address
    ],
)
def test_a_wrong_reference_is_replaced_in_one_write(wrong: object) -> None:
    web, other = service("web", "10.96.0.9"), service("other", "10.96.0.8")
    (found,) = judged(web, State(web, other, wrong))  # type: ignore[arg-type]
    assert found.reason == "ClusterIPNotAllocated"
    assert found.note == "the ClusterIP [IPv4]: 10.96.0.9 for Service default/web has a wrong reference; repairing"
    assert written(found) == (3, "10.96.0.9", "web", labels("IPv4"))


def test_an_address_of_two_services_is_told() -> None:
    web, other = service("web", "fd00:96:0::9"), service("other", "fd00:96::9")
    (found,) = judged(web, State(web, other, record("fd00:96::9", "other")))
    assert found == Finding(
        web,
        "ClusterIPAlreadyAllocated",
        "ClusterIPAllocation",
        "Cluster IP [IPv6]:fd00:96::9 was assigned to multiple services; please recreate service",
    )


@pytest.mark.parametrize("marks", [{}, labels("IPv6"), labels("IPv4") | {"ipaddress.kubernetes.io/managed-by": "me"}])
def test_wrong_labels_are_mended_without_a_word(marks: dict[str, str]) -> None:
    web = service("web", "10.96.0.9")
    (found,) = judged(web, State(web, record("10.96.0.9", "web", marks=marks)))
    assert found.reason == ""
    assert written(found) == (3, "10.96.0.9", "web", labels("IPv4"))


def test_records_of_others_are_left_alone() -> None:
    foreign = record("10.96.0.9", "gone", marks={"ipaddress.kubernetes.io/managed-by": "me"})
    assert record_finding(foreign, State(), NOW) is None


def removal(found: Finding | float | None) -> tuple[str, str]:
    assert isinstance(found, Finding)
    assert found.action == "IPAddressAllocation"
    assert found.mend == Delete(f"networking.k8s.io/ipaddresses/{found.about.metadata.name}", 3)
    return found.reason, found.note


def test_a_record_that_names_no_service_goes() -> None:
    changed = record("10.96.0.9", "web", resource="gateways", group="example.com")
    shown = "&ParentReference{Group:example.com,Resource:gateways,Namespace:default,Name:web,}"
    assert removal(record_finding(changed, State(service("web")), NOW)) == (
        "IPAddressNotAllocated",
        f"IPAddress 10.96.0.9 appears to have been modified, not referencing a Service {shown}: cleaning up",
    )


def test_a_leaked_record_goes_after_a_minute() -> None:
    leaked = record("10.96.0.9", "web")
    made = parse_time(EARLY)
    assert record_finding(leaked, State(), made + 20) == 40.0
    assert removal(record_finding(leaked, State(), made + 60)) == (
        "IPAddressNotAllocated",
        "IPAddress: 10.96.0.9 for Service default/web appears to have leaked: cleaning up",
    )


@pytest.mark.parametrize(
    ("owner", "grace"),
    [
        (service("web", "10.96.0.8", made=LATE), 0.0),
        (service("web", "10.96.0.8", made="2025-12-31T00:00:00Z"), 5.0),
        (service("web", type_="ExternalName", made=LATE), 60.0),
    ],
)
def test_a_record_that_its_service_does_not_list_goes_after_its_grace(owner: Service, grace: float) -> None:
    wrong, made = record("10.96.0.9", "web"), parse_time(EARLY)
    if grace:
        assert record_finding(wrong, State(owner), made + 1) == grace - 1
    assert removal(record_finding(wrong, State(owner), made + grace)) == (
        "IPAddressWrongReference",
        "IPAddress: 10.96.0.9 for Service default/web has a wrong reference; cleaning up",
    )


def everything(services: list[Service], records: dict[str, IPAddress]) -> list[Finding]:
    state = State(*services, *records.values())
    judgements = (record_finding(each, state, NOW) for each in records.values())
    return [
        *(finding for each in services for finding in judged(each, state)),
        *(finding for finding in judgements if isinstance(finding, Finding)),
    ]


@given(
    st.lists(st.sampled_from(ADDRESSES), max_size=4),
    st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from(["s0", "s1", "s2", "gone"])),
)
def test_mending_converges(held: list[str], stored: dict[str, str]) -> None:
    """Whatever is stored: mend by mend it ends where only people can settle the rest."""
    services = [service(f"s{index}", ip) for index, ip in enumerate(held)]
    records = {ip: record(ip, owner) for ip, owner in stored.items()}
    for _ in range(len(held) + len(stored) + 1):
        findings = everything(services, records)
        mendable = [finding for finding in findings if finding.mend is not None]
        if not mendable:
            break
        if isinstance(mendable[0].mend, Put):
            _, ip, owner, _ = written(mendable[0])
            records[ip] = record(ip, owner)
        else:
            del records[mendable[0].about.metadata.name]
    assert {finding.reason for finding in findings} <= {"ClusterIPAlreadyAllocated"}
    owners = {ip: {f"s{index}" for index, own in enumerate(held) if own == ip} for ip in held}
    assert records.keys() == owners.keys()
    for ip, each in records.items():
        assert each.spec.parent_ref is not None
        assert each.spec.parent_ref.name in owners[ip]
