"""PriorityClasses (scheduling.k8s.io/v1), and what they mean for a Pod."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, forbidden, forbidden_field, not_supported
from twinstack.api.metadata import immutable
from twinstack.api.resources import resource
from twinstack.server.strategy.base import Reader, Strategy, WriteContext

JSON = dict[str, Any]

CLASSES = resource("scheduling.k8s.io", "priorityclasses")
PREEMPT = "PreemptLowerPriority"
_POLICIES = (PREEMPT, "Never")
_HIGHEST = 1_000_000_000  # of a class that people make

SYSTEM_CLASSES: tuple[JSON, ...] = (
    {
        "metadata": {"name": "system-node-critical"},
        "value": 2_000_001_000,
        "description": "Used for system critical pods that must not be moved from their current node.",
    },
    {
        "metadata": {"name": "system-cluster-critical"},
        "value": 2_000_000_000,
        "description": "Used for system critical pods that must run in the cluster, but can be moved to another "
        "node if necessary.",
    },
)
_SYSTEM = {wanted["metadata"]["name"]: wanted for wanted in SYSTEM_CLASSES}


class PriorityClassStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        obj.setdefault("preemptionPolicy", PREEMPT)

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        _admit_default(ctx, obj)

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        if not old.get("globalDefault"):
            _admit_default(ctx, new)

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        value, policy = obj.get("value", 0), obj["preemptionPolicy"]
        if old is not None:
            errors = []
            if value != old.get("value", 0):
                errors.append(forbidden_field("value", "may not be changed in an update."))
            return errors + immutable("preemptionPolicy", policy, old.get("preemptionPolicy"))
        errors = _reserved_errors(obj)
        if not obj["metadata"]["name"].startswith("system-") and value > _HIGHEST:
            detail = f"maximum allowed value of a user defined priority is {_HIGHEST}"
            errors.append(forbidden_field("value", detail))
        if policy not in _POLICIES:
            errors.append(not_supported("preemptionPolicy", policy, _POLICIES))
        return errors


def _reserved_errors(obj: JSON) -> list[FieldError]:
    """Names that begin with `system-` are those of the two classes every cluster has, as they are."""
    name = obj["metadata"]["name"]
    if not name.startswith("system-"):
        return []
    known = _SYSTEM.get(name)
    if known is None:
        problem = f"{name} is not a known system priority class"
    elif obj.get("value", 0) != known["value"]:
        problem = f"value of {name} PriorityClass must be {known['value']}"
    elif obj.get("globalDefault"):
        problem = f"globalDefault of {name} PriorityClass must be false"
    else:
        return []
    detail = f"priority class names with 'system-' prefix are reserved for system use only. error: {problem}"
    return [forbidden_field("metadata.name", detail)]


def _admit_default(ctx: WriteContext, obj: JSON) -> None:
    """Admission plugin Priority: one default at most. Raises StatusError 403."""
    if not obj.get("globalDefault"):
        return
    name = obj["metadata"]["name"]
    for other in ctx.reader.list(CLASSES):
        if other.get("globalDefault") and other["metadata"]["name"] != name:
            detail = (
                f"PriorityClass {other['metadata']['name']} is already marked as default. Only one default can exist"
            )
            raise forbidden(CLASSES.plural, name, detail, CLASSES.group)


def class_of(reader: Reader, name: str) -> JSON | None:
    """The class a Pod asks for, or the default one; without a name and a default an empty one. None: no such class."""
    if name:
        return reader.get(CLASSES, "", name) or _SYSTEM.get(name)
    return next((each for each in reader.list(CLASSES) if each.get("globalDefault")), {})
