"""create, update, patch, delete and deletecollection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from twinstack.api.decoding import decode_object
from twinstack.api.errors import StatusError
from twinstack.server.eviction import evict
from twinstack.server.handlers.listing import page
from twinstack.server.handlers.reading import answer
from twinstack.server.messages import Request, Response, Route
from twinstack.server.options import DeleteOptions, delete_options, list_options, write_options
from twinstack.server.patching import APPLY_PATCH
from twinstack.server.plans import Written
from twinstack.server.registry import Registry
from twinstack.server.representation import Representation, choose
from twinstack.server.selection import Selection
from twinstack.server.selfreview import SELF_SUBJECT_REVIEWS, review_self
from twinstack.server.subresources import shape_of
from twinstack.server.versions import Version, view_of

JSON = dict[str, Any]

_BATCH = 100  # deletions at a time: they share the store's commits


class Writing:
    """Every method raises StatusError."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def create(self, request: Request, route: Route) -> Response:
        representation = _acceptable(request, route)
        options = write_options(request, "CreateOptions")
        obj, warnings = self._body(request, route, options.field_validation)
        with _warning(warnings):
            if route.subresource == "eviction":
                written = await evict(self._registry, route, obj, request.user, options)
            elif route.resource is SELF_SUBJECT_REVIEWS:
                written = review_self(request.user)
            else:
                written = await self._registry.create(route, obj, request.user, options)
        return _answer(representation, written, warnings)

    async def update(self, request: Request, route: Route) -> Response:
        representation = _acceptable(request, route)
        options = write_options(request, "UpdateOptions")
        obj, warnings = self._body(request, route, options.field_validation)
        with _warning(warnings):
            written = await self._registry.update(route, obj, request.user, options)
        return _answer(representation, written, warnings)

    async def patch(self, request: Request, route: Route) -> Response:
        kind = media_type(request)
        representation = _acceptable(request, route)
        options = write_options(request, "PatchOptions", apply=kind == APPLY_PATCH)
        written = await self._registry.patch(route, request.body, kind, request.user, options)
        return _answer(representation, written, [])

    async def delete(self, request: Request, route: Route) -> Response:
        representation = _acceptable(request, route)
        options = self._delete_options(request)
        written = await self._registry.delete(route, request.user, options=options)
        if written.removed and not route.resource.returns_deleted:
            return Response(status=200, body=_deleted_status(route, written))
        status = 202 if options.orphan is False and not written.removed else 200
        return answer([written.value], representation, status)

    async def delete_collection(self, request: Request, route: Route) -> Response:
        """Delete what a list with the same query shows; one page of it if there is a limit."""
        wanted = self._delete_options(request)
        options = list_options(request, watch=False)
        view = view_of(route.resource)
        representation = choose(request, view, single=False)
        selection = Selection(view, route.namespace, options.label_selector, options.field_selector)
        if options.resource_version is None:
            await self._registry.current()
        cache = self._registry.cache
        found = await page(cache, cache.collection(route.resource), selection, options)
        for start in range(0, len(found.versions), _BATCH):
            batch = found.versions[start : start + _BATCH]
            deletions = (self._delete_listed(request, route, version, wanted) for version in batch)
            for failure in await asyncio.gather(*deletions, return_exceptions=True):
                if failure is not None:
                    raise failure
        return answer(representation.form.list_body(found.metadata, found.versions), representation)

    async def _delete_listed(self, request: Request, route: Route, version: Version, options: DeleteOptions) -> None:
        namespace, name = route.resource.split_key(version.key)
        try:
            await self._registry.delete(Route(route.resource, namespace, name), request.user, options=options)
        except StatusError as error:
            if error.reason != "NotFound":  # somebody else has deleted it
                raise

    def _body(self, request: Request, route: Route, field_validation: str) -> tuple[JSON, list[str]]:
        return decode_object(request.body, content_type(request), shape_of(route).body, field_validation)

    def _delete_options(self, request: Request) -> DeleteOptions:
        if not request.body:
            return delete_options(None, request.query)
        body, _ = decode_object(request.body, content_type(request), None, "Ignore")
        return delete_options(body, request.query)


def _acceptable(request: Request, route: Route) -> Representation:
    """How the answer will be written; what cannot be answered is not done. Raises StatusError 406."""
    return choose(request, view_of(route.resource), single=True)


def _answer(representation: Representation, written: Written, warnings: list[str]) -> Response:
    response = answer([written.value], representation, 201 if written.created else 200)
    response.warnings = [*warnings, *written.warnings]
    return response


@contextmanager
def _warning(warnings: list[str]) -> Iterator[None]:
    """What the body was worth a warning for is said also when the request fails."""
    try:
        yield
    except StatusError as error:
        error.warnings[:0] = warnings
        raise


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "")


def media_type(request: Request) -> str:
    """The content type without parameters."""
    return content_type(request).partition(";")[0].strip().lower()


def _deleted_status(route: Route, written: Written) -> bytes:
    row = route.resource
    details: JSON = {"name": route.name}
    if row.group:
        details["group"] = row.group
    details |= {"kind": row.plural, "uid": written.object["metadata"].get("uid", "")}
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    return msgspec.json.encode(status)
