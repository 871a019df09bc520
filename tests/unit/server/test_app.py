"""The composition: access, pages, resources, errors and forms of answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from twinstack.api.errors import not_found
from twinstack.server.app import App
from twinstack.server.authentication import ANONYMOUS, Authenticator
from twinstack.server.authorization.decisions import Attributes, Decision, Rules, Verdict
from twinstack.server.authorization.modes import AlwaysAllow
from twinstack.server.discovery import Discovery
from twinstack.server.health import Health
from twinstack.server.messages import Answer, Request, Response, Route, StreamResponse, StreamWriter, UserInfo
from twinstack.server.metrics import Metrics

ALICE = UserInfo(name="alice", groups=("system:authenticated",))


class Resources:
    """Answers with what it was asked, or fails on request."""

    async def handle(self, request: Request, route: Route) -> Answer:
        if route.name == "absent":
            raise not_found(route.resource.plural, route.name)
        if route.name == "broken":
            raise RuntimeError("boom")
        if route.name == "stream":
            return StreamResponse(status=200, produce=self._produce)
        body = json.dumps({"plural": route.resource.plural, "user": request.user.name}, separators=(",", ":"))
        return Response(status=200, body=body.encode())

    async def _produce(self, writer: StreamWriter) -> None:
        return None


class Setting:
    """An app, its readiness and its counters."""

    def __init__(self) -> None:
        self.ready = True
        self.counters = Metrics(lambda: {"pods": 3})
        self.app = App(
            authenticator=Authenticator({"t": ALICE}),
            authorizer=AlwaysAllow(),
            discovery=Discovery("h:1"),
            health=Health({"ping": lambda: True, "store": lambda: True}, {"objects": lambda: self.ready}),
            counters=self.counters,
            resources=Resources(),
            subresources={"log": Resources()},
        )

    def ask(self, target: str, method: str = "GET", token: str = "t", **headers: str) -> Answer:
        path, _, query = target.partition("?")
        fields = {key.replace("_", "-"): value for key, value in headers.items()}
        if token:
            fields["authorization"] = f"Bearer {token}"
        parameters: dict[str, list[str]] = {}
        for pair in filter(None, query.split("&")):
            name, _, value = pair.partition("=")
            parameters.setdefault(name, []).append(value)
        request = Request(method=method, path=path, query=parameters, headers=fields, body=b"", user=ANONYMOUS)
        return asyncio.run(_run(self.app, request))

    def text(self, target: str, status: int = 200, **more: Any) -> str:
        answer = self.ask(target, **more)
        assert isinstance(answer, Response)
        assert answer.status == status
        assert isinstance(answer.body, bytes)
        return answer.body.decode()

    def failure(self, target: str, code: int, **more: Any) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.text(target, code, **more))
        assert (body["kind"], body["code"]) == ("Status", code)
        return body


async def _run(app: App, request: Request) -> Answer:
    return await app(request)


@pytest.fixture
def site() -> Setting:
    return Setting()


def test_resources_go_to_their_handler(site: Setting) -> None:
    assert site.text("/api/v1/pods") == '{"plural":"pods","user":"alice"}'
    assert site.failure("/api/v1/nodes/absent", 404)["message"] == 'nodes "absent" not found'
    assert site.failure("/api/v1/pods", 405, method="POST")["reason"] == "MethodNotAllowed"


def test_failures_that_nobody_foresaw(site: Setting, caplog: pytest.LogCaptureFixture) -> None:
    body = site.failure("/api/v1/nodes/broken", 500)
    assert (body["reason"], body["message"]) == ("InternalError", "Internal error occurred: boom")
    assert "GET /api/v1/nodes/broken" in caplog.text


def test_access(site: Setting) -> None:
    assert site.failure("/api/v1/pods", 401, token="wrong")["reason"] == "Unauthorized"
    body = site.failure("/api/v1/namespaces/ns/pods", 403, token="")
    assert body["message"] == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "ns"'
    )
    assert body["details"] == {"kind": "pods"}
    body = site.failure("/apis/apps/v1/namespaces/ns/deployments/d/scale", 403, token="")
    assert body["message"] == (
        'deployments.apps "d" is forbidden: User "system:anonymous" cannot get resource "deployments/scale" '
        'in API group "apps" in the namespace "ns"'
    )
    for path in ("/api", "/nosuch", "/metrics", "/openapi/v2"):
        message = site.failure(path, 403, token="")["message"]
        assert message == f'forbidden: User "system:anonymous" cannot get path "{path}"'
    for path in ("/healthz", "/livez/ping", "/readyz", "/version", "/version/"):
        site.text(path, token="")
    site.failure("/version", 401, token="wrong")


class NoCreates:
    """An authorizer."""

    def authorize(self, attributes: Attributes) -> Decision:
        return Decision(Verdict.NO_OPINION if attributes.verb == "create" else Verdict.ALLOW)

    def rules_for(self, user: UserInfo, namespace: str) -> Rules:
        return Rules()


def test_a_websocket_to_a_pod_needs_the_right_to_create(site: Setting) -> None:
    path = "/api/v1/namespaces/ns/pods/p/exec"
    assert '"plural":"pods"' in site.text(path)
    site.app._authorizer = NoCreates()
    assert 'cannot create resource "pods/exec"' in site.failure(path, 403)["message"]
    site.text("/api/v1/namespaces/ns/pods/p/log")


def test_what_is_proxied_is_not_made_pretty(site: Setting) -> None:
    for path, pretty in (("pods/p", True), ("pods/p/proxy/x", False)):
        text = site.text(f"/api/v1/namespaces/ns/{path}", user_agent="curl/8")
        assert ("\n" in text) is pretty


def test_impersonation(site: Setting) -> None:
    assert '"user":"bob"' in site.text("/api/v1/pods", impersonate_user="bob")
    site.failure("/api/v1/pods", 403, impersonate_user="system:anonymous")
    site.failure("/api/v1/pods", 403, token="", impersonate_user="bob")


def test_pages(site: Setting) -> None:
    version = json.loads(site.text("/version"))
    assert (version["major"], version["minor"]) == ("1", "36")
    assert version["gitVersion"].startswith("v1.36.")
    assert json.loads(site.text("/apis"))["kind"] == "APIGroupList"
    assert json.loads(site.text("/openapi/v2"))["swagger"] == "2.0"
    assert "api/v1" in json.loads(site.text("/openapi/v3"))["paths"]
    assert json.loads(site.text("/openapi/v3/apis/apps/v1/"))["openapi"] == "3.0.0"
    assert site.failure("/version", 405, method="POST")["reason"] == "MethodNotAllowed"
    site.text("/version", method="HEAD")


def test_the_root_tells_what_there_is(site: Setting) -> None:
    for path in ("/", "/index.html"):
        paths = json.loads(site.text(path))["paths"]
        assert paths == sorted(paths)
        assert {"/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/livez/ping", "/openapi/v2", "/readyz"} < set(paths)


def test_unknown_paths(site: Setting) -> None:
    for path in ("/nosuch", "/apis/nosuch.io/v1", "/openapi/v3/api/v2"):
        assert site.text(path, 404) == "404 page not found\n"
    for path in ("/api/v1/nosuch", "/apis/apps/v1/services"):
        assert site.failure(path, 404)["message"] == "the server could not find the requested resource"


def test_people_get_indented_json(site: Setting) -> None:
    indented = '{\n  "plural": "pods",\n  "user": "alice"\n}'
    for agent in ("curl/8.1", "Wget/1", "Mozilla/5.0 (X11)"):
        assert site.text("/api/v1/pods", user_agent=agent) == indented
    assert site.text("/api/v1/pods?pretty=true") == indented
    assert site.text("/openapi/v3/api/v1?hash=old", 301, user_agent="curl/8.1") == ""
    unchanged = site.ask("/openapi/v2")
    assert isinstance(unchanged, Response)
    known = dict(unchanged.headers)["ETag"]
    assert site.text("/openapi/v2", 304, if_none_match=known, user_agent="curl/8.1") == "", "nothing to indent"
    assert "\n" not in site.text("/api/v1/pods?pretty=false", user_agent="curl/8.1")
    assert "\n" not in site.text("/api/v1/pods", user_agent="kubectl/v1.36")


def test_health(site: Setting) -> None:
    assert site.text("/readyz") == "ok"
    verbose = "[+]ping ok\n[+]store ok\n[+]objects ok\nreadyz check passed\n"
    assert site.text("/readyz?verbose") == verbose
    assert site.text("/livez?verbose") == "[+]ping ok\n[+]store ok\nlivez check passed\n"
    assert site.text("/readyz/objects") == "ok"
    site.ready = False
    failed = "[+]ping ok\n[+]store ok\n[-]objects failed: reason withheld\nreadyz check failed\n"
    assert site.text("/readyz", 500) == failed
    assert site.text("/livez") == "ok"
    assert site.text("/healthz") == "ok"
    site.text("/readyz/objects", 500)
    assert site.text("/livez/objects", 404) == "404 page not found\n"
    assert site.text("/readyz?exclude=objects") == "ok"
    excluded = site.text("/readyz?exclude=objects&exclude=x&verbose")
    assert '[+]objects excluded: ok\nwarn: some health checks cannot be excluded: no matches for "x"\n' in excluded


def test_metrics_count(site: Setting) -> None:
    site.ask("/api/v1/namespaces/ns/pods")
    site.ask("/api/v1/namespaces/ns/pods?watch=1")
    site.ask("/api/v1/nodes/absent")
    stream = site.ask("/api/v1/nodes/stream")
    text = site.text("/metrics")
    shared = 'group="",version="v1",resource="pods",subresource="",scope="namespace"'
    assert f'apiserver_request_total{{code="200",component="apiserver",verb="LIST",{shared}}} 1' in text
    assert f'apiserver_request_total{{code="200",component="apiserver",verb="WATCH",{shared}}} 1' in text
    assert 'code="404",component="apiserver",verb="GET",group="",version="v1",resource="nodes"' in text
    assert f'_bucket{{component="apiserver",verb="LIST",{shared},le="+Inf"}} 1' in text
    assert 'apiserver_current_inflight_requests{request_kind="readOnly"} 1' in text  # this one
    assert 'apiserver_storage_objects{resource="pods"} 3' in text
    assert "process_start_time_seconds" in text
    assert isinstance(stream, StreamResponse)


def test_streams_are_counted_while_they_run(site: Setting) -> None:
    answer = site.ask("/api/v1/nodes/stream")
    assert isinstance(answer, StreamResponse)
    nodes = 'verb="GET",group="",version="v1",resource="nodes",subresource="",scope="resource"'
    line = f'apiserver_longrunning_requests{{component="apiserver",{nodes}}}'
    assert line not in site.text("/metrics")

    class Nowhere:
        def write(self, data: bytes) -> None: ...

        def pending(self) -> int:
            return 0

        async def drain(self) -> None: ...

        async def closed(self) -> None: ...

    asyncio.run(_produce(answer, Nowhere()))
    assert f"{line} 0" in site.text("/metrics")


async def _produce(answer: StreamResponse, writer: StreamWriter) -> None:
    await answer.produce(writer)


def test_how_long_a_client_waits_must_be_a_duration(site: Setting) -> None:
    assert site.text("/api/v1/pods?timeout=1m30s")
    body = site.failure("/api/v1/pods?timeout=soon", 400)
    assert body["message"] == 'invalid timeout specified in the request URL - time: invalid duration "soon"'
    assert isinstance(site.ask("/api/v1/namespaces/ns/pods/stream/log?timeout=soon"), StreamResponse)
