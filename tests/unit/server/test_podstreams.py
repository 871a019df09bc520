"""What a kubelet is asked for exec, attach and port-forward."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.server.http.targets import parse_query
from twinstack.server.messages import Request, Route, UserInfo, wants_upgrade
from twinstack.server.podstreams import kubelet_target, upgrade_headers

POD: dict[str, Any] = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c"}]}}
TWO: dict[str, Any] = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}


def target(subresource: str, query: str, pod: dict[str, Any] = POD) -> str:
    route = Route(resource("", "pods"), "ns", "web", subresource)
    request = Request("GET", "", parse_query(query), {}, b"", UserInfo("u"))
    return kubelet_target(request, route, pod)


@pytest.mark.parametrize(
    ("subresource", "query", "expected"),
    [
        ("exec", "command=sh&command=-c&command=a+b%26&stdin=true&stdout=1&stderr=false&tty=True&container=c",
         "/exec/ns/web/c?command=sh&command=-c&command=a+b%26&input=1&output=1&tty=1"),
        ("exec", "command=ls&stdout&stderr=0&stdin=FALSE", "/exec/ns/web/c?command=ls&output=1"),
        ("attach", "stdout=true&stderr=true&command=x", "/attach/ns/web/c?output=1&error=1"),
        ("portforward", "", "/portForward/ns/web"),
        ("portforward", "ports=80&ports=443", "/portForward/ns/web?port=80%2C443"),
    ],
)  # fmt: skip
def test_targets(subresource: str, query: str, expected: str) -> None:
    assert target(subresource, query) == expected


def test_containers() -> None:
    assert target("exec", "command=ls&container=b&stdout=1", TWO).startswith("/exec/ns/web/b?")
    for query, words in (("", "choose one of: [a b]"), ("container=z", "container z is not valid for pod web")):
        with pytest.raises(StatusError) as caught:
            target("attach", query, TWO)
        assert caught.value.code == 400
        assert words in caught.value.message


def test_headers_that_pass() -> None:
    """Not who asked; and one line for each version of SPDY streams, as clients send them."""
    headers = {
        "authorization": "Bearer secret",
        "connection": "keep-alive, upgrade",
        "cookie": "a=b",
        "host": "127.0.0.1",
        "sec-websocket-extensions": "permessage-deflate",
        "upgrade": "SPDY/3.1",
        "user-agent": "kubectl",
        "x-remote-user": "root",
        "x-stream-protocol-version": "v5.channel.k8s.io, v4.channel.k8s.io",
    }
    assert wants_upgrade(headers)
    assert upgrade_headers(headers) == [
        ("Connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("user-agent", "kubectl"),
        ("x-stream-protocol-version", "v5.channel.k8s.io"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ]
    assert not wants_upgrade({"connection": "upgrade"})
    assert not wants_upgrade({"upgrade": "websocket", "connection": "close"})
