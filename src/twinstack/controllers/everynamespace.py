"""One object that every namespace has: made when the namespace is, made again when somebody deletes it."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from twinstack.api.core import Namespace
from twinstack.api.errors import StatusError
from twinstack.api.kinds import NAMESPACES, Kind
from twinstack.api.meta import Object
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, namespace_ends, synced

T = TypeVar("T", bound=Object)


class Purpose(Protocol[T]):
    """What the object is. `mend` gives a merge patch when an existing one is not as it should be."""

    kind: Kind[T]
    name: str

    def body(self) -> dict[str, Any]: ...

    def mend(self, obj: T) -> dict[str, Any] | None: ...


class EveryNamespaceController(Generic[T]):
    """Follows namespaces and the objects of one name, which alone are watched."""

    def __init__(self, context: Context, purpose: Purpose[T]) -> None:
        self._client = context.client
        self._purpose = purpose
        self._queue = WorkQueue(purpose.name)
        self._namespaces = context.informers.of(NAMESPACES)
        self._objects = context.informers.of(purpose.kind, field_selector=f"metadata.name={purpose.name}")

    async def run(self) -> None:
        await synced(self._namespaces, self._objects)
        self._namespaces.subscribe(self._namespace_changed)
        self._objects.subscribe(self._object_changed)
        await self._queue.run(self._sync)

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and new.metadata.deletion_timestamp is None:
            self._queue.add(new.metadata.name)

    def _object_changed(self, old: T | None, new: T | None) -> None:
        obj = new or old
        if obj is not None:
            self._queue.add(obj.metadata.namespace)

    async def _sync(self, namespace: str) -> None:
        owner = self._namespaces.objects.get(namespace)
        if owner is None or owner.metadata.deletion_timestamp is not None:
            return
        obj = self._objects.objects.get(f"{namespace}/{self._purpose.name}")
        try:
            if obj is None:
                body = self._purpose.body() | {"metadata": self._metadata(namespace)}
                self._objects.wrote(await self._client.create(self._purpose.kind, body))
            elif (patch := self._purpose.mend(obj)) is not None:
                self._objects.wrote(await self._patch(obj, patch))
        except StatusError as error:
            if error.reason != "AlreadyExists" and not namespace_ends(error):
                raise

    def _metadata(self, namespace: str) -> dict[str, Any]:
        metadata: dict[str, Any] = self._purpose.body().get("metadata", {})
        return metadata | {"name": self._purpose.name, "namespace": namespace}

    async def _patch(self, obj: T, patch: dict[str, Any]) -> T:
        meta = obj.metadata
        return await self._client.patch(
            self._purpose.kind, meta.name, meta.namespace, patch, content_type="application/merge-patch+json"
        )
