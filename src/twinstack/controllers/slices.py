"""The EndpointSlices of a Service: whose they are and what they carry (KEP-752). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from twinstack.api.core import Service
from twinstack.api.discovery import EndpointSlice
from twinstack.controllers import packing
from twinstack.controllers.endpoints import Desired
from twinstack.controllers.packing import Plan, Writer
from twinstack.ip import IPFamily

MANAGER = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
_RESERVED = frozenset({SERVICE_NAME, MANAGED_BY, HEADLESS})


def plan(
    service: Service, desired: Desired, existing: Iterable[EndpointSlice], maximum: int, trigger_time: str | None
) -> Plan:
    """Compare the slices of a Service with what it should have.

    `existing` are its slices that this controller manages; at most `maximum` endpoints go into one.
    `trigger_time` is the RFC 3339 time of the change that is being followed, None when unknown.
    """
    return packing.plan(
        desired.families, existing, maximum, lambda family: _ServiceWriter(service, family, trigger_time)
    )


class _ServiceWriter(Writer):
    """The Service's labels are copied; headlessness alone is no reason to write."""

    def __init__(self, service: Service, family: IPFamily, trigger_time: str | None) -> None:
        self._trigger_time = trigger_time
        self._copied = {k: v for k, v in service.metadata.labels.items() if k not in _RESERVED}
        labels = self._copied | {SERVICE_NAME: service.metadata.name, MANAGED_BY: MANAGER}
        if service.spec.cluster_ip in ("", "None"):
            labels[HEADLESS] = ""
        super().__init__(service, family, labels)

    def differs(self, slice_: EndpointSlice) -> bool:
        return self._copied != {k: v for k, v in slice_.metadata.labels.items() if k not in _RESERVED}

    def annotations(self, before: dict[str, str]) -> dict[str, str]:
        after = {k: v for k, v in before.items() if k != TRIGGER_TIME}
        if self._trigger_time is not None:
            after[TRIGGER_TIME] = self._trigger_time
        return after
