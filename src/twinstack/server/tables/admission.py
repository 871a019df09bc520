"""Who may do what and how much: roles, quotas, budgets, classes of priority and runtime, certificate requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.server.tables.ages import duration
from twinstack.server.tables.cells import NONE, Cells, Table, age_of, name_of

JSON = dict[str, Any]

_RBAC = "rbac.authorization.k8s.io"
_BINDING = "Name|Role|Age|Users*|Groups*|ServiceAccounts*"
_NOT_SAID = "N/A"


def _binding(obj: JSON, now: float) -> Cells:
    reference = obj.get("roleRef") or {}
    subjects: Sequence[JSON] = obj.get("subjects") or []
    accounts = [
        f"{each.get('namespace', '')}/{each.get('name', '')}" for each in subjects if _is(each, "ServiceAccount")
    ]
    return [
        name_of(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        age_of(obj, now),
        *(", ".join(each.get("name", "") for each in subjects if _is(each, kind)) for kind in ("User", "Group")),
        ", ".join(accounts),
    ]


def _is(subject: JSON, kind: str) -> bool:
    return bool(subject.get("kind") == kind)


def _budget(obj: JSON, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        str(spec.get("minAvailable", _NOT_SAID)),
        str(spec.get("maxUnavailable", _NOT_SAID)),
        status.get("disruptionsAllowed", 0),
        age_of(obj, now),
    ]


def _quota(obj: JSON, now: float) -> Cells:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name in sorted(hard):
        text = f"{name}: {used.get(name, '0')}/{hard[name]}"
        (limits if name.startswith("limits.") else requests).append(text)
    return [name_of(obj), ", ".join(requests), ", ".join(limits), age_of(obj, now)]


def _priority(obj: JSON, now: float) -> Cells:
    policy = obj.get("preemptionPolicy", "")
    return [name_of(obj), obj.get("value", 0), obj.get("globalDefault", False), age_of(obj, now), policy]


def _runtime(obj: JSON, now: float) -> Cells:
    return [name_of(obj), obj.get("handler", ""), age_of(obj, now)]


def _certificate_request(obj: JSON, now: float) -> Cells:
    spec = obj.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    return [
        name_of(obj),
        age_of(obj, now),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if seconds is None else duration(seconds),
        _certificate_state(obj.get("status") or {}),
    ]


def _certificate_state(status: JSON) -> str:
    kinds = {condition.get("type") for condition in status.get("conditions") or []}
    states = [next((kind for kind in ("Denied", "Approved") if kind in kinds), "Pending")]
    if "Failed" in kinds:
        states.append("Failed")
    if status.get("certificate"):
        states.append("Issued")
    return ",".join(states)


TABLES: dict[tuple[str, str], Table] = {
    ("", "resourcequotas"): ("Name|Request|Limit|Age", _quota),
    ("certificates.k8s.io", "certificatesigningrequests"): (
        "Name|Age|SignerName|Requestor|RequestedDuration|Condition",
        _certificate_request,
    ),
    ("node.k8s.io", "runtimeclasses"): ("Name|Handler|Age", _runtime),
    ("policy", "poddisruptionbudgets"): (
        "Name|Min Available|Max Unavailable|Allowed Disruptions:integer|Age",
        _budget,
    ),
    (_RBAC, "clusterrolebindings"): (_BINDING, _binding),
    (_RBAC, "rolebindings"): (_BINDING, _binding),
    ("scheduling.k8s.io", "priorityclasses"): (
        "Name|Value:integer|Global-Default:boolean|Age|PreemptionPolicy",
        _priority,
    ),
}
