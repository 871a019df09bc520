"""What a DELETE of a CustomResourceDefinition comes to: it stays until its objects are gone. Pure."""

from __future__ import annotations

from typing import Any

from twinstack.api.times import format_time
from twinstack.server.customresources.names import with_condition

JSON = dict[str, Any]

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_SOON = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"


def hold_definition(definition: JSON, now: float) -> None:
    """Add the finalizer and the condition, in place. `now` is a Unix time."""
    finalizers = definition["metadata"].setdefault("finalizers", [])
    if FINALIZER not in finalizers:
        finalizers.append(FINALIZER)
    status = definition.setdefault("status", {})
    status["conditions"] = with_condition(
        status.get("conditions") or [], "Terminating", "True", "InstanceDeletionPending", _SOON, format_time(now)
    )
