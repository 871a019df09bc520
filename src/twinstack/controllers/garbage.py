"""Deletes objects whose owners are gone, and ends foreground and orphaning deletions (ownerReferences, finalizers).

Owners and dependents may be of any kind that the server serves. Kinds that another controller follows whole are
followed with it; of the others only metadata is watched, and only of what has owners or waits something is kept.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from twinstack.api.errors import StatusError
from twinstack.api.kinds import Kind
from twinstack.api.meta import Object
from twinstack.api.resources import Resource
from twinstack.client.discovery import ServedResource
from twinstack.client.informer import Handler, Informer
from twinstack.client.reflector import Reflector
from twinstack.client.rest import MERGE
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context
from twinstack.controllers.ownership import (
    FOREGROUND,
    ORPHAN,
    deletion_policy,
    forgetting,
    is_waiting,
    judge,
    propagation,
    unblocking,
    without_finalizer,
)
from twinstack.controllers.ownership import blocks as blocks_deletion
from twinstack.controllers.ownershipgraph import Graph, Node
from twinstack.controllers.ownerstates import OwnerStates
from twinstack.controllers.ownerwatch import OwnerWatch

REDISCOVERY = 300.0  # seconds after which kinds are looked for that an extension may have brought
SYNC_PATIENCE = 5.0  # seconds that one kind may take to be known before the others go on without it
CONFLICT_PAUSE = 0.5  # seconds in which the newer state of an object arrives
_DEFINE_KINDS = frozenset({"customresourcedefinitions", "apiservices"})

log = logging.getLogger(__name__)


class GarbageCollector:
    """Event-driven: an owner's deletion brings its dependents, a dependent's arrival a look at its owners.

    Nothing is deleted but by an owner's absence that the server itself has told, in the version that was judged.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._client = context.client
        self._queue = WorkQueue("garbage")
        self._graph = Graph()
        self._followed: set[tuple[str, str]] = set()  # group, plural
        self._whole: dict[tuple[str, str], Informer[Any]] = {}  # by group and kind
        self._states = OwnerStates(self._client, self._graph, self._informer)
        self._kinds_changed = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            await self._follow_all(group)
            group.create_task(self._queue.run(self._sync, workers=8))
            while True:
                try:
                    await asyncio.wait_for(self._kinds_changed.wait(), REDISCOVERY)
                except TimeoutError:
                    pass
                else:
                    await asyncio.sleep(1.0)  # until what was defined is served
                self._kinds_changed.clear()
                await self._follow_all(group)

    async def _follow_all(self, group: asyncio.TaskGroup) -> None:
        """Follow what is not yet followed; metadata one kind after the other, so that a start is not crowded."""
        found = [served for served in await self._served() if self._is_followable(served)]
        self._followed.update((_group(served), served.plural) for served in found)
        informers = [self._context.informers.whole(_group(served), served.plural) for served in found]
        shared = [informer for informer in informers if informer is not None]
        for informer in shared:
            await self._patiently(informer)
            self._whole[informer.kind.resource.group, informer.kind.resource.kind] = informer
        for informer in shared:
            informer.subscribe(self._handler(informer.kind))
        for served, followed in zip(found, informers, strict=True):
            if followed is None:
                watch = self._watch(served)
                group.create_task(watch.run(), name=f"metadata of {served.plural}")
                await self._patiently(watch)

    def _is_followable(self, served: ServedResource) -> bool:
        """Events come in masses, own nothing, and go by themselves."""
        known = (_group(served), served.plural) in self._followed
        return not known and {"list", "watch", "delete"} <= set(served.verbs) and served.plural != "events"

    async def _patiently(self, source: Reflector[Any]) -> None:
        try:
            await asyncio.wait_for(source.synced(), SYNC_PATIENCE)
        except TimeoutError:
            log.warning("garbage collection goes on without knowing the %s", source.kind.resource.plural)

    async def _served(self) -> list[ServedResource]:
        pause = 0.2
        while True:
            try:
                return (await self._context.served(newer_than=0.0 if self._followed else 30.0)).resources
            except (StatusError, OSError) as error:
                log.debug("discovery: %s; again in %.1f s", error, pause)
            await self._client.rest(pause)
            pause = min(pause * 2, 10.0)

    def _watch(self, served: ServedResource) -> OwnerWatch:
        group, version = _group(served), served.group_version.rpartition("/")[2]
        resource = Resource(
            group=group,
            version=version,
            plural=served.plural,
            kind=served.kind,
            schema="",
            namespaced=served.namespaced,
        )
        kind = Kind(resource, Object)

        def missed() -> None:
            self._states.doubt()
            for uid in self._graph.owned_by(group, served.kind):
                self._queue.add(uid)

        return OwnerWatch(self._client, kind, self._handler(kind), missed)

    def _handler(self, kind: Kind[Any]) -> Handler[Any]:
        defines = kind.resource.plural in _DEFINE_KINDS

        def changed(old: Object | None, new: Object | None) -> None:
            if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
                self._gone(old)
            if new is not None:
                self._there(kind, new)
            if defines:
                self._kinds_changed.set()

        return changed

    def _gone(self, obj: Object) -> None:
        uid = obj.metadata.uid
        self._states.gone(uid)
        for concerned in self._graph.remove(uid, obj.metadata.owner_references):
            self._queue.add(concerned)

    def _there(self, kind: Kind[Any], obj: Object) -> None:
        meta = obj.metadata
        for uid in self._graph.put(kind, obj):
            news = uid != meta.uid or is_waiting(obj)
            # In the usual case a controller has just made the object, and its owner is well known.
            if news or not all(self._states.is_present(meta.namespace, ref) for ref in meta.owner_references):
                self._queue.add(uid)

    def _informer(self, api_version: str, kind: str) -> Informer[Any] | None:
        return self._whole.get((api_version.rpartition("/")[0], kind))

    async def _sync(self, uid: str) -> None:
        node = self._graph.nodes.get(uid)
        if node is None:
            return
        try:
            if node.obj.metadata.deletion_timestamp is not None:
                await self._finish(node)
            else:
                await self._examine(node)
        except StatusError as error:
            if error.code not in (404, 409):
                raise
            if error.code == 409:
                self._queue.add(uid, delay=CONFLICT_PAUSE)

    async def _examine(self, node: Node) -> None:
        kind, obj = node
        meta = obj.metadata
        states = {ref.uid: await self._states.state(meta.namespace, ref) for ref in meta.owner_references}
        verdict = judge(meta.owner_references, states)
        if verdict.forget:
            await self._patch(node, forgetting(obj, verdict.forget))
        if not verdict.delete:
            return
        if verdict.waited and any(is_waiting(dependent.obj) for dependent in self._graph.dependents(meta.uid)):
            # Owners and dependents in a circle: somebody must not be waited for.
            await self._patch(node, unblocking(obj))
            node = self._graph.nodes.get(meta.uid, node)
            version = ""
        else:
            version = meta.resource_version
        policy = propagation(obj, verdict, has_dependents=self._graph.has_dependents(meta.uid))
        log.info("deleting %s %s: its owner %s is gone", obj.kind, obj.key, meta.owner_references[0].name)
        await self._client.delete(
            kind, meta.name, meta.namespace, uid=meta.uid, resource_version=version, propagation=policy
        )

    async def _finish(self, node: Node) -> None:
        """Do what the finalizer of an owner's deletion stands for, then take it off."""
        obj = node.obj
        uid, policy = obj.metadata.uid, deletion_policy(obj)
        dependents = list(self._graph.dependents(uid))
        if policy == ORPHAN:
            await asyncio.gather(*(self._release(dependent, uid) for dependent in dependents))
            if self._graph.has_dependents(uid):
                self._queue.add(uid, delay=CONFLICT_PAUSE)
                return
        elif policy == FOREGROUND:
            for dependent in dependents:
                if dependent.obj.metadata.deletion_timestamp is None:
                    self._queue.add(dependent.obj.metadata.uid)
            if any(blocks_deletion(dependent.obj, uid) for dependent in dependents):
                return  # the last one to go brings this one back
        if policy:
            # The answer is not taken in: this is the end of the object, of which the watch tells.
            meta, patch = obj.metadata, without_finalizer(obj, policy)
            await self._client.patch(node.kind, meta.name, meta.namespace, patch, content_type=MERGE)

    async def _release(self, dependent: Node, uid: str) -> None:
        try:
            await self._patch(dependent, forgetting(dependent.obj, (uid,)))
        except StatusError as error:
            if error.code not in (404, 409):
                raise

    async def _patch(self, node: Node, patch: dict[str, Any]) -> None:
        """Patch, and take in the answer: the next look is at what it has become."""
        kind, meta = node.kind, node.obj.metadata
        answer = await self._client.patch(kind, meta.name, meta.namespace, patch, content_type=MERGE)
        informer = self._whole.get((kind.resource.group, kind.resource.kind))
        if informer is not None:
            informer.wrote(answer)
        elif meta.uid in self._graph.nodes:
            for uid in self._graph.put(kind, answer):
                self._queue.add(uid)


def _group(served: ServedResource) -> str:
    return served.group_version.rpartition("/")[0]
