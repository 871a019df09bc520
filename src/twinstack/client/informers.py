"""The informers of one process: each kind is watched once, whoever asks for it."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar, cast

from twinstack.api.kinds import Kind
from twinstack.api.meta import Object
from twinstack.client.informer import Informer
from twinstack.client.rest import Client

T = TypeVar("T", bound=Object)


class SharedInformers:
    """Makes informers on demand, before `run` starts them all."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._informers: dict[tuple[str, str, str, str], Informer[Any]] = {}

    def of(
        self, kind: Kind[T], *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Informer[T]:
        """The one informer of `kind` with these selectors."""
        identity = (kind.resource.prefix, namespace, label_selector, field_selector)
        informer = self._informers.get(identity)
        if informer is None:
            informer = self._informers[identity] = Informer(
                self.client, kind, namespace=namespace, label_selector=label_selector, field_selector=field_selector
            )
        return cast("Informer[T]", informer)

    def whole(self, group: str, plural: str) -> Informer[Any] | None:
        """The informer that follows every object of a resource, if there is one."""
        for (_, namespace, labels, fields), informer in self._informers.items():
            resource = informer.kind.resource
            if (resource.group, resource.plural) == (group, plural) and not (namespace or labels or fields):
                return informer
        return None

    async def run(self) -> None:
        """Follow the server with all of them for ever; cancel to stop."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run(), name=f"informer {informer.kind.resource.plural}")
