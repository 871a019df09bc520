from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest
import uvloop
from tests.unit.client.api_stub import Call, Reply, api_stub, bookmark, pod, status

from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import PODS
from twinstack.api.meta import ObjectMeta
from twinstack.client import pool, rest
from twinstack.client.kubeconfig import ClusterAccess, KubeconfigError
from twinstack.client.rest import JSON_PATCH, Client
from twinstack.client.watching import WatchEvent
from twinstack.ip import Address
from twinstack.pki.ca import CertificateAuthority


def test_the_verbs_say_what_the_api_wants() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        if call.method == "GET" and call.path.endswith("/pods"):
            items = [pod("a", 5) | {"kind": "", "apiVersion": ""}]
            reply.json({"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": items})
        else:
            reply.json(pod("a", 6), status=201 if call.method == "POST" else 200)

    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url, token="secret"), user_agent="test/1")
            items, version = await client.list(PODS, "default", label_selector="a in (b,c)")
            assert (version, items[0].kind, items[0].api_version) == ("7", "Pod", "v1")
            assert (await client.get(PODS, "a", "default")).metadata.resource_version == "6"
            await client.create(PODS, Pod(metadata=ObjectMeta(name="a", namespace="default")))
            await client.update(PODS, pod("a", 5), subresource="status")
            await client.patch(PODS, "a", "default", [{"op": "test"}], content_type=JSON_PATCH)
            await client.delete(PODS, "a", "default", uid="u", grace_period=0, propagation="Background")
            await client.delete(PODS, "a", "default")
            await client.close()

            listed, got, created, updated, patched, deleted, plainly = stub.calls
            assert stub.connections == 1
            assert (listed.path, listed.query) == ("/api/v1/namespaces/default/pods", {"labelSelector": "a in (b,c)"})
            assert (listed.headers["authorization"], listed.headers["user-agent"]) == ("Bearer secret", "test/1")
            assert got.path == "/api/v1/namespaces/default/pods/a"
            assert (created.method, created.path) == ("POST", "/api/v1/namespaces/default/pods")
            assert json.loads(created.body)["kind"] == "Pod"
            assert updated.path == "/api/v1/namespaces/default/pods/a/status"
            assert patched.headers["content-type"] == JSON_PATCH
            assert json.loads(deleted.body) == {
                "kind": "DeleteOptions",
                "apiVersion": "v1",
                "preconditions": {"uid": "u"},
                "gracePeriodSeconds": 0,
                "propagationPolicy": "Background",
            }
            assert plainly.body == b""

    uvloop.run(main())


def test_an_answer_may_be_longer_than_what_is_read_ahead() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        reply.text(json.dumps({"long": "x" * (5 << 20)}))

    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            for _ in range(2):
                async with asyncio.timeout(60):
                    assert len(await client.request("GET", "/long")) > 5 << 20
            assert stub.connections == 1
            await client.close()

    uvloop.run(main())


def test_a_refusal_is_a_status_error() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        if call.path.endswith("page"):
            reply.text("<html>bad gateway</html>", status=502)
        else:
            reply.json(status(404, "NotFound", 'pods "a" not found'), status=404)

    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            with pytest.raises(StatusError, match='pods "a" not found') as caught:
                await client.get(PODS, "a", "default")
            assert (caught.value.code, caught.value.reason) == (404, "NotFound")
            with pytest.raises(StatusError, match="HTTP 502: <html>"):
                await client.get(PODS, "page", "default")
            await client.close()

    uvloop.run(main())


def test_retry_after_is_honoured_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "LONGEST_WAIT", 0.01)

    async def behaviour(call: Call, reply: Reply) -> None:
        if call.path.endswith("/busy") or len(reply.stub.calls) == 1:
            reply.json(status(429, "TooManyRequests", "later"), status=429, Retry_After="3")
        else:
            reply.json(pod("a", 6))

    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            await client.patch(PODS, "a", "default", {})
            assert len(stub.calls) == 2
            with pytest.raises(StatusError, match="later"):
                await client.get(PODS, "busy", "default")
            assert len(stub.calls) == 2 + rest.ATTEMPTS
            await client.close()

    uvloop.run(main())


def test_a_dead_kept_connection_is_replaced_for_idempotent_requests_only() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        if reply.stub.connections == 1 and len(reply.stub.calls) == 2:
            reply.drop()  # takes the request, gives no byte: as if it died while idle
        else:
            reply.json(pod("a", 6))

    async def once(method: str) -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            try:
                await client.get(PODS, "a", "default")
                await client.request(method, "/api/v1/namespaces/default/pods/a", b"{}")
                assert stub.connections == 2
            finally:
                await client.close()

    uvloop.run(once("GET"))
    uvloop.run(once("PUT"))
    with pytest.raises(ConnectionError):
        uvloop.run(once("POST"))


