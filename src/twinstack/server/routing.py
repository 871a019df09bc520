"""What a URL means: resource, object, subresource and verb. Pure.

Forms: `/api/v1/[namespaces/NS/]RESOURCE[/NAME[/SUBRESOURCE[/TAIL]]]` and `/apis/GROUP/VERSION/…` alike, each
with or without a slash at the end. An empty namespace segment means all namespaces, as upstream.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from twinstack.api import resources
from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource
from twinstack.server.messages import Request, Route

_GROUPS = {resource.group for resource in resources.RESOURCES if resource.group}
_NAMESPACE_SUBRESOURCES = frozenset(
    subresource.name for subresource in resources.resource("", "namespaces").subresources
)
_COLLECTION_VERBS = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
_OBJECT_VERBS = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCE_VERBS = _OBJECT_VERBS | {"POST": "create"}
_PROXY_VERBS = _SUBRESOURCE_VERBS | {"HEAD": "get", "OPTIONS": "options"}
_STREAMS = ("attach", "exec", "portforward")
_READ_ALL = ("list", "watch")


Rows = Mapping[tuple[str, str, str], Resource]
_BUILT_IN: Rows = {(row.group, row.version, row.plural): row for row in resources.RESOURCES}


def parse(path: str, rows: Rows = _BUILT_IN) -> Route | None:
    """The route of a percent-decoded path; None when no served resource has it.

    `rows` are the resources by group, version and plural.
    """
    parts = path.split("/")
    if parts[-1] == "":
        parts.pop()
    if len(parts) > 3 and parts[1] == "api":
        return _route("", parts[2], parts[3:], rows)
    if len(parts) > 4 and parts[1] == "apis":
        return _route(parts[2], parts[3], parts[4:], rows)
    return None


def _route(group: str, version: str, rest: list[str], rows: Rows) -> Route | None:
    namespace = ""
    namespaced_url = False
    is_namespace_object = len(rest) < 3 or (len(rest) == 3 and rest[2] in _NAMESPACE_SUBRESOURCES)
    if rest[0] == "namespaces" and not is_namespace_object:
        namespace, namespaced_url, rest = rest[1], True, rest[2:]
    resource = rows.get((group, version, rest[0]))
    if resource is None or (namespaced_url and not resource.namespaced):
        return None
    if len(rest) == 1:
        return Route(resource, namespace)
    if resource.namespaced and not namespace:
        return None
    name = rest[1]
    if len(rest) == 2:
        return Route(resource, namespace, name) if name else None
    if resource.subresource(rest[2]) is None or not name or (len(rest) > 3 and rest[2] != "proxy"):
        return None
    return Route(resource, namespace, name, rest[2], "/".join(rest[3:]))


def is_api_path(path: str, groups: Collection[str] = _GROUPS) -> bool:
    """Whether an unknown path lies under an API we serve: its 404 is then a Status, else plain text."""
    parts = path.split("/")
    if len(parts) < 3:
        return False
    return (parts[1] == "api" and parts[2] != "") or (parts[1] == "apis" and parts[2] in groups)


def verb_of(request: Request, route: Route) -> str:
    """The API verb of a request. Raises StatusError 405 for a method that the route does not have."""
    verb = verb_for(request.method, route, watching=is_watch(request))
    if verb is None:
        raise method_not_allowed()
    return verb


def further_verb(verb: str, route: Route) -> str | None:
    """What a request needs to be allowed beside its verb: a WebSocket is asked for by GET, but runs or changes
    something as a POST would (Kubernetes 1.35)."""
    return "create" if verb == "get" and route.subresource in _STREAMS else None


def method_not_allowed() -> StatusError:
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def verb_for(method: str, route: Route, *, watching: bool) -> str | None:
    """The verb of a method on a route, if the route allows it."""
    if route.subresource == "proxy":
        return _PROXY_VERBS.get(method)
    if route.subresource:
        verb = _SUBRESOURCE_VERBS.get(method)
        subresource = route.resource.subresource(route.subresource)
        return verb if subresource is not None and verb in subresource.verbs else None
    if route.name:
        verb = _OBJECT_VERBS.get(method)
    else:
        verb = _COLLECTION_VERBS.get(method)
        if verb == "list" and watching:
            verb = "watch"
        if _misses_namespace(route.resource, route.namespace) and verb not in _READ_ALL:
            return None
    return verb if verb in route.resource.verbs else None


def _misses_namespace(resource: Resource, namespace: str) -> bool:
    return resource.namespaced and not namespace


def is_watch(request: Request) -> bool:
    """`?watch`, `?watch=1`, `?watch=true`: anything but `0` and `false` (meta/v1 ListOptions)."""
    values = request.query.get("watch")
    return values is not None and values[0].lower() not in ("0", "false")
