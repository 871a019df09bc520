"""The quality of service class of a Pod, from what its containers request and limit (core/v1 status.qosClass)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from twinstack.api.scalars import quantity

JSON = dict[str, Any]

_COUNTED = ("cpu", "memory")


def qos_class(spec: JSON) -> str:
    """`Guaranteed` when cpu and memory are limited everywhere and requested alike, `BestEffort` when nothing is.

    What the Pod as a whole asks for stands for its containers.
    """
    requests: dict[str, Decimal] = {}
    limits: dict[str, Decimal] = {}
    everywhere = True
    asked = [c.get("resources") or {} for kind in ("containers", "initContainers") for c in spec.get(kind) or []]
    if spec.get("resources"):
        asked = [spec["resources"]]
    for resources in asked:
        _add(requests, resources.get("requests") or {})
        limited = _add(limits, resources.get("limits") or {})
        everywhere = everywhere and limited == len(_COUNTED)
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if everywhere and requests == limits else "Burstable"


def _add(into: dict[str, Decimal], amounts: JSON) -> int:
    """Add the positive amounts of cpu and memory; returns of how many there were some."""
    found = 0
    for name in _COUNTED:
        amount = quantity(amounts[name]) if name in amounts else Decimal(0)
        if amount > 0:
            into[name] = into.get(name, Decimal(0)) + amount
            found += 1
    return found
