"""What one object takes of a quota, by its resource (core/v1 ResourceQuota). Pure.

Every object counts as `count/PLURAL.GROUP`. Pods, Services and claims also take what is theirs, and some kinds of core
have the shorter name that they had first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twinstack.api.quotas import pods, scopes
from twinstack.api.quotas.amounts import added
from twinstack.api.scalars import quantity

JSON = dict[str, Any]
GroupResource = tuple[str, str]
"""Group, empty for core, and plural."""

PODS: GroupResource = ("", "pods")
SERVICES: GroupResource = ("", "services")
CLAIMS: GroupResource = ("", "persistentvolumeclaims")

_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
_OF_CLASS = (f"{_CLASS_SUFFIX}persistentvolumeclaims", f"{_CLASS_SUFFIX}requests.storage")
_OF_SERVICES = ("services", "services.nodeports", "services.loadbalancers")
_OF_CLAIMS = ("persistentvolumeclaims", "requests.storage")
_SHORT = frozenset({"configmaps", "resourcequotas", "replicationcontrollers", "secrets"})
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_UNCOUNTED = frozenset(
    {
        ("", "bindings"),
        ("", "componentstatuses"),
        ("", "events"),
        ("events.k8s.io", "events"),
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
    }
)


def is_counted(kind: GroupResource) -> bool:
    return kind not in _UNCOUNTED


def changes_count(kind: GroupResource, subresource: str) -> bool:
    """Whether an update may change what an object of this resource takes."""
    return kind == PODS if subresource == "resize" else not subresource and kind in (SERVICES, CLAIMS)


def object_count(kind: GroupResource) -> str:
    """`count/pods`, `count/deployments.apps`."""
    group, plural = kind
    return f"count/{plural}.{group}" if group else f"count/{plural}"


def taken_by(kind: GroupResource, names: Iterable[str]) -> list[str]:
    """Those of a quota's resources that objects of `kind` take."""
    whole = object_count(kind)
    match kind:
        case "", "pods":
            return [name for name in names if pods.counts(name)]
        case "", "services":
            return [name for name in names if name == whole or name in _OF_SERVICES]
        case "", "persistentvolumeclaims":
            return [name for name in names if name == whole or name in _OF_CLAIMS or name.endswith(_OF_CLASS)]
        case "", plural if plural in _SHORT:
            return [name for name in names if name in (whole, plural)]
    return [name for name in names if name == whole]


def usage(kind: GroupResource, obj: JSON, now: float | None = None) -> dict[str, str]:
    """What `obj` takes at `now`, a Unix time; None is the present."""
    match kind:
        case "", "pods":
            return pods.usage(obj, now)
        case "", "services":
            return _of_service(obj)
        case "", "persistentvolumeclaims":
            return _of_claim(obj)
    short = {kind[1]: "1"} if not kind[0] and kind[1] in _SHORT else {}
    return {object_count(kind): "1"} | short


def _of_service(service: JSON) -> dict[str, str]:
    spec = service.get("spec") or {}
    ports = spec.get("ports") or []
    balanced = spec.get("type") == "LoadBalancer"
    if balanced and spec.get("allocateLoadBalancerNodePorts") is False:
        ports = [port for port in ports if port.get("nodePort")]
    on_nodes = len(ports) if balanced or spec.get("type") == "NodePort" else 0
    return {
        "count/services": "1",
        "services": "1",
        "services.nodeports": str(on_nodes),
        "services.loadbalancers": str(int(balanced)),
    }


def _of_claim(claim: JSON) -> dict[str, str]:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    taken = {"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1"}
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if asked is not None:
        granted = (status.get("allocatedResources") or {}).get("storage", asked)
        taken["requests.storage"] = max(asked, granted, key=quantity)
    annotations = (claim.get("metadata") or {}).get("annotations") or {}
    name = annotations.get(_CLASS_ANNOTATION) or spec.get("storageClassName")
    if name:
        own = {field: taken[field] for field in ("persistentvolumeclaims", "requests.storage") if field in taken}
        taken |= {f"{name}{_CLASS_SUFFIX}{field}": amount for field, amount in own.items()}
    return taken


def includes(kind: GroupResource, spec: JSON, obj: JSON) -> bool:
    """Whether the scopes of a quota's `spec` include `obj`. Most kinds are in no scope."""
    match kind:
        case "", "pods":
            return scopes.includes_pod(spec, obj)
        case "", "persistentvolumeclaims":
            return scopes.includes_claim(spec, obj)
    return not scopes.requirements(spec)


def total(kind: GroupResource, spec: JSON, objects: Iterable[JSON], now: float | None = None) -> dict[str, str]:
    """What all of the objects that the quota is about take of it, by those of its resources that are of this kind."""
    names = taken_by(kind, spec.get("hard") or {})
    sums = dict.fromkeys(names, "0")
    for obj in objects:
        if includes(kind, spec, obj):
            taken = usage(kind, obj, now)
            sums = added(sums, {name: taken[name] for name in names if name in taken})
    return sums
