"""get and list."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from twinstack.api.errors import not_found
from twinstack.api.resources import Resource
from twinstack.server import componentstatuses
from twinstack.server.handlers.listing import page, wait_for
from twinstack.server.messages import Request, Response, Route
from twinstack.server.options import list_options, resource_version
from twinstack.server.registry import Registry
from twinstack.server.representation import YAML_TYPE, Representation, choose
from twinstack.server.selection import Selection
from twinstack.server.subresources import Shape, shape_of
from twinstack.server.versions import Version, view_of
from twinstack.server.watchcache import Collection


class Reading:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def get(self, request: Request, route: Route) -> Response:
        """One object, or what a subresource shows of it. Raises StatusError."""
        view = view_of(route.resource)
        representation = choose(request, view, single=True)
        wanted = resource_version(request.parameter("resourceVersion"), listing=False)
        if wanted is None:
            await self._registry.current()
        await wait_for(self._registry.cache, wanted)
        version = await self._version(route)
        shape = shape_of(route)
        if type(shape) is not Shape:
            return await _read_answer([msgspec.json.encode(shape.show(view.read(version)))], representation)
        return await _read_answer([representation.form.item(version)], representation)

    async def list(self, request: Request, route: Route) -> Response:
        """Raises StatusError."""
        view = view_of(route.resource)
        representation = choose(request, view, single=False)
        options = list_options(request, watch=False)
        selection = Selection(view, route.namespace, options.label_selector, options.field_selector)
        if options.resource_version is None:
            await self._registry.current()
        cache = self._registry.cache
        shown = await page(cache, await self._collection(route.resource), selection, options)
        return await _read_answer(representation.form.list_body(shown.metadata, shown.versions), representation)

    async def _collection(self, row: Resource) -> Collection:
        if row is not componentstatuses.COMPONENT_STATUSES:
            return self._registry.cache.collection(row)
        return await componentstatuses.collection(self._registry)

    async def _version(self, route: Route) -> Version:
        if route.resource is not componentstatuses.COMPONENT_STATUSES:
            return self._registry.get(route)
        found = (await self._collection(route.resource)).get(route.resource.key("", route.name))
        if found is None:
            raise not_found(route.resource.singular, route.name)
        return found


async def _read_answer(parts: Sequence[bytes], representation: Representation) -> Response:
    """YAML is printed in a thread: of a long list that takes seconds."""
    if representation.yaml:
        return await asyncio.to_thread(answer, parts, representation)
    return answer(parts, representation)


def answer(parts: Sequence[bytes], representation: Representation, status: int = 200) -> Response:
    """JSON parts in the media type that was chosen."""
    if not representation.yaml:
        return Response(status=status, body=parts)
    from twinstack.server.yamlanswers import encode  # people ask for it, programs do not

    return Response(status=status, body=encode(msgspec.json.decode(b"".join(parts))), content_type=YAML_TYPE)
