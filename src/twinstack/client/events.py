"""Events about objects (core/v1 Event): repeated ones are counted, all are sent in the background.

An event is worth less than the work it tells of: it never blocks, and is dropped when the server is away
for long or when one object causes too many.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Any

from twinstack.api import times
from twinstack.api.errors import StatusError
from twinstack.api.kinds import EVENTS
from twinstack.api.meta import Object
from twinstack.client.rest import Client

QUEUE = 1000  # events waiting to be sent
REMEMBERED = 2000  # events whose repetition is counted
BURST = 25  # events about one object at once, refilled at one in REFILL seconds
REFILL = 300.0
ATTEMPTS = 5

log = logging.getLogger(__name__)


class _Told:
    """One event as often as it has happened."""

    __slots__ = ("body", "count", "last", "sent")

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.count = 0
        self.last = ""
        self.sent = False  # the server has it: from now on its count is patched


class EventRecorder:
    """Records events of `component` (`kubelet`, `scheduler` …) on `host`."""

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        self._client = client
        self._component = component
        self._host = host
        self._known: OrderedDict[tuple[str, ...], _Told] = OrderedDict()
        self._pending: OrderedDict[tuple[str, ...], _Told] = OrderedDict()
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # uid -> (tokens, time)
        self._wake = asyncio.Event()

    def event(self, obj: Object, type: str, reason: str, message: str, field_path: str = "") -> None:  # noqa: A002
        """Note that something happened to `obj`. `type` is Normal or Warning; `reason` is one CamelCase word.

        `field_path` names a part of it: `spec.containers{web}`.
        """
        meta = obj.metadata
        identity = (obj.kind, meta.namespace, meta.name, meta.uid, type, reason, message, field_path)
        if not self._within_budget(meta.uid or obj.key):
            return
        told = self._known.get(identity)
        if told is None:
            told = self._known[identity] = _Told(self._body(obj, type, reason, message, field_path))
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(identity)
        told.count += 1
        told.last = times.now()
        self._pending[identity] = told
        if len(self._pending) > QUEUE:
            self._pending.popitem(last=False)
        self._wake.set()

    async def run(self) -> None:
        """Send for ever; cancel to stop."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                _, told = self._pending.popitem(last=False)
                await self._deliver(told)

    async def flush(self, timeout: float = 1.0) -> None:
        """Send what is waiting, for at most `timeout` seconds: before a process ends."""
        try:
            async with asyncio.timeout(timeout):
                while self._pending:
                    await self._deliver(self._pending.popitem(last=False)[1])
        except TimeoutError:
            log.warning("%d events were not sent", len(self._pending))

    async def _deliver(self, told: _Told) -> None:
        pause = 0.2
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._send(told)
                return
            except StatusError as error:
                # Its namespace may be going away, or the event is malformed: sending it again helps nobody.
                log.debug("event %s refused: %s", told.body["metadata"]["name"], error)
                return
            except OSError as error:
                if attempt == ATTEMPTS:
                    log.warning("event %s given up: %s", told.body["metadata"]["name"], error or type(error).__name__)
                    return
            await asyncio.sleep(pause)
            pause *= 2

    async def _send(self, told: _Told) -> None:
        body, metadata = told.body, told.body["metadata"]
        if told.sent:
            count = {"count": told.count, "lastTimestamp": told.last}
            try:
                await self._client.patch(EVENTS, metadata["name"], metadata["namespace"], count)
                return
            except StatusError as error:
                if error.code != 404:
                    raise
                metadata["name"] = _name(body["involvedObject"]["name"])  # it has expired: begin anew
                body["firstTimestamp"], told.count = told.last, 1
        body["count"], body["lastTimestamp"] = told.count, told.last
        await self._client.create(EVENTS, body)
        told.sent = True

    def _body(self, obj: Object, type_: str, reason: str, message: str, field_path: str) -> dict[str, Any]:
        meta, now = obj.metadata, times.now()
        namespace = meta.namespace or "default"
        involved = {
            "apiVersion": obj.api_version,
            "kind": obj.kind,
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "fieldPath": field_path,
        }
        return {
            "metadata": {"name": _name(meta.name), "namespace": namespace},
            "involvedObject": {field: value for field, value in involved.items() if value},
            "reason": reason,
            "message": message,
            "type": type_,
            "source": {"component": self._component} | ({"host": self._host} if self._host else {}),
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            "firstTimestamp": now,
        }

    def _within_budget(self, uid: str) -> bool:
        now = time.monotonic()
        tokens, then = self._budgets.pop(uid, (float(BURST), now))
        tokens = min(tokens + (now - then) / REFILL, float(BURST))
        self._budgets[uid] = (max(tokens - 1.0, 0.0), now)
        if len(self._budgets) > REMEMBERED:
            self._budgets.popitem(last=False)
        return tokens >= 1.0


def _name(subject: str) -> str:
    """A name no other event has: the object's, and the time in nanoseconds in hexadecimal."""
    return f"{subject}.{time.time_ns():x}"
