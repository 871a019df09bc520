"""Types of coordination.k8s.io/v1."""

from __future__ import annotations

import msgspec

from twinstack.api.meta import Object, Struct


class LeaseSpec(Struct):
    """Times are MicroTime: `2006-01-02T15:04:05.000000Z`."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Object):
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)
