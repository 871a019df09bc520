"""An APIService for every group and version that the server itself serves, those of definitions included."""

from __future__ import annotations

from typing import Any

from twinstack.api.resources import RESOURCES, resource
from twinstack.server.messages import Route, UserInfo
from twinstack.server.registry import Registry

JSON = dict[str, Any]

_API_SERVICES = resource("apiregistration.k8s.io", "apiservices")
_SELF = UserInfo("system:apiserver", ("system:masters",))
_MANAGED = "kube-aggregator.kubernetes.io/automanaged"
_AT_START, _BY_DEFINITION = "onstart", "true"  # values of that label

_VERSION_PRIORITY = 15
_VERSION_PRIORITIES = {"v1.": 1, "v2.autoscaling": 30, "v1.flowcontrol.apiserver.k8s.io": 21}
_DEFINED = (1000, 100)  # groups of definitions come last, their versions in the order of their names
# Which group an ambiguous name means: the first; upstream's numbers.
_GROUP_PRIORITIES = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "admissionregistration.k8s.io": 16700,
    "apiextensions.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
}


async def ensure(registry: Registry) -> None:
    """Make those that are missing, remove those of definitions that are gone. Raises StatusError, StoreError."""
    wanted = _wanted(registry)
    for name, body in wanted.items():
        if registry.reader.get(_API_SERVICES, "", name) is None:
            await registry.create(Route(_API_SERVICES), body, _SELF)
    for stored in list(registry.reader.list(_API_SERVICES)):
        meta = stored["metadata"]
        if meta["name"] not in wanted and (meta.get("labels") or {}).get(_MANAGED) == _BY_DEFINITION:
            await registry.delete(Route(_API_SERVICES, name=meta["name"]), _SELF)


def _wanted(registry: Registry) -> dict[str, JSON]:
    """By name; the aggregation of other servers' groups is no group of its own, as upstream."""
    wanted = {}
    for row in RESOURCES:
        if row.group in _GROUP_PRIORITIES:
            name = f"{row.version}.{row.group}"
            version = _VERSION_PRIORITIES.get(name, _VERSION_PRIORITY)
            wanted[name] = _body(row.group, row.version, (_GROUP_PRIORITIES[row.group], version), _AT_START)
    for row in registry.catalogue.custom:
        wanted[f"{row.version}.{row.group}"] = _body(row.group, row.version, _DEFINED, _BY_DEFINITION)
    return wanted


def _body(group: str, version: str, priorities: tuple[int, int], managed: str) -> JSON:
    spec: JSON = {"version": version, "groupPriorityMinimum": priorities[0], "versionPriority": priorities[1]}
    if group:
        spec["group"] = group
    return {"metadata": {"name": f"{version}.{group}", "labels": {_MANAGED: managed}}, "spec": spec}
