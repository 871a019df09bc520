"""Events about what the server itself finds, written like any object (KEP-383).

What happens again within some minutes is counted in the event that is there, as a series.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.server.messages import Route
from twinstack.server.registry import SYSTEM, Registry

log = logging.getLogger(__name__)

JSON = dict[str, Any]

SERIES_SECONDS = 360.0  # after so long a silence the same thing is told anew
_MOST_SERIES = 1000  # remembered; older ones begin anew, too
_MOST_NOTE = 1024  # characters

_EVENTS = resource("events.k8s.io", "events")


class _Series(msgspec.Struct):
    """One event, and when it was last told (monotonic, seconds)."""

    route: Route
    last: float


class Recorder:
    """Warnings of one controller inside the server."""

    def __init__(self, registry: Registry, controller: str) -> None:
        self._registry = registry
        self._controller = controller
        self._instance = f"{controller}-{socket.gethostname()}"[:128]
        self._told: dict[tuple[str, ...], _Series] = {}  # oldest first

    async def warn(self, regarding: JSON, action: str, reason: str, note: str) -> None:
        """Tell about the object that `regarding`, a core/v1 ObjectReference, names. A failure is only logged."""
        key = (regarding.get("uid", ""), regarding["name"], action, reason, note)
        series = self._told.pop(key, None)
        try:
            if series is None or series.last < time.monotonic() - SERIES_SECONDS or not await self._again(series):
                series = _Series(await self._first(regarding, action, reason, note), 0.0)
        except StatusError as error:
            log.warning("cannot write the event %s %r: %s", reason, note, error)
            return
        series.last = time.monotonic()
        if len(self._told) >= _MOST_SERIES:
            del self._told[next(iter(self._told))]
        self._told[key] = series

    async def _first(self, regarding: JSON, action: str, reason: str, note: str) -> Route:
        namespace = regarding.get("namespace") or "default"  # where events about cluster-scoped objects lie
        name = f"{regarding['name']}.{time.time_ns():x}"
        event = {
            "metadata": {"name": name},
            "regarding": regarding,
            "type": "Warning",
            "action": action,
            "reason": reason,
            "note": note[:_MOST_NOTE],
            "eventTime": times.micro_now(),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
        }
        await self._registry.create(Route(_EVENTS, namespace), event, SYSTEM)
        return Route(_EVENTS, namespace, name)

    async def _again(self, series: _Series) -> bool:
        """Count one more occurrence; false when the event is no longer there."""

        def count(event: JSON) -> tuple[JSON, list[str]]:
            before = (event.get("series") or {}).get("count", 1)
            event["series"] = {"count": before + 1, "lastObservedTime": times.micro_now()}
            return event, []

        try:
            await self._registry.change(series.route, count, SYSTEM)
        except StatusError as error:
            if error.code != 404:
                raise
            return False
        return True
