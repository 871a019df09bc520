"""Requests on resources, handed to the handler of their verb."""

from __future__ import annotations

from twinstack.api.errors import StatusError
from twinstack.server import routing
from twinstack.server.handlers.reading import Reading
from twinstack.server.handlers.watching import Watching
from twinstack.server.handlers.writing import Writing
from twinstack.server.messages import Answer, Request, Route, Upgrade
from twinstack.server.registry import Registry


class ResourceHandler:
    """Every verb of every stored resource. Raises StatusError."""

    def __init__(self, registry: Registry) -> None:
        self._reading = Reading(registry)
        self._watching = Watching(registry)
        self._writing = Writing(registry)

    async def handle(self, request: Request, route: Route) -> Answer:
        deprecated = route.resource.deprecated
        if not deprecated:
            return await self._handle(request, route)
        try:
            answer = await self._handle(request, route)
        except StatusError as error:
            error.warnings.insert(0, deprecated)
            raise
        if not isinstance(answer, Upgrade):
            answer.warnings = [deprecated, *answer.warnings]
        return answer

    async def _handle(self, request: Request, route: Route) -> Answer:
        match routing.verb_of(request, route):
            case "get":
                return await self._reading.get(request, route)
            case "list":
                return await self._reading.list(request, route)
            case "watch":
                return await self._watching.watch(request, route)
            case "create":
                return await self._writing.create(request, route)
            case "update":
                return await self._writing.update(request, route)
            case "patch":
                return await self._writing.patch(request, route)
            case "delete":
                return await self._writing.delete(request, route)
            case "deletecollection":
                return await self._writing.delete_collection(request, route)
            case _:
                raise routing.method_not_allowed()
