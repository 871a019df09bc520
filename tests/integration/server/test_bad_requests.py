"""Requests that nobody should send, to a real server: it answers in the API's own form and goes on serving."""

from __future__ import annotations

import copy
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server_process import HOST, JSON, TOKEN, Server

CONFIG_MAPS = b"/api/v1/namespaces/default/configmaps"
SERVICES = b"/api/v1/namespaces/default/services"
PROTOBUF = b"application/vnd.kubernetes.protobuf"
YAML = b"application/yaml"
JSON_PATCH = b"application/json-patch+json"
STRATEGIC = b"application/strategic-merge-patch+json"
AUTHORIZED = f"Host: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
MEGABYTE = 1 << 20


class Running:
    """A server, and connections to it on which anything can be sent."""

    def __init__(self, server: Server, process: subprocess.Popen[bytes]) -> None:
        self.server = server
        self.process = process
        self._context = ssl.create_default_context(cafile=str(server.certificate))

    @contextmanager
    def connection(self) -> Iterator[ssl.SSLSocket]:
        with socket.create_connection((HOST, self.server.port), timeout=60) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._context.wrap_socket(plain, server_hostname=HOST) as wrapped:
                yield wrapped

    def send(self, data: bytes) -> tuple[int, bytes]:
        """The status and body of the one answer to `data`."""
        with self.connection() as connection:
            with suppress(OSError):  # refused before all was sent: the answer is there
                connection.sendall(data)
            return read_answer(connection)

    def is_well(self) -> None:
        assert self.process.poll() is None
        assert self.server.get("/readyz") == b"ok"
        assert "Traceback" not in self.server.log(), self.server.log()


def read_answer(connection: ssl.SSLSocket) -> tuple[int, bytes]:
    head, _, body = read_until(connection, b"\r\n\r\n").partition(b"\r\n\r\n")
    status = int(head.split(None, 2)[1])
    found = re.search(rb"(?i)content-length: (\d+)", head)
    assert found is not None, head
    while len(body) < int(found[1]):
        body += connection.recv(1 << 16) or pytest.fail("cut off")
    return status, body


