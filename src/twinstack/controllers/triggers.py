"""When the change happened that a slice update follows: the start of the network programming latency SLI."""

from __future__ import annotations

from collections.abc import Iterable

from twinstack.api.core import Pod, Service
from twinstack.controllers.podstate import condition


class TriggerTimes:
    """Remembers, per Service, the times already accounted for. Times are RFC 3339 in UTC and compare as text."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, str]] = {}

    def observe(self, service: Service, pods: Iterable[Pod]) -> str | None:
        """The earliest change since the last call: of a Pod's readiness, or the Service's creation; None: nothing."""
        now = {pod.metadata.uid: _turned(pod) for pod in pods}
        now[service.metadata.uid] = service.metadata.creation_timestamp
        before = self._seen.get(service.key, {})
        self._seen[service.key] = now
        return min((at for uid, at in now.items() if at > before.get(uid, "")), default=None)

    def forget(self, service_key: str) -> None:
        self._seen.pop(service_key, None)


def _turned(pod: Pod) -> str:
    ready = condition(pod.status.conditions, "Ready")
    return (ready.last_transition_time or "") if ready is not None else ""
