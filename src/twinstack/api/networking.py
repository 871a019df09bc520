"""Types of networking.k8s.io/v1 that cluster IPs are allocated with (KEP-1880)."""

from __future__ import annotations

import msgspec

from twinstack.api.meta import Condition, Object, Struct


class ServiceCIDRSpec(Struct):
    cidrs: list[str] = []


class ServiceCIDRStatus(Struct):
    conditions: list[Condition] = []


class ServiceCIDR(Object):
    spec: ServiceCIDRSpec = msgspec.field(default_factory=ServiceCIDRSpec)
    status: ServiceCIDRStatus = msgspec.field(default_factory=ServiceCIDRStatus)


class ParentReference(Struct):
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""


class IPAddressSpec(Struct):
    parent_ref: ParentReference | None = None


class IPAddress(Object):
    spec: IPAddressSpec = msgspec.field(default_factory=IPAddressSpec)