def read_until(connection: ssl.SSLSocket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        data += connection.recv(1 << 16) or pytest.fail(f"no answer, only {data!r}")
    return data


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = Server(tmp_path_factory.mktemp("server"))
    with server.running() as process:
        yield Running(server, process)


@pytest.fixture(autouse=True)
def well(running: Running) -> Iterator[None]:
    yield
    running.is_well()


def request(
    method: bytes, path: bytes, body: bytes = b"", content_type: bytes = b"application/json", more: bytes = b""
) -> bytes:
    head = b"%b %b HTTP/1.1\r\n%bContent-Type: %b\r\n%b" % (method, path, AUTHORIZED, content_type, more)
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def post(body: bytes, content_type: bytes = b"application/json") -> bytes:
    return request(b"POST", CONFIG_MAPS, body, content_type)


def deep(levels: int, inner: bytes = b"1") -> bytes:
    return b'{"a":' * levels + inner + b"}" * levels


def aliases(levels: int) -> bytes:
    """A few hundred bytes that mean 9^levels texts."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines).encode()


def named(rest: str) -> bytes:
    return f'{{"metadata":{{"name":"bad"}},{rest}}}'.encode()


def unknown(kind: bytes, raw: bytes) -> bytes:
    """A protobuf body of a ConfigMap whose message is `raw`, shorter than 128 bytes."""
    meaning = b"\x0a\x02v1\x12%c%b" % (len(kind), kind)
    return b"k8s\0\x0a%c%b\x12%c%b" % (len(meaning), meaning, len(raw), raw)


BODIES = {
    "cut short": (post(b'{"metadata":'), 400, "unexpected end of JSON input"),
    "garbage": (post(b"\x00\xff\xfe{"), 400, "invalid character"),
    "nothing": (post(b""), 400, "unexpected end of JSON input (<empty>)"),
    "a list": (post(b"[]"), 400, "cannot unmarshal array"),
    "a number": (post(b"1e999999"), 400, "cannot unmarshal number"),
    "another kind": (
        post(b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}'),
        400,
        'Pod in version "v1" cannot be handled as a ConfigMap',
    ),
    "a wrong type": (post(b'{"metadata":{"name":3}}'), 400, "cannot unmarshal number into Go struct field"),
    "ten megabytes": (post(named('"data":{"a":"%s"}' % ("a" * 10 * MEGABYTE))), 413, "limit is 3145728"),
    "deep lists": (post(b"[" * 100_000), 400, "exceeded max depth"),
    "deep objects": (post(deep(100_000)), 400, "exceeded max depth"),
    "deep enough for the stack": (post(deep(600)), 400, "exceeded max depth"),
    "deep where all is allowed": (
        post(b'{"metadata":{"name":"bad","managedFields":[{"fieldsV1":%b}]}}' % deep(300)),
        400,
        "exceeded max depth",
    ),
    "many parts": (post(named(f'"data":[{"{}," * 200_000}{{}}]')), 400, "too many parts"),
    "a long number": (post(named(f'"immutable":{"9" * 100_000}')), 400, "cannot unmarshal number"),
    "a number beyond int64": (
        post(b'{"metadata":{"name":"bad","generation":9223372036854775808}}'),
        400,
        "cannot unmarshal number 9223372036854775808",
    ),
    "NUL in a name": (post(b'{"metadata":{"name":"a\\u0000b"}}'), 422, "metadata.name"),
    "half a surrogate in a name": (post(b'{"metadata":{"name":"a\\ud800"}}'), 422, "metadata.name"),
    "up in a name": (post(b'{"metadata":{"name":".."}}'), 422, "metadata.name"),
    "a path as a name": (post(b'{"metadata":{"name":"../../etc/passwd"}}'), 422, "metadata.name"),
    "a path as a prefix": (post(b'{"metadata":{"generateName":"../"}}'), 422, "metadata.generateName"),
    "YAML cut short": (post(b"a: [", YAML), 400, "yaml:"),
    "YAML with NUL": (post(b"a: \x00", YAML), 400, "yaml:"),
    "deep YAML lists": (post(b"[" * 50_000, YAML), 400, "yaml: exceeded max depth"),
    "deep YAML blocks": (post(b"- " * 50_000, YAML), 400, "yaml: exceeded max depth"),
    "YAML that multiplies": (post(aliases(9), YAML), 400, "yaml: document contains excessive aliasing"),
    "YAML in itself": (post(b"data: &a {a: *a}", YAML), 400, "yaml:"),
    "a Python object": (post(b"!!python/object/apply:os.getcwd []", YAML), 400, "cannot unmarshal array"),
    "no protobuf": (post(b"garbage", PROTOBUF), 400, "does not appear to be a protobuf message"),
    "protobuf cut short": (post(b"k8s\0\x0a\xff\xff\xff\xff\x0f", PROTOBUF), 400, "it is cut short"),
    "protobuf without a kind": (post(b"k8s\0", PROTOBUF), 400, 'no kind ""'),
    "protobuf of another kind": (post(unknown(b"Pod", b""), PROTOBUF), 400, "cannot be handled as a ConfigMap"),
    "protobuf with a wrong type": (post(unknown(b"ConfigMap", b"\x08\x01"), PROTOBUF), 400, "malformed protobuf"),
    "protobuf without UTF-8": (
        post(unknown(b"ConfigMap", b"\x0a\x03\x0a\x01\xff"), PROTOBUF),
        400,
        "invalid UTF-8",
    ),
    "a media type of nobody": (post(b"{}", b"text/plain"), 415, "unknown format"),
}

PATHS = {
    "up in a path": (request(b"GET", CONFIG_MAPS + b"/../../../secrets"), 404, "could not find the requested"),
    "up, escaped": (request(b"PUT", CONFIG_MAPS + b"/%2e%2e", b'{"metadata":{"name":".."}}'), 404, "not found"),
    "a slash, escaped": (request(b"GET", CONFIG_MAPS + b"/%2e%2e%2fx"), 404, "could not find the requested"),
    "up in a namespace": (
        request(b"POST", b"/api/v1/namespaces/%2e%2e/configmaps", b'{"metadata":{"name":"x"}}'),
        404,
        "not found",
    ),
    "NUL in a path": (request(b"GET", CONFIG_MAPS + b"/a%00b"), 404, "not found"),
    "no UTF-8, escaped": (request(b"GET", CONFIG_MAPS + b"/%ff%fe"), 404, "not found"),
    "no UTF-8": (request(b"GET", CONFIG_MAPS + b"/\xff\xfe"), 400, "malformed HTTP request"),
    "a broken escape": (request(b"GET", CONFIG_MAPS + b"/a%zzb"), 400, 'invalid URL escape "%zz"'),
    "half an escape": (request(b"GET", CONFIG_MAPS + b"/a%"), 400, 'invalid URL escape "%"'),
    "a broken escape in a query": (request(b"GET", CONFIG_MAPS + b"?labelSelector=%zz"), 400, "%zz"),
    "a long query": (request(b"GET", CONFIG_MAPS + b"?labelSelector=" + b"a" * 120_000), 400, "name part"),
    "an endless query": (request(b"GET", CONFIG_MAPS + b"?x=" + b"a" * MEGABYTE), 431, "header fields too large"),
    "a number that is none": (request(b"GET", CONFIG_MAPS + b"?limit=abc"), 400, "invalid syntax"),
    "a number that is too large": (request(b"GET", CONFIG_MAPS + b"?limit=" + b"9" * 9999), 400, "out of range"),
    "a digit of another script": (request(b"GET", CONFIG_MAPS + b"?resourceVersion=%D9%A1"), 400, "invalid syntax"),
    "a broken token": (request(b"GET", CONFIG_MAPS + b"?continue=AAAA"), 400, "continue key is not valid"),
    "a deep token": (request(b"GET", CONFIG_MAPS + b"?continue=" + b"W1tb" * 20_000), 400, "continue key is not"),
    "a selector of brackets": (request(b"GET", CONFIG_MAPS + b"?labelSelector=((("), 400, "found '('"),
    "a watch from no version": (request(b"GET", CONFIG_MAPS + b"?watch=1&resourceVersion=x"), 500, "invalid syntax"),
    "a watch of a page": (request(b"GET", CONFIG_MAPS + b"?watch=1&limit=-3&continue=x"), 422, "forbidden for watch"),
    "a watch for no number of seconds": (request(b"GET", CONFIG_MAPS + b"?watch=1&timeoutSeconds=x"), 400, "syntax"),
    "a watch of half a mind": (request(b"GET", CONFIG_MAPS + b"?watch=1&sendInitialEvents=true"), 422, "NotOlderThan"),
}

CHUNKED = b"Transfer-Encoding: chunked\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\n" + AUTHORIZED + b"\r\n"


def head(*lines: bytes, start: bytes = b"POST %b HTTP/1.1" % CONFIG_MAPS) -> bytes:
    return b"\r\n".join([start, AUTHORIZED.rstrip(), *lines, b"", b""])


HTTP = {
    "two ways to tell the length": (head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + NEXT),
    "two lengths": head(b"Content-Length: 5", b"Content-Length: 6") + b"{}xxxx",
    "one length twice": head(b"Content-Length: 2", b"Content-Length: 2") + b"{}",
    "a list of lengths": head(b"Content-Length: 2, 2") + b"{}",
    "a negative length": head(b"Content-Length: -2") + b"{}",
    "a length with a sign": head(b"Content-Length: +2") + b"{}",
    "a length beyond all": head(b"Content-Length: " + b"9" * 30) + b"{}",
    "an empty length": head(b"Content-Length: ") + b"{}",
    "an unknown coding": head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "a coding after chunked": head(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "chunked twice": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "a space before a colon": head(b"Transfer-Encoding : chunked") + b"0\r\n\r\n" + NEXT,
    "a chunk beyond all": head(b"Transfer-Encoding: chunked") + b"f" * 20 + b"\r\n",
    "a negative chunk": head(b"Transfer-Encoding: chunked") + b"-1\r\n",
    "a folded header": head(b"X: a", b" b"),
    "NUL in a header": head(b"X: a\x00b"),
    "line feeds alone": head().replace(b"\r\n", b"\n"),
    "carriage returns alone": head().replace(b"\r\n", b"\r") + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": head(b"Host: y"),
    "a version to come": head(start=b"GET / HTTP/3.0"),
    "a method of nobody": head(start=b"FROBNICATE / HTTP/1.1"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "noise": bytes(range(256)) + b"\r\n\r\n",
}

PATCHES = {
    "a copy that doubles": (
        JSON_PATCH,
        [{"op": "add", "path": "/zz", "value": ["a" * 1000]}, *[{"op": "copy", "from": "/zz", "path": "/zz/-"}] * 30],
        422,
    ),
    "an index beyond all": (JSON_PATCH, [{"op": "add", "path": "/metadata/finalizers/" + "9" * 9999, "value": 1}], 422),
    "operations beyond counting": (JSON_PATCH, [{"op": "test", "path": "/kind"}] * 10_001, 413),
    "a patch that is none": (JSON_PATCH, {"op": "add"}, 400),
    "a list for a merge": (b"application/merge-patch+json", [], 400),
    "a directive of nobody": (STRATEGIC, {"spec": {"ports": [{"port": 1, "$patch": "burn"}]}}, 500),
    "an order that is no list": (STRATEGIC, {"spec": {"$setElementOrder/ports": 7}}, 500),
    "fifteen thousand ports": (
        STRATEGIC,
        {"spec": {"ports": [{"port": n, "name": f"p{n}"} for n in range(15_000)]}},
        422,
    ),
    "as many to delete": (
        STRATEGIC,
        {"spec": {"ports": [{"port": n, "$patch": "delete"} for n in range(15_000)]}},
        422,
    ),
}


def check_status(body: bytes, code: int, words: str) -> None:
    """`body` is a Status (meta/v1) that tells of the failure."""
    status = json.loads(body)
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert status["code"] == code
    assert words in status["message"]


@pytest.mark.parametrize("name", [*BODIES, *PATHS])
def test_what_is_wrong_is_told_in_the_apis_own_form(running: Running, name: str) -> None:
    data, code, words = (BODIES | PATHS)[name]
    status, body = running.send(data)
    assert status == code, body[:500]
    check_status(body, code, words)


@pytest.mark.parametrize("name", HTTP)
def test_what_is_no_http_ends_the_connection(running: Running, name: str) -> None:
    """And what comes after it is not taken for a request."""
    with running.connection() as connection:
        connection.sendall(HTTP[name])
        status, body = read_answer(connection)
        assert status == 400
        check_status(body, 400, "")
        connection.settimeout(0.1)
        with suppress(TimeoutError):  # it lingers, so that a peer that still sends can read the answer
            assert connection.recv(1) == b""


@pytest.mark.parametrize("name", PATCHES)
def test_patches_that_ask_too_much(running: Running, name: str) -> None:
    content_type, patch, code = PATCHES[name]
    status, body = running.send(request(b"PATCH", SERVICES + b"/kubernetes", json.dumps(patch).encode(), content_type))
    assert status == code, body[:500]
    check_status(body, code, "")


def test_text_that_is_no_unicode_is_replaced(running: Running) -> None:
    status, body = running.send(
        post(b'{"metadata":{"name":"text"},"data":{"a":"\xff","b":"\\ud800","c":"\\ud83d\\ude00"}}')
    )
    assert status == 201
    assert json.loads(body)["data"] == {"a": "\ufffd", "b": "\ufffd", "c": "\U0001f600"}


def test_objects_do_not_grow_beyond_what_etcd_would_take(running: Running) -> None:
    def patch(number: int) -> tuple[int, bytes]:
        owners = [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": f"{number}-{n}", "uid": f"{number}-{n}"}
            for n in range(9_000)
        ]
        body = json.dumps({"metadata": {"ownerReferences": owners}}).encode()
        return running.send(request(b"PATCH", CONFIG_MAPS + b"/grows", body, STRATEGIC))

    assert running.send(post(b'{"metadata":{"name":"grows"}}'))[0] == 201
    answers = [patch(number) for number in range(4)]
    assert [status for status, _ in answers] == [200, 200, 500, 500]
    check_status(answers[-1][1], 500, "request is too large")
    assert running.send(request(b"DELETE", CONFIG_MAPS + b"/grows"))[0] == 200


def test_endless_headers_are_cut_off(running: Running) -> None:
    deadline = time.monotonic() + 60
    with running.connection() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + AUTHORIZED)
        with suppress(OSError):
            while time.monotonic() < deadline:
                connection.sendall(b"X-A: b\r\n" * 64)
                time.sleep(0.001)
    assert time.monotonic() < deadline


def test_watches_with_absurd_times_end_or_go_on(running: Running) -> None:
    for seconds, ends in ((b"-5", True), (b"9223372036854775807", False)):
        with running.connection() as connection:
            connection.sendall(request(b"GET", CONFIG_MAPS + b"?watch=1&resourceVersion=0&timeoutSeconds=" + seconds))
            data = b""
            try:
                while not data.endswith(b"0\r\n\r\n"):
                    data += connection.recv(1 << 16)
                    if not ends:
                        connection.settimeout(1)
            except TimeoutError:
                pass
            assert data.startswith(b"HTTP/1.1 200 OK")
            assert data.endswith(b"0\r\n\r\n") is ends


def test_slow_senders_hold_up_nobody(running: Running) -> None:
    with ExitStack() as stack:
        for number in range(60):
            connection = stack.enter_context(running.connection())
            whole = post(b'{"metadata":{"name":"slow"}}')
            connection.sendall(whole[: 20 if number % 2 else -5])
        assert running.send(request(b"GET", CONFIG_MAPS))[0] == 200


# Whatever else somebody may send ----------------------------------------------------------------------------------

SERVICE: JSON = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "fuzz", "labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["a.b/c"]},
    "spec": {
        "type": "LoadBalancer",
        "selector": {"a": "b"},
        "ports": [{"name": "a", "port": 80, "targetPort": "web", "protocol": "TCP"}, {"name": "b", "port": 81}],
        "ipFamilyPolicy": "PreferDualStack",
        "ipFamilies": ["IPv4", "IPv6"],
        "externalIPs": ["192.0.2.1"],
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
        "externalTrafficPolicy": "Local",
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ports": [{"port": 1, "protocol": "TCP"}]}]}},
}
POD: JSON = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "fuzz"},
    "spec": {
        "containers": [
            {
                "name": "a",
                "image": "b",
                "ports": [{"containerPort": 80, "hostPort": 80}],
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "resources": {"requests": {"cpu": "100m"}},
                "readinessProbe": {"httpGet": {"port": "web"}},
            }
        ],
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "volumes": [{"name": "v", "configMap": {"name": "x"}}],
    },
}
SLICE: JSON = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "fuzz", "labels": {"kubernetes.io/service-name": "fuzz"}},
    "addressType": "IPv6",
    "endpoints": [{"addresses": ["fd00::1"], "conditions": {"ready": True}, "nodeName": "n"}],
    "ports": [{"name": "a", "port": 80, "protocol": "TCP"}],
}
COLLECTIONS = {
    "Service": SERVICES,
    "Pod": b"/api/v1/namespaces/default/pods",
    "EndpointSlice": b"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
}
ODD = st.sampled_from(
    [
        *(None, True, 0, -1, 1 << 31, 1 << 63, 1.5, 1e308, "", "a", "..", "\0", "é", "x" * 300, "010.0.0.1", "25%"),
        *([], {}, [None], {"": ""}, {"$patch": "delete"}, {"$retainKeys": ["x"]}, ["a", "a"], "2020-13-01T00:00:00Z"),
    ]
).map(copy.deepcopy)
KEYS = st.sampled_from(["name", "$patch", "$setElementOrder/ports", "metadata", "spec", "generateName", "uid", ""])


@st.composite
def spoilt(draw: st.DrawFn, objects: st.SearchStrategy[JSON]) -> Any:
    """An object with some of its values changed, removed or added."""
    value = copy.deepcopy(draw(objects))
    for _ in range(draw(st.integers(0, 3))):
        at, places = value, []
        for _ in range(draw(st.integers(0, 5))):
            keys = list(at) if isinstance(at, dict) else list(range(len(at))) if isinstance(at, list) else []
            if not keys:
                break
            places.append((at, draw(st.sampled_from(keys))))
            at = places[-1][0][places[-1][1]]
        if not places:
            continue
        container, key = places[-1]
        match draw(st.integers(0, 2)):
            case 0:
                container[key] = draw(ODD)
            case 1:
                del container[key]
            case _ if isinstance(container, dict):
                container[draw(KEYS)] = draw(ODD)
            case _:
                container.append(draw(ODD))
    return value


@given(
    spoilt(st.sampled_from([SERVICE, POD, SLICE])),
    st.sampled_from([SERVICE, POD, SLICE]),
    st.sampled_from([b"POST", b"PUT", b"PATCH", b"DELETE"]),
    st.sampled_from([STRATEGIC, b"application/merge-patch+json", JSON_PATCH]),
    st.sampled_from([b"", b"?dryRun=All", b"?fieldValidation=Strict"]),
)
def test_spoilt_objects(running: Running, body: Any, kind: JSON, method: bytes, patch: bytes, query: bytes) -> None:
    path = COLLECTIONS[kind["kind"]] + (b"" if method == b"POST" else b"/fuzz") + query
    content_type = patch if method == b"PATCH" else b"application/json"
    if content_type == JSON_PATCH:
        body = [{"op": "replace", "path": "/spec", "value": body.get("spec")}] if isinstance(body, dict) else body
    status, answer = running.send(request(method, path, json.dumps(body).encode(), content_type))
    assert 200 <= status <= 500
    assert isinstance(json.loads(answer), dict)


WHOLE = request(b"POST", SERVICES, json.dumps(SERVICE).encode(), more=b"Accept: application/json\r\n")


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4)
)
def test_spoilt_bytes(running: Running, changes: list[tuple[int, int, bytes]]) -> None:
    """Answered, waited for or cut off, and never more than that."""
    data = WHOLE
    for at, length, new in changes:
        data = data[:at] + new + data[at + length :]
    with running.connection() as connection:
        connection.settimeout(0.05)
        try:
            connection.sendall(data)
            answer = connection.recv(1 << 16)
        except (TimeoutError, ConnectionError):
            return
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
