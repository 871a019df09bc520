"""The objects of API priority and fairness that every cluster has, upstream's mandatory and suggested ones.

Made where they are missing, as upstream makes them; the server does not queue requests by them.
"""

from __future__ import annotations

from typing import Any

from twinstack.api.resources import resource
from twinstack.server.messages import Route, UserInfo
from twinstack.server.registry import Registry

JSON = dict[str, Any]

_GROUP = "flowcontrol.apiserver.k8s.io"
_SCHEMAS, _LEVELS = resource(_GROUP, "flowschemas"), resource(_GROUP, "prioritylevelconfigurations")
_SELF = UserInfo("system:apiserver", ("system:masters",))
_KEPT = {"apf.kubernetes.io/autoupdate-spec": "true"}

# Name: shares, percentage to lend, queues and hand size (none: what is too much is refused).
_LIMITED: dict[str, tuple[int, int, tuple[int, int] | None]] = {
    "catch-all": (5, 0, None),
    "global-default": (20, 50, (128, 6)),
    "leader-election": (10, 0, (16, 4)),
    "node-high": (40, 25, (64, 6)),
    "system": (30, 33, (64, 6)),
    "workload-high": (40, 50, (128, 6)),
    "workload-low": (100, 90, (128, 6)),
}
_QUEUE_LENGTH = 50

_EVERYBODY = ("group:system:unauthenticated", "group:system:authenticated")
_ACCOUNTS = "account:kube-system/*"
_ALL = ("*|*|*|*", "*|")  # VERBS|GROUPS|RESOURCES|NAMESPACES, empty namespaces: of the cluster; VERBS|URLS without more
_LEASES = ("get,create,update|coordination.k8s.io|leases|*",)
# Name: precedence, level, what tells flows apart, whose requests, which requests.
_FLOWS: dict[str, tuple[int, str, str, tuple[str, ...], tuple[str, ...]]] = {
    "exempt": (1, "exempt", "", ("group:system:masters",), _ALL),
    "probes": (2, "exempt", "", _EVERYBODY, ("get|/healthz,/readyz,/livez",)),
    "system-leader-election": (
        100,
        "leader-election",
        "ByUser",
        ("user:system:kube-controller-manager", "user:system:kube-scheduler", _ACCOUNTS),
        _LEASES,
    ),
    "endpoint-controller": (
        150,
        "workload-high",
        "ByUser",
        (
            "user:system:kube-controller-manager",
            "account:kube-system/endpoint-controller",
            "account:kube-system/endpointslicemirroring-controller",
        ),
        ("get,create,update||endpoints|*",),
    ),
    "workload-leader-election": (200, "leader-election", "ByUser", (_ACCOUNTS,), _LEASES),
    "system-node-high": (
        400,
        "node-high",
        "ByUser",
        ("group:system:nodes",),
        ("*||nodes,nodes/status|", "*|coordination.k8s.io|leases|*"),
    ),
    "system-nodes": (500, "system", "ByUser", ("group:system:nodes",), _ALL),
    "kube-controller-manager": (
        800,
        "workload-high",
        "ByNamespace",
        ("user:system:kube-controller-manager",),
        _ALL,
    ),
    "kube-scheduler": (800, "workload-high", "ByNamespace", ("user:system:kube-scheduler",), _ALL),
    "kube-system-service-accounts": (900, "workload-high", "ByNamespace", (_ACCOUNTS,), _ALL),
    "service-accounts": (9000, "workload-low", "ByUser", ("group:system:serviceaccounts",), _ALL),
    "global-default": (9900, "global-default", "ByUser", _EVERYBODY, _ALL),
    "catch-all": (10000, "catch-all", "ByUser", _EVERYBODY, _ALL),
}


async def ensure(registry: Registry) -> None:
    """Raises StatusError, StoreError."""
    for name in ("exempt", *_LIMITED):
        if registry.reader.get(_LEVELS, "", name) is None:
            await registry.create(Route(_LEVELS), _named(name, _level(name)), _SELF)
    for name in _FLOWS:
        if registry.reader.get(_SCHEMAS, "", name) is None:
            await registry.create(Route(_SCHEMAS), _named(name, _schema(name)), _SELF)


def _named(name: str, spec: JSON) -> JSON:
    return {"metadata": {"name": name, "annotations": dict(_KEPT)}, "spec": spec}


def _level(name: str) -> JSON:
    if name not in _LIMITED:
        return {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
    shares, lends, queues = _LIMITED[name]
    response: JSON = {"type": "Reject"}
    if queues is not None:
        queuing = {"queues": queues[0], "handSize": queues[1], "queueLengthLimit": _QUEUE_LENGTH}
        response = {"type": "Queue", "queuing": queuing}
    limited = {"nominalConcurrencyShares": shares, "lendablePercent": lends, "limitResponse": response}
    return {"type": "Limited", "limited": limited}


def _schema(name: str) -> JSON:
    precedence, level, method, subjects, requests = _FLOWS[name]
    spec: JSON = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
    if method:
        spec["distinguisherMethod"] = {"type": method}
    rule: JSON = {"subjects": [_subject(text) for text in subjects]}
    for text in requests:
        field, request = _request(text)
        rule.setdefault(field, []).append(request)
    return spec | {"rules": [rule]}


def _subject(text: str) -> JSON:
    kind, _, name = text.partition(":")
    if kind == "account":
        namespace, _, name = name.partition("/")
        return {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}}
    return {"kind": kind.capitalize(), kind: {"name": name}}


def _request(text: str) -> tuple[str, JSON]:
    parts = [part.split(",") for part in text.split("|")]
    if len(parts) == 2:
        return "nonResourceRules", {"verbs": parts[0], "nonResourceURLs": parts[1] if parts[1] != [""] else ["*"]}
    rule: JSON = {"verbs": parts[0], "apiGroups": parts[1], "resources": parts[2]}
    everywhere = parts[:3] == [["*"]] * 3
    if parts[3] == [""] or everywhere:
        rule["clusterScope"] = True
    if parts[3] != [""]:
        rule["namespaces"] = parts[3]
    return "resourceRules", rule
