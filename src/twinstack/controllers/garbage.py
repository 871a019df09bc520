"""Deletes objects whose owners are gone, and ends foreground and orphaning deletions (ownerReferences, finalizers).

Dependents looked after are Pods, ReplicaSets, EndpointSlices and node Leases; their owners may be of any kind.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from twinstack.api.errors import StatusError
from twinstack.api.kinds import DEPLOYMENTS, ENDPOINT_SLICES, LEASES, NODES, PODS, REPLICA_SETS, SERVICES
from twinstack.api.meta import Object, OwnerReference
from twinstack.client.discovery import ServedResource, find_resource
from twinstack.client.informer import Index, Informer
from twinstack.client.rest import MERGE
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.nodelifecycle import LEASE_NAMESPACE
from twinstack.controllers.ownership import FOREGROUND, ORPHAN, Owner, blocks, forgetting, judge, without_finalizer

REMEMBERED = 1000  # absent owners that are not asked for again

log = logging.getLogger(__name__)


class _Live(msgspec.Struct):
    metadata: _LiveMeta


class _LiveMeta(msgspec.Struct, rename="camel"):
    uid: str
    deletion_timestamp: str | None = None
    finalizers: list[str] = []


class GarbageCollector:
    """Event-driven: an owner's deletion brings its dependents, a dependent's arrival a look at its owners.

    What the informers say is confirmed by a live read before anything is deleted.
    """

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = WorkQueue("garbage")
        of = context.informers.of
        self._dependents: dict[str, Informer[Any]] = {
            "pods": of(PODS),
            "replicasets": of(REPLICA_SETS),
            "endpointslices": of(ENDPOINT_SLICES),
            "leases": of(LEASES, namespace=LEASE_NAMESPACE),
        }
        self._owners: dict[str, Informer[Any]] = {
            "deployments": of(DEPLOYMENTS),
            "replicasets": of(REPLICA_SETS),
            "services": of(SERVICES),
            "pods": of(PODS),
            "nodes": of(NODES),
        }
        self._by_owner: dict[str, Index[Any]] = {
            plural: informer.index(_owner_uids) for plural, informer in self._dependents.items()
        }
        self._by_uid = [informer.index(_own_uid) for informer in self._owners.values()]
        self._absent: dict[str, None] = {}  # uids of owners known to be gone: a uid never comes back
        self._served: dict[tuple[str, str], ServedResource | None] = {}

    async def run(self) -> None:
        await synced(*self._dependents.values(), *self._owners.values())
        for plural, informer in self._owners.items():
            informer.subscribe(self._owner_handler(plural))
        for plural, informer in self._dependents.items():
            informer.subscribe(self._dependent_handler(plural))
        await self._queue.run(self._sync, workers=8)

    def _owner_handler(self, plural: str) -> Any:
        def changed(old: Object | None, new: Object | None) -> None:
            if old is not None and new is None:
                self._queue_dependents(old.metadata.uid)
            elif new is not None and new.metadata.deletion_timestamp and _policy(new):
                self._queue.add(f"{plural}/{new.key}")

        return changed

    def _dependent_handler(self, plural: str) -> Any:
        def changed(old: Object | None, new: Object | None) -> None:
            if new is not None:
                references = new.metadata.owner_references
                known = old is not None and old.metadata.owner_references == references
                if not known and not all(self._is_known(reference.uid) for reference in references):
                    self._queue.add(f"{plural}/{new.key}")
            elif old is not None:
                for reference in old.metadata.owner_references:
                    self._queue_owner(reference.uid)

        return changed

    def _is_known(self, uid: str) -> bool:
        return any(index[uid] for index in self._by_uid)

    def _queue_dependents(self, uid: str) -> None:
        for plural, index in self._by_owner.items():
            for key in index[uid]:
                self._queue.add(f"{plural}/{key}")

    def _queue_owner(self, uid: str) -> None:
        """An owner that waits for its dependents may have seen the last one go."""
        for plural, index in zip(self._owners, self._by_uid, strict=True):
            for key, owner in index[uid].items():
                if owner.metadata.deletion_timestamp and _policy(owner):
                    self._queue.add(f"{plural}/{key}")

    async def _sync(self, item: str) -> None:
        plural, _, key = item.partition("/")
        informer = self._dependents.get(plural) or self._owners[plural]
        obj = informer.objects.get(key)
        if obj is None:
            return
        try:
            if obj.metadata.deletion_timestamp is not None:
                await self._finish(informer, obj)
            elif plural in self._dependents and obj.metadata.owner_references:
                await self._examine(informer, obj)
        except StatusError as error:
            if error.code not in (404, 409):
                raise
            if error.code == 409 and informer.objects.get(key) is not None:
                self._queue.add(item, delay=0.5)  # it has changed: look at its new state

    async def _examine(self, informer: Informer[Any], obj: Object) -> None:
        references = obj.metadata.owner_references
        states = {reference.uid: await self._state(obj.metadata.namespace, reference) for reference in references}
        verdict = judge(references, states)
        meta = obj.metadata
        if verdict.delete:
            log.info("deleting %s %s: its owner %s is gone", obj.kind, obj.key, references[0].name)
            waiting = Owner.WAITING in states.values() and self._has_dependents(meta.uid)
            await self._client.delete(
                informer.kind,
                meta.name,
                meta.namespace,
                uid=meta.uid,
                propagation="Foreground" if waiting else "Background",
            )
        elif verdict.forget:
            patch = forgetting(obj, verdict.forget)
            informer.wrote(await self._client.patch(informer.kind, meta.name, meta.namespace, patch))

    async def _finish(self, informer: Informer[Any], owner: Object) -> None:
        """Do what the finalizer of an owner's deletion stands for, then take it off."""
        policy = _policy(owner)
        if policy == ORPHAN:
            for kind, dependent in self._dependents_of(owner.metadata.uid):
                await self._release(kind, dependent, owner.metadata.uid)
        elif policy == FOREGROUND:
            blocking = False
            for kind, dependent in self._dependents_of(owner.metadata.uid):
                if dependent.metadata.deletion_timestamp is None:
                    await self._examine(self._dependents[kind], dependent)
                blocking = blocking or blocks(dependent, owner.metadata.uid)
            if blocking:
                return
        if policy:
            meta = owner.metadata
            patch = without_finalizer(owner, policy)
            await self._client.patch(informer.kind, meta.name, meta.namespace, patch, content_type=MERGE)

    async def _release(self, plural: str, dependent: Object, uid: str) -> None:
        informer, meta = self._dependents[plural], dependent.metadata
        try:
            answer = await self._client.patch(informer.kind, meta.name, meta.namespace, forgetting(dependent, (uid,)))
        except StatusError as error:
            if error.code not in (404, 409, 422):
                raise
        else:
            informer.wrote(answer)

    def _dependents_of(self, uid: str) -> list[tuple[str, Object]]:
        return [(plural, dependent) for plural, index in self._by_owner.items() for dependent in index[uid].values()]

    def _has_dependents(self, uid: str) -> bool:
        return any(index[uid] for index in self._by_owner.values())

    async def _state(self, namespace: str, reference: OwnerReference) -> Owner:
        """Read an owner live. One of a kind that the server does not know counts as present: no deletion on doubt."""
        if reference.uid in self._absent:
            return Owner.ABSENT
        served = await self._resource(reference)
        if served is None:
            return Owner.PRESENT
        path = served.path(namespace, reference.name)
        try:
            live: _LiveMeta | None = msgspec.json.decode(await self._client.request("GET", path), type=_Live).metadata
        except StatusError as error:
            if error.code != 404:
                raise
            live = None
        if live is None or live.uid != reference.uid:
            self._absent[reference.uid] = None
            if len(self._absent) > REMEMBERED:
                del self._absent[next(iter(self._absent))]
            return Owner.ABSENT
        waits = live.deletion_timestamp is not None and FOREGROUND in live.finalizers
        return Owner.WAITING if waits else Owner.PRESENT

    async def _resource(self, reference: OwnerReference) -> ServedResource | None:
        identity = (reference.api_version, reference.kind)
        if self._served.get(identity) is None:
            try:
                self._served[identity] = await find_resource(self._client, *identity)
            except StatusError as error:
                if error.code != 404:
                    raise
                return None
        return self._served[identity]


def _policy(obj: Object) -> str:
    """The finalizer that says how the dependents of an object being deleted are treated, or nothing."""
    return next((entry for entry in obj.metadata.finalizers if entry in (FOREGROUND, ORPHAN)), "")


def _owner_uids(obj: Object) -> list[str]:
    return [reference.uid for reference in obj.metadata.owner_references]


def _own_uid(obj: Object) -> list[str]:
    return [obj.metadata.uid]
