"""An event in its two forms: core/v1, which is stored, and events.k8s.io/v1 (KEP-383). Names differ, values do not."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

_TO_EVENTS = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_TO_CORE = {new: old for old, new in _TO_EVENTS.items()}


def to_events_v1(core: JSON) -> JSON:
    """A core/v1 Event under its names in events.k8s.io/v1."""
    return {_TO_EVENTS.get(name, name): value for name, value in core.items()} | {"apiVersion": "events.k8s.io/v1"}


def to_core(event: JSON) -> JSON:
    """An events.k8s.io/v1 Event under its names in core/v1."""
    return {_TO_CORE.get(name, name): value for name, value in event.items()} | {"apiVersion": "v1"}
