"""Types of discovery.k8s.io/v1."""

from __future__ import annotations

import msgspec

from twinstack.api.meta import Object, ObjectReference, Struct


class EndpointConditions(Struct):
    """Absent means: ready and serving true, terminating false (KEP-1672)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForZone(Struct):
    name: str = ""


class ForNode(Struct):
    name: str = ""


class EndpointHints(Struct):
    for_zones: list[ForZone] = []
    for_nodes: list[ForNode] = []


class Endpoint(Struct):
    addresses: list[str] = []
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    hostname: str | None = None
    target_ref: ObjectReference | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None


class EndpointPort(Struct):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    app_protocol: str | None = None


class EndpointSlice(Object):
    address_type: str = ""
    endpoints: list[Endpoint] | None = []
    ports: list[EndpointPort] | None = []
