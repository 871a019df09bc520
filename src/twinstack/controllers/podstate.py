"""The state of a Pod as controllers judge it (core/v1 PodStatus)."""

from __future__ import annotations

from twinstack.api.core import Pod
from twinstack.api.meta import Condition
from twinstack.api.times import parse_time


def condition(conditions: list[Condition], type_: str) -> Condition | None:
    """The condition of a type, of any object."""
    return next((entry for entry in conditions if entry.type == type_), None)


def is_ready(pod: Pod) -> bool:
    ready = condition(pod.status.conditions, "Ready")
    return ready is not None and ready.status == "True"


def is_finished(pod: Pod) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


def is_active(pod: Pod) -> bool:
    """Counts as a replica: neither finished nor on its way out."""
    return not is_finished(pod) and pod.metadata.deletion_timestamp is None


def ready_since(pod: Pod) -> float:
    """Unix time at which the Pod turned ready; 0.0 when it is not, or does not say."""
    ready = condition(pod.status.conditions, "Ready")
    if ready is None or ready.status != "True" or not ready.last_transition_time:
        return 0.0
    return parse_time(ready.last_transition_time)


def available_in(pod: Pod, min_ready_seconds: int, now: float) -> float | None:
    """Seconds until the Pod has been ready for `min_ready_seconds`; 0.0: it has, None: it is not ready."""
    if not is_ready(pod):
        return None
    if min_ready_seconds == 0:
        return 0.0
    return max(0.0, ready_since(pod) + min_ready_seconds - now)
