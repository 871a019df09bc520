"""Whether owners exist: what is followed anyway answers at once, of others the server is asked, once an owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from twinstack.api.errors import StatusError
from twinstack.api.meta import Object, OwnerReference
from twinstack.client.discovery import ServedResource, find_resource
from twinstack.client.informer import Informer
from twinstack.client.rest import METADATA, Client
from twinstack.controllers.ownership import FOREGROUND, Owner
from twinstack.controllers.ownershipgraph import Graph

REMEMBERED = 1000  # owners whose state is not asked for again


class _LiveMeta(msgspec.Struct, rename="camel"):
    uid: str
    deletion_timestamp: str | None = None
    finalizers: list[str] = []


class _Live(msgspec.Struct):
    metadata: _LiveMeta


class _Claim(NamedTuple):
    """What a reference says of an owner. All of it must be true: a uid under a wrong name is nobody's."""

    uid: str
    api_version: str
    kind: str
    namespace: str
    name: str


class OwnerStates:
    """`whole` gives the informer of a kind (apiVersion, kind) of which every object is followed, if there is one."""

    def __init__(self, client: Client, graph: Graph, whole: Callable[[str, str], Informer[Any] | None]) -> None:
        self._client = client
        self._graph = graph
        self._whole = whole
        self._present: dict[str, set[_Claim]] = {}  # by uid
        self._absent: dict[_Claim, None] = {}  # stays true: a uid never comes back
        self._asking: dict[_Claim, asyncio.Task[Owner]] = {}
        self._lost: set[str] = set()  # uids told gone while they were asked for
        self._served: dict[tuple[str, str], ServedResource] = {}

    def is_present(self, namespace: str, reference: OwnerReference) -> bool:
        """Whether the owner is known to exist; it may be that nobody knows yet."""
        return self._known(_claim(namespace, reference)) is Owner.PRESENT

    def gone(self, uid: str) -> None:
        """The object was deleted."""
        self._present.pop(uid, None)
        if any(claim.uid == uid for claim in self._asking):
            self._lost.add(uid)

    def doubt(self) -> None:
        """Deletions may have been missed: what was present need no longer be."""
        self._present.clear()

    async def state(self, namespace: str, reference: OwnerReference) -> Owner:
        """One of a kind that the server does not know counts as present: no deletion on doubt.

        So does a namespaced owner of an object that is in no namespace, which cannot be found.
        """
        claim = _claim(namespace, reference)
        known = self._known(claim)
        if known is not None:
            return known
        task = self._asking.get(claim)
        if task is None:
            task = self._asking[claim] = asyncio.create_task(self._ask(claim))
            task.add_done_callback(lambda _: self._asking.pop(claim))
        return await asyncio.shield(task)

    def _known(self, claim: _Claim) -> Owner | None:
        node = self._graph.nodes.get(claim.uid)
        if node is not None and _is(node.obj, claim):
            return _state_of(node.obj)
        informer = self._whole(claim.api_version, claim.kind)
        if informer is not None:
            namespaced = informer.kind.resource.namespaced
            obj = informer.objects.get(f"{claim.namespace}/{claim.name}" if namespaced else claim.name)
            if obj is not None and obj.metadata.uid == claim.uid:
                return _state_of(obj)
        if claim in self._present.get(claim.uid, ()):
            return Owner.PRESENT
        return Owner.ABSENT if claim in self._absent else None

    async def _ask(self, claim: _Claim) -> Owner:
        served = await self._resource(claim)
        if served is None or (served.namespaced and not claim.namespace):
            return Owner.PRESENT
        self._lost.discard(claim.uid)
        live = await self._live(served.path(claim.namespace, claim.name))
        if live is None or live.uid != claim.uid or claim.uid in self._lost:
            self._lost.discard(claim.uid)
            self._absent[claim] = None
            if len(self._absent) > REMEMBERED:
                del self._absent[next(iter(self._absent))]
            return Owner.ABSENT
        if live.deletion_timestamp is not None and FOREGROUND in live.finalizers:
            return Owner.WAITING
        self._present.setdefault(claim.uid, set()).add(claim)
        if len(self._present) > REMEMBERED:
            del self._present[next(iter(self._present))]
        return Owner.PRESENT

    async def _live(self, path: str) -> _LiveMeta | None:
        try:
            return msgspec.json.decode(await self._client.request("GET", path, accept=METADATA), type=_Live).metadata
        except StatusError as error:
            if error.code != 404:
                raise
        return None

    async def _resource(self, claim: _Claim) -> ServedResource | None:
        identity = (claim.api_version, claim.kind)
        served = self._served.get(identity)
        if served is None:
            try:
                served = await find_resource(self._client, *identity)
            except StatusError as error:
                if error.code != 404:
                    raise
            if served is not None:
                self._served[identity] = served
        return served


def _claim(namespace: str, reference: OwnerReference) -> _Claim:
    return _Claim(reference.uid, reference.api_version, reference.kind, namespace, reference.name)


def _is(obj: Object, claim: _Claim) -> bool:
    meta = obj.metadata
    group, _, _ = claim.api_version.rpartition("/")
    own_group, _, _ = obj.api_version.rpartition("/")
    return (
        meta.name == claim.name
        and meta.namespace in ("", claim.namespace)
        and (own_group, obj.kind) == (group, claim.kind)
    )


def _state_of(obj: Object) -> Owner:
    meta = obj.metadata
    waits = meta.deletion_timestamp is not None and FOREGROUND in meta.finalizers
    return Owner.WAITING if waits else Owner.PRESENT
