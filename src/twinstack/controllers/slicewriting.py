"""Carries out what was planned for EndpointSlices, and tells our own writes from those of others."""

from __future__ import annotations

import asyncio

from twinstack.api.discovery import EndpointSlice
from twinstack.api.errors import StatusError
from twinstack.api.kinds import ENDPOINT_SLICES
from twinstack.client.informer import Informer
from twinstack.client.rest import Client
from twinstack.controllers.context import namespace_ends
from twinstack.controllers.packing import Plan


class SliceWriting:
    """`own_write` is set while the informer is told of a write of ours."""

    def __init__(self, client: Client, slices: Informer[EndpointSlice]) -> None:
        self._client = client
        self._slices = slices
        self.own_write = False

    async def apply(self, todo: Plan, *, create: bool) -> BaseException | None:
        """Every write stands for itself: a failed one leaves the others done. Returns the first failure."""
        work = [self._delete(slice_) for slice_ in todo.deletes]
        work += [self._update(slice_) for slice_ in todo.updates]
        if create:
            work += [self._create(slice_) for slice_ in todo.creates]
        results = await asyncio.gather(*work, return_exceptions=True)
        return next((result for result in results if result is not None), None)

    async def _create(self, slice_: EndpointSlice) -> None:
        try:
            self._wrote(await self._client.create(ENDPOINT_SLICES, slice_))
        except StatusError as error:
            if not namespace_ends(error):
                raise

    async def _update(self, slice_: EndpointSlice) -> None:
        self._wrote(await self._client.update(ENDPOINT_SLICES, slice_))

    def _wrote(self, slice_: EndpointSlice) -> None:
        self.own_write = True
        self._slices.wrote(slice_)
        self.own_write = False

    async def _delete(self, slice_: EndpointSlice) -> None:
        meta = slice_.metadata
        try:
            await self._client.delete(ENDPOINT_SLICES, meta.name, meta.namespace, uid=meta.uid)
        except StatusError as error:
            if error.code != 404:
                raise
        self.own_write = True
        self._slices.removed(slice_)
        self.own_write = False