def test_a_token_that_is_renewed_in_its_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    file = tmp_path / "token"

    async def behaviour(call: Call, reply: Reply) -> None:
        shown.append(call.headers["authorization"])
        reply.json(pod("a", 6))

    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url, token_file=str(file)), user_agent="test")
            file.write_text("first\n")
            await client.get(PODS, "a", "default")
            file.write_text("second\n")
            await client.get(PODS, "a", "default")
            monkeypatch.setattr(pool, "TOKEN_SECONDS", 0.0)  # a minute later
            await client.get(PODS, "a", "default")
            await client.close()

    uvloop.run(main())
    assert shown == ["Bearer first", "Bearer first", "Bearer second"]


def test_a_connection_closed_while_idle_is_noticed() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        reply.json(pod("a", 6))

    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            await client.get(PODS, "a", "default")
            stub.drop_all()
            for _ in range(10):  # turns of the loop, in which it hears of the end
                await asyncio.sleep(0.002)
            await client.patch(PODS, "a", "default", {})
            assert stub.connections == 2
            await client.close()

    uvloop.run(main())


def test_no_server_is_a_connection_error() -> None:
    async def main() -> None:
        client = Client(ClusterAccess(server="http://127.0.0.1:1"), user_agent="test")
        with pytest.raises(ConnectionRefusedError):
            await client.get(PODS, "a", "default")
        await client.close()

    uvloop.run(main())


def test_an_answer_that_does_not_come_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "REQUEST_TIMEOUT", 0.05)

    async def behaviour(call: Call, reply: Reply) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            with pytest.raises(TimeoutError):
                await client.get(PODS, "a", "default")
            await client.close()

    uvloop.run(main())


def test_a_watch_over_odd_chunks_and_its_connection_is_kept() -> None:
    document = json.dumps({"type": "ADDED", "object": pod("naïve", 5)}, ensure_ascii=False).encode() + b"\n"

    async def behaviour(call: Call, reply: Reply) -> None:
        if call.query.get("watch") != "true":
            reply.json(pod("a", 6))
            return
        reply.begin()
        for cut in (document[:7], document[7:] + document[:1], document[1:]):
            reply.raw(cut)
            await asyncio.sleep(0.001)
        reply.send(("BOOKMARK", bookmark(9)))
        reply.end()

    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            events: list[WatchEvent[Pod]] = [event async for event in client.watch(PODS, resource_version="3")]
            assert [event.type for event in events] == ["ADDED", "ADDED", "BOOKMARK"]
            assert events[0].object.metadata.name == "naïve"
            assert stub.calls[0].query["resourceVersion"] == "3"
            assert 300 <= int(stub.calls[0].query["timeoutSeconds"]) <= 600
            await client.get(PODS, "a", "default")
            assert stub.connections == 1
            await client.close()

    uvloop.run(main())


def test_an_error_event_and_a_silent_watch() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        reply.begin()
        if call.query.get("resourceVersion") == "1":
            reply.send(("ERROR", status(410, "Expired", "too old resource version: 1 (9)")))
        await asyncio.sleep(60)

    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            with pytest.raises(StatusError, match="too old") as caught:
                async for _ in client.watch(PODS, resource_version="1"):
                    pass
            assert caught.value.code == 410
            with pytest.raises(TimeoutError):
                async for _ in client.watch(PODS, resource_version="2", silence=0.05):
                    pass
            await client.close()

    uvloop.run(main())


def _server_tls(authority: CertificateAuthority, directory: Path, name: str) -> ssl.SSLContext:
    certificate, key = authority.issue(name, addresses=[Address.parse("127.0.0.1")], server=True)
    (directory / "pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "pem")
    context.load_verify_locations(cadata=authority.certificate_pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tls_shows_a_certificate_that_never_was_a_file(tmp_path: Path) -> None:
    authority = CertificateAuthority.create("test")
    certificate, key = authority.issue("me", client=True)

    async def behaviour(call: Call, reply: Reply) -> None:
        peer = reply.writer.get_extra_info("peercert")
        subject = dict(entry[0] for entry in peer["subject"])
        reply.json(pod(subject["commonName"], 1))

    async def main() -> None:
        async with api_stub(behaviour, _server_tls(authority, tmp_path, "server")) as stub:
            access = ClusterAccess(
                server=stub.url, ca_data=authority.certificate_pem, client_cert=certificate, client_key=key
            )
            client = Client(access, user_agent="test")
            assert (await client.get(PODS, "a", "default")).metadata.name == "me"
            await client.close()

            stranger = CertificateAuthority.create("stranger")
            distrusting = Client(ClusterAccess(server=stub.url, ca_data=stranger.certificate_pem), user_agent="test")
            with pytest.raises(ssl.SSLError):
                await distrusting.get(PODS, "a", "default")
            await distrusting.close()

            broken = Client(ClusterAccess(server=stub.url, ca_data=b"no PEM"), user_agent="test")
            with pytest.raises(KubeconfigError, match="cannot be used"):
                await broken.get(PODS, "a", "default")
            await broken.close()

    uvloop.run(main())
