"""Endpoints of core/v1: what clients read that know no EndpointSlices."""

from __future__ import annotations

from twinstack.api.meta import Object, ObjectReference, Struct


class EndpointAddress(Struct):
    ip: str = ""
    hostname: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointPort(Struct):
    name: str = ""
    port: int = 0
    protocol: str = ""
    app_protocol: str | None = None


class EndpointSubset(Struct):
    """All addresses, each with all ports."""

    addresses: list[EndpointAddress] = []
    not_ready_addresses: list[EndpointAddress] = []
    ports: list[EndpointPort] = []


class Endpoints(Object):
    subsets: list[EndpointSubset] = []
