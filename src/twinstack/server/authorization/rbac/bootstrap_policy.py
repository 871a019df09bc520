"""Upstream's default roles and bindings, read from `bootstrap_policy.txt`. Pure but for that file."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec

JSON = dict[str, Any]

AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_GROUP = "rbac.authorization.k8s.io"
_VERSION = f"{_GROUP}/v1"
_AGGREGATE = f"{_GROUP}/aggregate-to-"
_VERBS = {"read": ["get", "list", "watch"], "write": ["create", "delete", "deletecollection", "patch", "update"]}
_EVENTS: JSON = {"verbs": ["create", "patch", "update"], "apiGroups": ["", "events.k8s.io"], "resources": ["events"]}


class Policy(msgspec.Struct):
    """Objects by kind, in the order of the file."""

    roles: list[JSON] = []
    bindings: list[JSON] = []


def read() -> Policy:
    """Every default role and binding, as they are first stored."""
    return parse(files(__package__).joinpath("bootstrap_policy.txt").read_text("utf-8"))


def parse(text: str) -> Policy:
    """Read the notation that the head of the file explains."""
    policy = Policy()
    bindings: dict[str, JSON] = {}
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        if not line or first.startswith("#"):
            continue
        if first in ("role", "controller"):
            name = rest if first == "role" else f"system:controller:{rest}"
            role = _role(name)
            policy.roles.append(role)
            bindings.clear()
            if first == "controller":
                policy.bindings.append(_binding(role, role["metadata"]["name"], [_account("kube-system", rest)]))
        elif first == "to":
            subject, _, name = rest.partition(" as ")
            name = name or role["metadata"]["name"]
            if name not in bindings:
                bindings[name] = _binding(role, name, [])
                policy.bindings.append(bindings[name])
            bindings[name]["subjects"] += _subjects(subject)
        elif first == "part":
            role["metadata"]["labels"][_AGGREGATE + rest.removeprefix("of ")] = "true"
        elif first == "gathers":
            role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {_AGGREGATE + rest: "true"}}]}
        else:
            role["rules"].append(_rule(first, rest))
    return policy


def _metadata(name: str, namespace: str) -> JSON:
    metadata: JSON = {"name": name, "namespace": namespace} if namespace else {"name": name}
    labels = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    return metadata | {"labels": labels, "annotations": {AUTOUPDATE: "true"}}


def _role(path: str) -> JSON:
    namespace, _, name = path.rpartition("/")
    kind = "Role" if namespace else "ClusterRole"
    return {"kind": kind, "apiVersion": _VERSION, "metadata": _metadata(name, namespace), "rules": []}


def _binding(role: JSON, name: str, subjects: list[JSON]) -> JSON:
    reference = {"apiGroup": _GROUP, "kind": role["kind"], "name": role["metadata"]["name"]}
    return {
        "kind": f"{role['kind']}Binding",
        "apiVersion": _VERSION,
        "metadata": _metadata(name, role["metadata"].get("namespace", "")),
        "subjects": subjects,
        "roleRef": reference,
    }


def _subjects(text: str) -> list[JSON]:
    kind, _, name = text.partition(" ")
    if kind == "nobody":
        return []
    if kind == "ServiceAccount":
        namespace, _, name = name.partition("/")
        return [_account(namespace, name)]
    return [{"kind": kind, "apiGroup": _GROUP, "name": name}]


def _account(namespace: str, name: str) -> JSON:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def _rule(verbs: str, rest: str) -> JSON:
    if verbs == "event":
        return msgspec.json.decode(msgspec.json.encode(_EVENTS), type=JSON)
    found = sorted(verb for word in verbs.split(",") for verb in _VERBS.get(word, [word]))
    groups, colon, resources = rest.partition(": ")
    if not colon:
        return {"verbs": found, "nonResourceURLs": sorted(rest.split())}
    resources, _, names = resources.partition(" = ")
    rule = {
        "verbs": found,
        "apiGroups": sorted("" if group == "core" else group for group in groups.split(",")),
        "resources": sorted(resources.split()),
    }
    return rule | {"resourceNames": sorted(names.split())} if names else rule
