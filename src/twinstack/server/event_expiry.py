"""Events are forgotten an hour after they last happened, as with kube-apiserver's --event-ttl."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.api.times import parse_time
from twinstack.server.messages import Route
from twinstack.server.options import DeleteOptions
from twinstack.server.registry import SYSTEM, Registry

log = logging.getLogger(__name__)

JSON = dict[str, Any]

EVENT_SECONDS = 3600.0
_INTERVAL_SECONDS = 300.0
_BATCH = 100  # deletions at a time: they share the store's commits
_EVENTS = resource("", "events")
_TIMES = ("lastTimestamp", "eventTime", "firstTimestamp")


async def run(registry: Registry) -> None:
    """Look every few minutes, for as long as the server runs."""
    while True:
        await asyncio.sleep(_INTERVAL_SECONDS)
        await expire(registry, time.time())


async def expire(registry: Registry, now: float) -> None:
    """Delete the events whose time is over. `now` is a Unix time."""
    old = [event for event in registry.reader.list(_EVENTS) if last_seen(event) < now - EVENT_SECONDS]
    for start in range(0, len(old), _BATCH):
        await asyncio.gather(*(_delete(registry, event["metadata"]) for event in old[start : start + _BATCH]))


def last_seen(event: JSON) -> float:
    """Unix time of the last occurrence that a core/v1 Event tells of."""
    series = event.get("series") or {}
    texts = [series.get("lastObservedTime"), *(event.get(name) for name in _TIMES)]
    return max(parse_time(text) for text in (*texts, event["metadata"]["creationTimestamp"]) if text)


async def _delete(registry: Registry, meta: JSON) -> None:
    """An event that happens again at this moment stays."""
    options = DeleteOptions(uid=meta["uid"], resource_version=meta["resourceVersion"])
    try:
        await registry.delete(Route(_EVENTS, meta["namespace"], meta["name"]), SYSTEM, options=options)
    except StatusError as error:
        if error.code not in (404, 409):
            log.warning("cannot delete the old event %s/%s: %s", meta["namespace"], meta["name"], error)
