"""Adoption and release: a controller owns what its selector matches, and nothing else (metadata.ownerReferences)."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from twinstack.api.errors import StatusError
from twinstack.api.kinds import Kind
from twinstack.api.meta import Object
from twinstack.client.informer import Informer
from twinstack.client.rest import Client
from twinstack.controllers.owners import reference_to

T = TypeVar("T", bound=Object)


class Claims:
    """Adopts for one owner. Before the first adoption the owner is read live: a namesake must not inherit."""

    def __init__(self, client: Client, kind: Kind[Any], owner: Object, finalizers: tuple[str, ...] = ()) -> None:
        """`finalizers` come with adoption and go with release."""
        self._client = client
        self._finalizers = list(finalizers)
        self._kind = kind
        self._owner = owner
        self._confirmed = False

    async def adopt(self, informer: Informer[T], obj: T) -> bool:
        """Become the controller of `obj`; False when it is gone, or has changed hands meanwhile."""
        if not self._confirmed:
            self._confirmed = await self._is_alive()
        if not self._confirmed:
            return False
        added = {"finalizers": self._finalizers} if self._finalizers else {}
        return await self._patch(informer, obj, msgspec.to_builtins(reference_to(self._owner)), added)

    async def _is_alive(self) -> bool:
        meta = self._owner.metadata
        try:
            live = (await self._client.get(self._kind, meta.name, meta.namespace)).metadata
        except StatusError as error:
            if error.code != 404:
                raise
            return False
        return live.uid == meta.uid and live.deletion_timestamp is None

    async def release(self, informer: Informer[T], obj: T) -> None:
        """Stop owning `obj`, which the selector no longer matches."""
        taken = {"$deleteFromPrimitiveList/finalizers": self._finalizers} if self._finalizers else {}
        await self._patch(informer, obj, {"$patch": "delete", "uid": self._owner.metadata.uid}, taken)

    async def _patch(
        self, informer: Informer[T], obj: T, reference: dict[str, Any], finalizers: dict[str, list[str]]
    ) -> bool:
        meta = obj.metadata
        patch = {"metadata": {"uid": meta.uid, "ownerReferences": [reference]} | finalizers}
        try:
            informer.wrote(await self._client.patch(informer.kind, meta.name, meta.namespace, patch))
        except StatusError as error:
            if error.code in (404, 409, 422):  # gone, another of the same name, or another controller was faster
                return False
            raise
        return True
