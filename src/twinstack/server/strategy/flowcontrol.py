"""FlowSchemas and PriorityLevelConfigurations (flowcontrol.apiserver.k8s.io/v1): stored, with their references told.

The server holds to its limits of requests in work and does not queue by these; every write of one says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported, required
from twinstack.api.resources import resource
from twinstack.server.strategy.base import Strategy, WriteContext

JSON = dict[str, Any]

LEVELS = resource("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations")
_PRECEDENCE, _LAST = 1000, 10000
_TYPES = ("Exempt", "Limited")
_DISTINGUISHERS = ("ByNamespace", "ByUser")
_RESPONSES = ("Queue", "Reject")
_SHARES = 30
_QUEUING = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}
MANDATORY = ("catch-all", "exempt")


class FlowSchemaStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        obj["spec"]["matchingPrecedence"] = obj["spec"].get("matchingPrecedence") or _PRECEDENCE

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        obj["status"] = {"conditions": [_dangling(ctx, obj["spec"])]}

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        if _level_of(new["spec"]) != _level_of(old["spec"]):
            new["status"] = {"conditions": [_dangling(ctx, new["spec"])]}

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec: JSON = obj["spec"]
        errors: list[FieldError] = []
        precedence = spec["matchingPrecedence"]
        if precedence <= 0:
            errors.append(invalid("spec.matchingPrecedence", precedence, "must be a positive value"))
        elif precedence > _LAST:
            errors.append(invalid("spec.matchingPrecedence", precedence, f"must not be greater than {_LAST}"))
        elif precedence == 1 and obj["metadata"]["name"] != "exempt":
            detail = "only the schema named 'exempt' may have matchingPrecedence 1"
            errors.append(invalid("spec.matchingPrecedence", precedence, detail))
        method = (spec.get("distinguisherMethod") or {}).get("type")
        if method is not None and method not in _DISTINGUISHERS:
            errors.append(not_supported("spec.distinguisherMethod", {"type": method}, _DISTINGUISHERS))
        if not _level_of(spec):
            errors.append(required("spec.priorityLevelConfiguration.name", "must reference a priority level"))
        return errors


class PriorityLevelStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        limited = obj["spec"].get("limited")
        if limited is not None:
            limited.setdefault("nominalConcurrencyShares", _SHARES)
            limited.setdefault("lendablePercent", 0)
            queuing = (limited.get("limitResponse") or {}).get("queuing")
            if queuing is not None:
                for field, value in _QUEUING.items():
                    queuing[field] = queuing.get(field) or value

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec: JSON = obj["spec"]
        kind, name = spec.get("type", ""), obj["metadata"]["name"]
        if kind not in _TYPES:
            return [not_supported("spec.type", kind, _TYPES)]
        if (name == "exempt") != (kind == "Exempt"):
            return [invalid("spec.type", kind, "type must be 'Exempt' if and only if name is 'exempt'")]
        if kind == "Exempt":
            detail = "must be nil if the type is not Limited"
            return [forbidden_field("spec.limited", detail)] if spec.get("limited") else []
        if not spec.get("limited"):
            return [required("spec.limited", "must not be empty when type is Limited")]
        response = (spec["limited"].get("limitResponse") or {}).get("type", "")
        if response not in _RESPONSES:
            return [not_supported("spec.limited.limitResponse.type", response, _RESPONSES)]
        return []


def _level_of(spec: JSON) -> str:
    return str((spec.get("priorityLevelConfiguration") or {}).get("name", ""))


def _dangling(ctx: WriteContext, spec: JSON) -> JSON:
    """Whether the priority level that a FlowSchema names is missing."""
    name = _level_of(spec)
    there = ctx.reader.exists(LEVELS.key("", name))
    says = f'This FlowSchema references the PriorityLevelConfiguration object named "{name}"'
    return {
        "type": "Dangling",
        "status": "False" if there else "True",
        "lastTransitionTime": ctx.now,
        "reason": "Found" if there else "NotFound",
        "message": f"{says} and it exists" if there else f"{says} but there is no such object",
    }
