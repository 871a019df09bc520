"""ServiceCIDR and IPAddress: what they must be and what may change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.service_server import IP_ADDRESSES, NOW, SERVICE_CIDRS, MemoryStore

from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource
from twinstack.ip import CIDR, Address
from twinstack.server.messages import UserInfo
from twinstack.server.strategy.base import JSON, ServerConfig, WriteContext
from twinstack.server.strategy.ipaddresses import IPAddressStrategy, allocated_address, belongs_to
from twinstack.server.strategy.servicecidrs import ServiceCIDRStrategy

PARENT = {"resource": "services", "namespace": "default", "name": "web"}


def context(resource: Resource, name: str) -> WriteContext:
    config = ServerConfig(
        service_ranges=(CIDR.parse("10.96.0.0/16"),), node_ports=range(30000, 32768), secure_port=6443
    )
    return WriteContext(
        resource=resource,
        namespace="",
        name=name,
        user=UserInfo("admin"),
        config=config,
        reader=MemoryStore(),
        now=NOW,
    )


def refusals(error: StatusError) -> list[str]:
    causes = error.status()["details"]["causes"]
    return [f"{cause['field']}: {cause['message']}" for cause in causes]


def meta(name: str) -> JSON:
    return {"name": name, "uid": "u", "creationTimestamp": NOW, "resourceVersion": "7"}


def cidr(*cidrs: str) -> JSON:
    return {"metadata": meta("extra"), "spec": {"cidrs": list(cidrs)}, "status": {}}


@pytest.mark.parametrize(
    "cidrs", [["10.0.0.0/24"], ["fd00::/64"], ["fd00::/48", "10.0.0.0/8"], ["::/0"], ["10.0.0.0/32"]]
)
def test_service_cidrs_of_any_size(cidrs: list[str]) -> None:
    sent = cidr(*cidrs) | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    change = ServiceCIDRStrategy().create(context(SERVICE_CIDRS, "extra"), sent)
    assert change.object == cidr(*cidrs)  # only /status sets conditions


NOT_A_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
ONE_A_FAMILY = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
IMMUTABLE = "field is immutable"


@pytest.mark.parametrize(
    ("cidrs", "expected"),
    [
        ([], ["spec.cidrs: Required value: at least one CIDR required"]),
        (
            ["10.0.0.0/8", "fd00::/64", "fd01::/64"],
            [
                (
                    'spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/8","fd00::/64","fd01::/64"]}: '
                    "may only hold up to 2 values"
                )
            ],
        ),
        (["bad"], [f'spec.cidrs[0]: Invalid value: "bad": {NOT_A_CIDR}']),
        (["FD00::/64"], ['spec.cidrs[0]: Invalid value: "FD00::/64": must be in canonical form ("fd00::/64")']),
        (
            ["10.0.0.1/8"],
            ['spec.cidrs[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length'],
        ),
        (
            ["10.0.0.0/8", "11.0.0.0/8"],
            [f'spec.cidrs: Invalid value: ["10.0.0.0/8","11.0.0.0/8"]: {ONE_A_FAMILY}'],
        ),
    ],
)
def test_service_cidrs_that_are_refused(cidrs: list[str], expected: list[str]) -> None:
    with pytest.raises(StatusError) as caught:
        ServiceCIDRStrategy().create(context(SERVICE_CIDRS, "extra"), cidr(*cidrs))
    assert refusals(caught.value) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["10.0.0.0/8"], ["10.0.0.0/8"], []),
        (["10.0.0.0/8"], ["10.0.0.0/8", "fd00::/64"], []),
        (["10.0.0.0/8"], ["11.0.0.0/8"], [f'spec.cidrs[0]: Invalid value: "11.0.0.0/8": {IMMUTABLE}']),
        (
            ["10.0.0.0/8"],
            ["fd00::/64", "10.0.0.0/8"],
            [f'spec.cidrs[0]: Invalid value: "fd00::/64": {IMMUTABLE}'],
        ),
        (
            ["10.0.0.0/8", "fd00::/64"],
            ["fd00::/64", "10.0.0.0/8"],
            [
                f'spec.cidrs[0]: Invalid value: "fd00::/64": {IMMUTABLE}',
                f'spec.cidrs[1]: Invalid value: "10.0.0.0/8": {IMMUTABLE}',
            ],
        ),
        (
            ["10.0.0.0/8", "fd00::/64"],
            ["10.0.0.0/8"],
            [f'spec.cidrs: Invalid value: ["10.0.0.0/8"]: {IMMUTABLE}'],
        ),
    ],
)
def test_service_cidrs_only_gain_a_family(old: list[str], new: list[str], expected: list[str]) -> None:
    strategy, ctx = ServiceCIDRStrategy(), context(SERVICE_CIDRS, "extra")
    if not expected:
        assert strategy.update(ctx, cidr(*new), cidr(*old)).object == cidr(*new)
        return
    with pytest.raises(StatusError) as caught:
        strategy.update(ctx, cidr(*new), cidr(*old))
    assert refusals(caught.value) == expected


def test_the_status_of_a_service_cidr_leaves_everything_else() -> None:
    status = {"conditions": [{"type": "Ready", "status": "False"}]}
    sent = cidr("10.0.0.0/8") | {"metadata": meta("extra") | {"labels": {"a": "b"}}, "status": status}
    old = cidr("11.0.0.0/8")
    change = ServiceCIDRStrategy().update_status(context(SERVICE_CIDRS, "extra"), sent, old)
    assert change.object == old | {"status": status}


def address(name: str, parent: dict[str, Any] | None = PARENT) -> JSON:
    return {"metadata": meta(name), "spec": {"parentRef": parent} if parent is not None else {}}


@pytest.mark.parametrize(
    ("name", "parent", "expected"),
    [
        ("10.96.0.9", PARENT, []),
        ("fd00::1", PARENT, []),
        ("10.96.0.9", {"group": "example.com", "resource": "things", "name": "x"}, []),
        ("FD00::1", PARENT, ['metadata.name: Invalid value: "FD00::1": must be in canonical form ("fd00::1")']),
        ("010.0.0.1", PARENT, ['metadata.name: Invalid value: "010.0.0.1": must not have leading 0s']),
        ("10.96.0.9", None, ["spec.parentRef: Required value"]),
        ("10.96.0.9", {}, ["spec.parentRef.resource: Required value", "spec.parentRef.name: Required value"]),
        (
            "10.96.0.9",
            PARENT | {"name": "a/b"},
            ["spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'"],
        ),
    ],
)
def test_ip_addresses(name: str, parent: dict[str, Any] | None, expected: list[str]) -> None:
    strategy, ctx = IPAddressStrategy(), context(IP_ADDRESSES, name)
    if not expected:
        assert strategy.create(ctx, address(name, parent)).object == address(name, parent)
        return
    with pytest.raises(StatusError) as caught:
        strategy.create(ctx, address(name, parent))
    assert refusals(caught.value) == expected


def test_the_parent_of_an_ip_address_never_changes() -> None:
    strategy, ctx = IPAddressStrategy(), context(IP_ADDRESSES, "10.96.0.9")
    with pytest.raises(StatusError) as caught:
        strategy.update(ctx, address("10.96.0.9", PARENT | {"name": "other"}), address("10.96.0.9"))
    assert refusals(caught.value) == [
        'spec.parentRef: Invalid value: {"Group":"","Resource":"services","Namespace":"default","Name":"other"}: '
        + IMMUTABLE
    ]


def test_empty_fields_of_a_parent_are_not_stored() -> None:
    sent = address("10.96.0.9", PARENT | {"group": ""})
    IPAddressStrategy().default(sent)
    assert sent == address("10.96.0.9")


def test_an_allocated_address_is_a_whole_object() -> None:
    record = json.loads(allocated_address(Address.parse("FD00::9"), "default", "web", NOW)(42))
    assert record["metadata"].pop("uid")
    [entry] = record["metadata"].pop("managedFields")
    assert (entry["manager"], entry["operation"], entry["time"]) == ("kube-apiserver", "Update", NOW)
    assert set(entry["fieldsV1"]) == {"f:metadata", "f:spec"}
    assert record == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": "fd00::9",
            "creationTimestamp": NOW,
            "resourceVersion": "42",
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv6",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": PARENT},
    }
    assert belongs_to(record, "default", "web")
    assert not belongs_to(record, "default", "other")
