"""A Kubernetes API client: typed verbs over pooled HTTP/1.1 connections (api-conventions, HTTP semantics RFC 9110).

Answers are decoded from bytes straight into the typed object. A typed object holds only what Twinstack acts
on, so `update` is for objects that we own whole; objects of somebody else are changed with `patch`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from twinstack.api.kinds import Kind
from twinstack.api.meta import Object
from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.pool import Pool
from twinstack.client.status import status_error
from twinstack.client.watching import EventDecoder, WatchEvent

T = TypeVar("T", bound=Object)

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
JSON = "application/json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"  # to accept, one object
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

REQUEST_TIMEOUT = 30.0  # seconds for a whole exchange
ATTEMPTS = 4  # of a request that the server asks to repeat later
LONGEST_WAIT = 10.0  # seconds of a Retry-After that are honoured
WATCH_SECONDS = (300, 600)  # how long a watch is asked to last: spread, so that watches do not return together
SILENCE = 150.0  # seconds without a byte before a watch is dead; servers send a bookmark a minute
CONCURRENCY = 16  # requests under way at once, watches not counted

log = logging.getLogger(__name__)


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _List(msgspec.Struct, Generic[T]):
    items: list[T]
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


class Client:
    """One user's client of one API server; close it when done.

    Every verb raises StatusError for an answer that refuses, and OSError (ConnectionError, TimeoutError,
    ssl.SSLError) when there is no answer.
    """

    def __init__(self, access: ClusterAccess, *, user_agent: str) -> None:
        self.access = access
        self._pool = Pool(access, user_agent)
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._decoders: dict[type, msgspec.json.Decoder[Any]] = {}

    async def get(self, kind: Kind[T], name: str, namespace: str = "") -> T:
        return self._object(kind, await self.request("GET", kind.resource.path(namespace, name)))

    async def list(
        self,
        kind: Kind[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        accept: str = JSON,
    ) -> tuple[list[T], str]:
        """All objects, and the resourceVersion to watch from. No namespace: every one."""
        path = _with_query(
            kind.resource.path(namespace), {"labelSelector": label_selector, "fieldSelector": field_selector}
        )
        answer: _List[T] = self._decoder(_List[kind.type]).decode(  # type: ignore[name-defined]
            await self.request("GET", path, accept=accept)
        )
        for item in answer.items:  # lists leave the type of their items out
            item.kind, item.api_version = kind.resource.kind, kind.resource.group_version
        return answer.items, answer.metadata.resource_version

    async def create(self, kind: Kind[T], obj: T | dict[str, Any], namespace: str = "") -> T:
        """POST; the namespace is the object's own when not given."""
        path = kind.resource.path(namespace or _names(obj)[0])
        return self._object(kind, await self.request("POST", path, _encode(kind, obj)))

    async def update(self, kind: Kind[T], obj: T | dict[str, Any], *, subresource: str = "") -> T:
        """PUT; a resourceVersion in the object makes it fail with Conflict when somebody was faster."""
        path = kind.resource.path(*_names(obj), subresource)
        return self._object(kind, await self.request("PUT", path, _encode(kind, obj)))

    async def patch(
        self,
        kind: Kind[T],
        name: str,
        namespace: str,
        patch: object,
        *,
        subresource: str = "",
        content_type: str = STRATEGIC,
    ) -> T:
        """PATCH with STRATEGIC, MERGE (objects) or JSON_PATCH (a list of operations)."""
        path = kind.resource.path(namespace, name, subresource)
        body = msgspec.json.encode(patch)
        return self._object(kind, await self.request("PATCH", path, body, content_type=content_type))

    async def delete(
        self,
        kind: Kind[T],
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        grace_period: int | None = None,
        propagation: str = "",
    ) -> None:
        """DELETE, only if the object still has `uid` and `resource_version` where given.

        `grace_period` in seconds; `propagation`: Background, Foreground or Orphan.
        """
        options: dict[str, Any] = {}
        preconditions = {key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
        if preconditions:
            options["preconditions"] = preconditions
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        if propagation:
            options["propagationPolicy"] = propagation
        body = msgspec.json.encode({"kind": "DeleteOptions", "apiVersion": "v1"} | options) if options else None
        await self.request("DELETE", kind.resource.path(namespace, name), body)

    async def request(
        self, method: str, path: str, body: bytes | None = None, *, content_type: str = JSON, accept: str = JSON
    ) -> bytes:
        """One exchange; returns the body of a successful answer.

        An answer with Retry-After is waited for and repeated, a few times. `path` may carry a query.
        """
        for attempt in range(1, ATTEMPTS + 1):
            status, headers, answer = await self._exchange(method, path, body, content_type, accept)
            if status < 400:
                return answer
            pause = _retry_after(status, headers)
            if pause is None or attempt == ATTEMPTS:
                break
            log.debug("%s %s: HTTP %d, again in %.1f s", method, path, status, pause)
            await asyncio.sleep(pause)
        raise status_error(status, answer)

    async def watch_batches(
        self,
        kind: Kind[T],
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        initial_events: bool = False,
        accept: str = JSON,
        silence: float = SILENCE,
    ) -> AsyncGenerator[Iterator[WatchEvent[T]], None]:
        """Changes after `resource_version`, as many at a time as came together.

        Until the server ends the stream, normally after some minutes.

        `initial_events` asks for a WatchList: everything that exists as ADDED, then a bookmark that ends it,
        then changes. Raises StatusError when refused or on an ERROR event (410: too old), TimeoutError after
        `silence` seconds without a byte. Close the iterator when leaving early.
        """
        path = _with_query(
            kind.resource.path(namespace),
            {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": resource_version,
                "sendInitialEvents": "true" if initial_events else "",
                "resourceVersionMatch": "NotOlderThan" if initial_events else "",
                "labelSelector": label_selector,
                "fieldSelector": field_selector,
                "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),
            },
        )
        decoder = EventDecoder(kind)
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                connection = await stack.enter_async_context(self._pool.exchange("GET", path, None, JSON, accept))
                if connection.status >= 400:
                    raise status_error(connection.status, await connection.body())
            while True:
                async with asyncio.timeout(silence):
                    chunk = await connection.chunk()
                if not chunk:
                    return
                yield decoder.feed(chunk)

    async def watch(self, kind: Kind[T], namespace: str = "", **options: Any) -> AsyncGenerator[WatchEvent[T], None]:
        """The changes that `watch_batches` gives, one by one."""
        async with aclosing(self.watch_batches(kind, namespace, **options)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def rest(self, seconds: float) -> None:
        """Sleep between tries; ends early when another request finds a server that had gone."""
        await self._pool.rest(seconds)

    async def close(self) -> None:
        """Close every connection; requests under way fail with ConnectionError."""
        await self._pool.close()

    async def _exchange(
        self, method: str, path: str, body: bytes | None, content_type: str, accept: str
    ) -> tuple[int, dict[str, str], bytes]:
        async with (
            self._slots,
            asyncio.timeout(REQUEST_TIMEOUT),
            self._pool.exchange(method, path, body, content_type, accept) as connection,
        ):
            answer = await connection.body()
            return connection.status, connection.headers, answer

    def _decoder(self, type_: Any) -> msgspec.json.Decoder[Any]:
        decoder = self._decoders.get(type_)
        if decoder is None:
            decoder = self._decoders[type_] = msgspec.json.Decoder(type_)
        return decoder

    def _object(self, kind: Kind[T], body: bytes) -> T:
        obj: T = self._decoder(kind.type).decode(body)
        obj.kind, obj.api_version = kind.resource.kind, kind.resource.group_version
        return obj


def _with_query(path: str, parameters: dict[str, str]) -> str:
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"{path}?{query}" if query else path


def _names(obj: Object | dict[str, Any]) -> tuple[str, str]:
    """Namespace and name of a typed object or a JSON one."""
    if isinstance(obj, dict):
        metadata = obj.get("metadata") or {}
        return metadata.get("namespace", ""), metadata.get("name", "")
    return obj.metadata.namespace, obj.metadata.name


def _encode(kind: Kind[T], obj: T | dict[str, Any]) -> bytes:
    if isinstance(obj, dict):
        obj = {"apiVersion": kind.resource.group_version, "kind": kind.resource.kind} | obj
    else:
        obj.kind, obj.api_version = kind.resource.kind, kind.resource.group_version
    return msgspec.json.encode(obj)


def _retry_after(status: int, headers: dict[str, str]) -> float | None:
    """Seconds to wait before the request may be repeated: only where the server says so (RFC 9110 10.2.3)."""
    text = headers.get("retry-after", "")
    if status not in (429, 503) or not text.isdecimal():
        return None
    return min(float(text), LONGEST_WAIT) * random.uniform(1.0, 1.1)
