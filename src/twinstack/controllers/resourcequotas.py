"""Keeps the status of every ResourceQuota (core/v1): what is allowed, and how much of it is used.

The API server charges what is made; here it is counted anew when something goes, ends or grows smaller, when a quota
changes, and now and then. Nobody is asked for a kind that no quota counts.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec

from twinstack.api.core import PersistentVolumeClaim, Pod, ResourceQuota, Service
from twinstack.api.errors import StatusError
from twinstack.api.kinds import PERSISTENT_VOLUME_CLAIMS, PODS, RESOURCE_QUOTAS, SERVICES, Kind
from twinstack.api.meta import Object
from twinstack.api.quotas.amounts import Amounts, equal, masked
from twinstack.api.quotas.usage import GroupResource, is_counted, taken_by, total
from twinstack.api.resources import Resource
from twinstack.client.discovery import ServedResource
from twinstack.client.reflector import Reflector
from twinstack.client.rest import Client
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.podstate import is_finished

JSON = dict[str, Any]

RESYNC = 300.0  # seconds, as upstream's --resource-quota-sync-period
_WHOLE: tuple[Kind[Any], ...] = (PODS, SERVICES, PERSISTENT_VOLUME_CLAIMS)  # of which more than the end counts


class ResourceQuotaController:
    """`resync`: seconds after which every quota is counted again."""

    def __init__(self, context: Context, *, resync: float = RESYNC) -> None:
        self._context = context
        self._client = context.client
        self._resync = resync
        self._queue = WorkQueue("resourcequotas")
        self._quotas = context.informers.of(RESOURCE_QUOTAS)
        self._in_namespace = self._quotas.index(lambda quota: [quota.metadata.namespace])
        self._whole = [context.informers.of(kind) for kind in _WHOLE]
        self._watched: set[GroupResource] = {_naming(kind.resource) for kind in _WHOLE}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        await synced(self._quotas, *self._whole)
        self._quotas.subscribe(self._quota_changed)
        for informer in self._whole:
            informer.subscribe(self._handler(_naming(informer.kind.resource)))
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._queue.run(self._sync, workers=2)

    def _quota_changed(self, old: ResourceQuota | None, new: ResourceQuota | None) -> None:
        if new is not None and (old is None or old.spec != new.spec or old.metadata.uid != new.metadata.uid):
            self._queue.add(new.key)

    def _handler(self, kind: GroupResource) -> Callable[[Any, Any], None]:
        def changed(old: Object | None, new: Object | None) -> None:
            if old is not None and _gives_back(old, new):
                self._replenish(kind, old.metadata.namespace)

        return changed

    def _replenish(self, kind: GroupResource, namespace: str) -> None:
        """Count again the quotas of a namespace that `kind` takes of; "" means all namespaces."""
        for key, quota in (self._in_namespace[namespace] if namespace else self._quotas.objects).items():
            if taken_by(kind, quota.spec.hard):
                self._queue.add(key)

    async def _sync(self, key: str) -> None:
        """The quota is read before what it counts: what is charged to it meanwhile makes the write fail.

        Raises StatusError (409: count again), OSError.
        """
        known = self._quotas.objects.get(key)
        if known is None:
            return
        self._queue.add(key, delay=self._resync * random.uniform(0.9, 1.1))
        meta = known.metadata
        served = await self._context.served()
        concerned = [each for each in served.resources if _counts(each, known.spec.hard)]
        for each in concerned:
            await self._watch(each)
        path = f"{RESOURCE_QUOTAS.resource.path(meta.namespace)}?fieldSelector=metadata.name%3D{quote(meta.name)}"
        found = await self._items(path)
        if not found:
            return
        quota = found[0]
        spec: JSON = quota.get("spec") or {}
        hard: JSON = spec.get("hard") or {}
        used: JSON = {}
        for each in (each for each in served.resources if _counts(each, hard)):
            used |= total(_group_resource(each), spec, await self._items(each.path(meta.namespace)))
        await self._write(quota, hard, _kept(quota, hard, used))

    async def _items(self, path: str) -> list[JSON]:
        items: list[JSON] = msgspec.json.decode(await self._client.request("GET", path)).get("items") or []
        return items

    async def _write(self, quota: JSON, hard: Amounts, used: Amounts) -> None:
        status = quota.get("status") or {}
        if equal(status.get("hard") or {}, hard) and equal(status.get("used") or {}, used):
            return
        body = quota | {"apiVersion": "v1", "kind": "ResourceQuota", "status": {"hard": hard, "used": used}}
        try:
            answer = await self._client.update(RESOURCE_QUOTAS, body, subresource="status")
        except StatusError as error:
            if error.code != 404:
                raise
            return
        self._quotas.wrote(answer)

    async def _watch(self, served: ServedResource) -> None:
        """Follow what ends of a kind, from now on."""
        kind = _group_resource(served)
        if kind in self._watched or "watch" not in served.verbs:
            return
        self._watched.add(kind)
        watch = _Endings(self._client, served, lambda namespace: self._replenish(kind, namespace))
        assert self._group is not None
        self._group.create_task(watch.run(), name=f"endings of {served.plural}")


class _Endings(Reflector[Object]):
    """Tells the namespace of every object that goes, and "" when some may have gone unseen. Keeps nothing."""

    def __init__(self, client: Client, served: ServedResource, gone: Callable[[str], None]) -> None:
        group, version = _group_resource(served)[0], served.group_version.rpartition("/")[2]
        row = Resource(group=group, version=version, plural=served.plural, kind=served.kind, schema="")
        super().__init__(client, Kind(row, Object), metadata_only=True)
        self._gone = gone

    def put(self, obj: Object) -> None:
        """What comes is charged by the server."""

    def gone(self, last: Object) -> None:
        self._gone(last.metadata.namespace)

    def complete(self, seen: set[str], version: int) -> None:
        self._gone("")

    def forget(self) -> None:
        self._gone("")


def _gives_back(old: Object, new: Object | None) -> bool:
    """Whether an object may take less than before."""
    if new is None or new.metadata.uid != old.metadata.uid:
        return True
    if isinstance(old, Pod) and isinstance(new, Pod):
        return is_finished(new) and not is_finished(old)
    if isinstance(old, Service) and isinstance(new, Service):
        return old.spec.type != new.spec.type or len(old.spec.ports) != len(new.spec.ports)
    return isinstance(old, PersistentVolumeClaim)


def _kept(quota: JSON, hard: Amounts, used: Amounts) -> dict[str, str]:
    """Of a kind that nobody serves there is what was known before."""
    before = (quota.get("status") or {}).get("used") or {}
    return masked(before, hard) | dict(used)


def _counts(served: ServedResource, hard: Amounts) -> bool:
    kind = _group_resource(served)
    return served.namespaced and "list" in served.verbs and is_counted(kind) and bool(taken_by(kind, hard))


def _group_resource(served: ServedResource) -> GroupResource:
    return served.group_version.rpartition("/")[0], served.plural


def _naming(resource: Resource) -> GroupResource:
    return resource.group, resource.plural
