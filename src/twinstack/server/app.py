"""The API server as one handler: who asks, may they, what for, and the answer's form."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from twinstack.api.errors import StatusError, bad_request, internal_error
from twinstack.api.times import parse_duration
from twinstack.server import metrics, openapi, routing
from twinstack.server.authentication import ANONYMOUS, Authenticator
from twinstack.server.authorization.decisions import Authorizer
from twinstack.server.authorization.refusals import require
from twinstack.server.authorization.requests import attributes_of
from twinstack.server.customresources.catalogue import Catalogue
from twinstack.server.discovery import Discovery
from twinstack.server.health import Health
from twinstack.server.http.answers import failure
from twinstack.server.impersonation import become, forget, impersonated
from twinstack.server.inflight import Inflight, is_long_running
from twinstack.server.messages import Answer, Request, Response, Route, StreamResponse, Upgrade
from twinstack.server.metrics import Labels, Metrics
from twinstack.server.version import version_document

log = logging.getLogger(__name__)

T = TypeVar("T")
Page = Callable[[Request], Response | None]
Download = Callable[[], Awaitable[Answer]]

_PEOPLE = ("curl", "Wget", "Mozilla/5.0")  # user agents whose answers are indented, as upstream
_PATHS = ("/index.html", "/metrics", "/openapi/v2", "/openapi/v3", "/version")


class RouteHandler(Protocol):
    """Answers requests on resources."""

    async def handle(self, request: Request, route: Route) -> Answer: ...


class App:
    """`messages.Handler` of the whole API. `subresources` and `reviews` handle those that are no stored objects, by
    name and by plural; `resources` handles everything else. `pages` are documents beside the API,
    `downloads`, by path, those that take time to make. `inflight` bounds how many requests are in work."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        authorizer: Authorizer,
        discovery: Discovery,
        health: Health,
        counters: Metrics,
        resources: RouteHandler,
        subresources: Mapping[str, RouteHandler],
        reviews: Mapping[str, RouteHandler] | None = None,
        pages: Sequence[Page] = (),
        catalogue: Catalogue | None = None,
        downloads: Mapping[str, Download] | None = None,
        inflight: Inflight | None = None,
        anonymous: bool = True,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._discovery = discovery
        self._health = health
        self._counters = counters
        self._resources = resources
        self._subresources = subresources
        self._reviews = reviews or {}
        self._pages = tuple(pages)
        self._catalogue = catalogue or Catalogue()
        self._downloads = downloads or {}
        self._inflight = inflight or Inflight(counters)
        self._anonymous = anonymous

    async def __call__(self, request: Request) -> Answer:
        started = time.perf_counter()
        route = routing.parse(request.path, self._catalogue.rows)
        verb, refused = _verb(request, route)
        kind = self._counters.begin(verb)
        try:
            answer = await self._answer(request, route, verb, refused, kind)
        except StatusError as error:
            answer = failure(error)
        except Exception as error:
            log.exception("%s %s", request.method, request.path)
            answer = failure(internal_error(str(error) or type(error).__name__))
        labels = metrics.labels_of(verb, route)
        status = answer.status if isinstance(answer, Response | StreamResponse) else 101
        self._counters.end(kind, labels, status, time.perf_counter() - started)
        if isinstance(answer, StreamResponse):
            answer.produce = self._counted(answer.produce, labels)
        elif isinstance(answer, Upgrade):
            answer.run = self._counted(answer.run, labels)
        elif answer.content_type == "application/json" and labels.subresource != "proxy" and _for_people(request):
            answer = _indented(answer)
        return answer

    async def _answer(
        self, request: Request, route: Route | None, verb: str, refused: StatusError | None, kind: str
    ) -> Answer:
        if "timeout" in request.query and not is_long_running(verb, route):
            _check_timeout(request.parameter("timeout"))
        user = self._authenticator.authenticate(request.user, request.headers)
        if user is ANONYMOUS and not self._anonymous:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        other = impersonated(request.headers)
        if other is not None:
            user = become(self._authorizer, user, other)
            forget(request.headers)
        request.user = user
        too_many = self._inflight.refusal(kind, verb, route, user)
        if too_many is not None:
            return too_many
        attributes = attributes_of(request, user)
        require(self._authorizer, attributes)
        if refused is not None:
            raise refused
        if route is None:
            download = self._downloads.get(request.path)
            return await download() if download is not None and request.method == "GET" else self._page(request)
        further = routing.further_verb(verb, route)
        if further is not None:
            require(self._authorizer, msgspec.structs.replace(attributes, verb=further))
        special = self._subresources if route.subresource else self._reviews
        handler = special.get(route.subresource or route.resource.plural, self._resources)
        return await handler.handle(request, route)

    def _page(self, request: Request) -> Response:
        """A path that is no resource."""
        page = self._find_page(request)
        if page is not None:
            if request.method in ("GET", "HEAD"):
                return page
            raise routing.method_not_allowed()
        if routing.is_api_path(request.path, self._catalogue.groups):
            raise StatusError(404, "NotFound", "the server could not find the requested resource")
        return Response(
            status=404,
            body=b"404 page not found\n",
            content_type="text/plain; charset=utf-8",
            headers=[("X-Content-Type-Options", "nosniff")],
        )

    def _find_page(self, request: Request) -> Response | None:
        path = request.path.rstrip("/")
        if path in ("", "/index.html"):
            return self._index()
        if path == "/version":
            return Response(status=200, body=version_document())
        if path == "/openapi/v2":
            return openapi.answer(request, self._catalogue.resources)
        if path == "/openapi/v3" or path.startswith("/openapi/v3/"):
            from twinstack.server import openapi_v3  # rarely asked for

            return openapi_v3.answer(request, self._catalogue.custom)
        if path == "/metrics":
            return Response(status=200, body=self._counters.text(), content_type=metrics.CONTENT_TYPE)
        for page in (self._discovery.answer, self._health.answer, *self._pages):
            found = page(request)
            if found is not None:
                return found
        return None

    def _index(self) -> Response:
        """What there is to be found, by path."""
        paths = {*self._discovery.paths(), *self._health.paths(), *self._downloads, *_PATHS}
        return Response(status=200, body=msgspec.json.encode({"paths": sorted(paths)}))

    def _counted(self, work: Callable[[T], Awaitable[None]], labels: Labels) -> Callable[[T], Awaitable[None]]:
        """The same, counted as a stream for as long as it lasts."""

        async def counted(to: T) -> None:
            self._counters.stream(labels, 1)
            try:
                await work(to)
            finally:
                self._counters.stream(labels, -1)

        return counted


def _verb(request: Request, route: Route | None) -> tuple[str, StatusError | None]:
    """The verb, and the refusal of a method that the route lacks, which must wait for the access checks."""
    if route is None:
        return request.method.lower(), None
    try:
        return routing.verb_of(request, route), None
    except StatusError as error:
        return request.method.lower(), error


def _check_timeout(text: str) -> None:
    """Clients say how long they wait, which must be a duration. The server's own limit holds whatever they say."""
    try:
        parse_duration(text)
    except ValueError:
        go = f'time: invalid duration "{text}"'
        raise bad_request(f"invalid timeout specified in the request URL - {go}") from None


def _for_people(request: Request) -> bool:
    pretty = request.query.get("pretty")
    if pretty is not None:
        return pretty[0].lower() not in ("0", "false")
    return request.headers.get("user-agent", "").startswith(_PEOPLE)


def _indented(answer: Response) -> Response:
    body = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
    return msgspec.structs.replace(answer, body=msgspec.json.format(body, indent=2)) if body else answer
