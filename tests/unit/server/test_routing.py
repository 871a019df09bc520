"""URLs to routes and verbs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.errors import StatusError
from twinstack.api.resources import RESOURCES, Resource, resource
from twinstack.server import routing
from twinstack.server.messages import Request, Route, UserInfo

PODS, SERVICES, NODES = resource("", "pods"), resource("", "services"), resource("", "nodes")
NAMESPACES, DEPLOYMENTS = resource("", "namespaces"), resource("apps", "deployments")


def request(method: str, path: str, **query: str) -> Request:
    parameters = {name: [value] for name, value in query.items()}
    return Request(method=method, path=path, query=parameters, headers={}, body=b"", user=UserInfo(name="u"))


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/v1/pods", Route(PODS)),
        ("/api/v1/pods/", Route(PODS)),
        ("/api/v1/namespaces//pods", Route(PODS)),
        ("/api/v1/namespaces/ns/pods", Route(PODS, "ns")),
        ("/api/v1/namespaces/ns/pods/", Route(PODS, "ns")),
        ("/api/v1/namespaces/ns/pods/p", Route(PODS, "ns", "p")),
        ("/api/v1/namespaces/ns/pods/p/log", Route(PODS, "ns", "p", "log")),
        ("/api/v1/namespaces/ns/pods/p/binding/", Route(PODS, "ns", "p", "binding")),
        ("/api/v1/nodes", Route(NODES)),
        ("/api/v1/nodes/n", Route(NODES, "", "n")),
        ("/api/v1/nodes/n/status", Route(NODES, "", "n", "status")),
        ("/api/v1/namespaces", Route(NAMESPACES)),
        ("/api/v1/namespaces/x", Route(NAMESPACES, "", "x")),
        ("/api/v1/namespaces/x/", Route(NAMESPACES, "", "x")),
        ("/api/v1/namespaces/x/status", Route(NAMESPACES, "", "x", "status")),
        ("/api/v1/namespaces/x/finalize", Route(NAMESPACES, "", "x", "finalize")),
        ("/api/v1/namespaces/status/pods", Route(PODS, "status")),
        ("/apis/apps/v1/deployments", Route(DEPLOYMENTS)),
        ("/apis/apps/v1/namespaces/ns/deployments/d/scale", Route(DEPLOYMENTS, "ns", "d", "scale")),
        (
            "/apis/networking.k8s.io/v1/ipaddresses/fd00::1",
            Route(resource("networking.k8s.io", "ipaddresses"), "", "fd00::1"),
        ),
    ],
)
def test_forms_of_paths(path: str, route: Route) -> None:
    assert routing.parse(path) == route


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nosuch",
        "/api/v2/pods",
        "/api/v1/pods/p",  # a namespaced object without its namespace
        "/api/v1/namespaces/ns/nodes",
        "/api/v1/namespaces/ns/namespaces/x",
        "/api/v1/namespaces/ns/pods/p/nosuch",
        "/api/v1/namespaces/ns/pods/p/log/more",
        "/api/v1/namespaces/ns/pods//log",
        "/api/v1/namespaces/ns/configmaps/c/status",
        "/apis/apps/v1",
        "/apis/apps/v1/pods",
        "/apis/apps/v2/deployments",
        "/apis/nosuch.io/v1/things",
        "api/v1/pods",
        "/version",
    ],
)
def test_paths_that_are_no_resource(path: str) -> None:
    assert routing.parse(path) is None


def test_unknown_paths_below_an_api_have_a_status() -> None:
    for path in ("/api/v1/nosuch", "/api/v2/services", "/apis/apps/v1/services", "/apis/apps/v9/deployments"):
        assert routing.is_api_path(path)
    for path in ("/nosuch", "/apis/nosuch.io/v1", "/apis", "/api/", "/openapi/v2/absent"):
        assert not routing.is_api_path(path)


names = st.from_regex(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?", fullmatch=True)


@given(st.sampled_from(RESOURCES), names, names, st.integers(0, 2), st.data())
def test_reads_back_every_path_that_the_table_writes(
    row: Resource, namespace: str, name: str, depth: int, data: st.DataObject
) -> None:
    subresources = [each.name for each in row.subresources]
    subresource = data.draw(st.sampled_from(subresources)) if depth == 2 and subresources else ""
    wanted = Route(row, namespace if row.namespaced else "", name if depth else "", subresource)
    path = row.path(wanted.namespace, wanted.name, wanted.subresource)
    assert routing.parse(path) == wanted
    assert routing.parse(path + "/") == wanted


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [
        ("GET", "/api/v1/pods", "list"),
        ("GET", "/api/v1/namespaces/ns/pods", "list"),
        ("POST", "/api/v1/namespaces/ns/pods", "create"),
        ("DELETE", "/api/v1/namespaces/ns/pods", "deletecollection"),
        ("GET", "/api/v1/namespaces/ns/pods/p", "get"),
        ("PUT", "/api/v1/namespaces/ns/pods/p", "update"),
        ("PATCH", "/api/v1/namespaces/ns/pods/p", "patch"),
        ("DELETE", "/api/v1/namespaces/ns/pods/p", "delete"),
        ("GET", "/api/v1/namespaces/ns/pods/p/log", "get"),
        ("POST", "/api/v1/namespaces/ns/pods/p/binding", "create"),
        ("PUT", "/api/v1/namespaces/x/finalize", "update"),
        ("POST", "/api/v1/nodes", "create"),
        ("DELETE", "/api/v1/nodes", "deletecollection"),
        ("POST", "/api/v1/namespaces/ns/bindings", "create"),
        ("POST", "/api/v1/services", None),  # which namespace?
        ("DELETE", "/api/v1/services", None),
        ("DELETE", "/api/v1/namespaces", None),
        ("PUT", "/api/v1/namespaces/ns/services", None),
        ("POST", "/api/v1/namespaces/ns/services/s", None),
        ("HEAD", "/api/v1/namespaces/ns/services", None),
        ("OPTIONS", "/api/v1/namespaces/ns/services", None),
        ("GET", "/api/v1/namespaces/ns/bindings", None),
        ("DELETE", "/api/v1/namespaces/ns/pods/p/log", None),
        ("GET", "/api/v1/namespaces/ns/pods/p/exec", "get"),
        ("POST", "/api/v1/namespaces/ns/pods/p/portforward", "create"),
        ("PUT", "/api/v1/namespaces/ns/pods/p/attach", None),
        ("GET", "/api/v1/namespaces/ns/pods/https:p:443/proxy/a/b", "get"),
        ("HEAD", "/api/v1/namespaces/ns/services/s/proxy", "get"),
        ("POST", "/api/v1/nodes/n/proxy/", "create"),
        ("OPTIONS", "/api/v1/nodes/n/proxy/", "options"),
        ("TRACE", "/api/v1/nodes/n/proxy/", None),
    ],
)
def test_verbs(method: str, path: str, verb: str | None) -> None:
    route = routing.parse(path)
    assert route is not None
    if verb is not None:
        assert routing.verb_of(request(method, path), route) == verb
        return
    with pytest.raises(StatusError) as caught:
        routing.verb_of(request(method, path), route)
    assert (caught.value.code, caught.value.reason) == (405, "MethodNotAllowed")


def test_a_websocket_needs_what_a_post_would() -> None:
    for path, verb, further in (
        ("/api/v1/namespaces/ns/pods/p/exec", "get", "create"),
        ("/api/v1/namespaces/ns/pods/p/exec", "create", None),
        ("/api/v1/namespaces/ns/pods/p/log", "get", None),
        ("/api/v1/namespaces/ns/pods/p", "get", None),
    ):
        route = routing.parse(path)
        assert route is not None
        assert routing.further_verb(verb, route) == further


@pytest.mark.parametrize(
    ("value", "verb"), [("1", "watch"), ("true", "watch"), ("", "watch"), ("0", "list"), ("FALSE", "list")]
)
def test_watch_is_a_list_with_a_parameter(value: str, verb: str) -> None:
    route = routing.parse("/api/v1/pods")
    assert route is not None
    assert routing.verb_of(request("GET", "/api/v1/pods", watch=value), route) == verb


def test_watch_of_one_object_is_a_get() -> None:
    route = routing.parse("/api/v1/nodes/n")
    assert route is not None
    assert routing.verb_of(request("GET", "/api/v1/nodes/n", watch="1"), route) == "get"
