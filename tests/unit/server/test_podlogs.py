"""Which log is meant, and what the kubelet is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.api.websocket import NORMAL, Decoder, Opcode, close_frame, frame
from twinstack.ip import Address
from twinstack.server import framed
from twinstack.server.messages import Request, StreamResponse, StreamWriter, Upgrade, UserInfo
from twinstack.server.podlogs import container_of, kubelet_endpoint, kubelet_query


def pod(*containers: str, init: tuple[str, ...] = (), ephemeral: tuple[str, ...] = ()) -> dict[str, Any]:
    def named(names: tuple[str, ...]) -> list[dict[str, str]]:
        return [{"name": name} for name in names]

    spec = {"containers": named(containers), "initContainers": named(init), "ephemeralContainers": named(ephemeral)}
    return {"metadata": {"name": "p"}, "spec": spec}


def ask(**query: str) -> str:
    parameters = {name: [value] for name, value in query.items()}
    request = Request(method="GET", path="", query=parameters, headers={}, body=b"", user=UserInfo(name="u"))
    return kubelet_query(request, "p")


def test_the_only_container_is_the_default() -> None:
    assert container_of(pod("a"), "") == "a"
    assert container_of(pod("a", init=("i",)), "") == "a"
    assert container_of(pod("a", "b", init=("i",), ephemeral=("e",)), "i") == "i"
    assert container_of(pod("a", "b", ephemeral=("e",)), "e") == "e"


@pytest.mark.parametrize(
    ("obj", "wanted", "message"),
    [
        (pod("a", "b"), "", "a container name must be specified for pod p, choose one of: [a b]"),
        (
            pod("a", "b", init=("i", "j"), ephemeral=("e",)),
            "",
            (
                "a container name must be specified for pod p, choose one of: [a b] "
                "or one of the init containers: [i j] or one of the ephemeral containers: [e]"
            ),
        ),
        (pod("a"), "x", "container x is not valid for pod p"),
        (pod(), "", "a container name must be specified for pod p"),
    ],
)
def test_upstreams_words_for_the_others(obj: dict[str, Any], wanted: str, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        container_of(obj, wanted)
    assert (caught.value.code, caught.value.message) == (400, message)


def test_options_are_passed_on() -> None:
    assert ask() == ""
    assert ask(follow="true", previous="false", container="c", tailLines="0") == "follow=true&tailLines=0"
    assert ask(sinceTime="2026-01-01T00:00:00Z") == "sinceTime=2026-01-01T00%3A00%3A00Z"
    assert ask(sinceSeconds="5", limitBytes="1", timestamps="1") == "limitBytes=1&sinceSeconds=5&timestamps=true"


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ({"tailLines": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        (
            {"tailLines": "-1"},
            422,
            'PodLogOptions "p" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0',
        ),
        (
            {"limitBytes": "0"},
            422,
            'PodLogOptions "p" is invalid: limitBytes: Invalid value: 0: must be greater than 0',
        ),
    ],
)
def test_bad_options(query: dict[str, str], code: int, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        ask(**query)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_where_a_kubelet_listens() -> None:
    addresses = [
        {"type": "Hostname", "address": "n1"},
        {"type": "InternalIP", "address": "fd00:30::11"},
        {"type": "InternalIP", "address": "172.30.0.11"},
    ]
    assert kubelet_endpoint({"status": {"addresses": addresses}}) == (Address.parse("fd00:30::11"), 10250)
    port = {"kubeletEndpoint": {"Port": 4}}
    assert kubelet_endpoint({"status": {"addresses": addresses, "daemonEndpoints": port}})[1] == 4
    with pytest.raises(StatusError, match="no preferred addresses found for node n1"):
        kubelet_endpoint({"metadata": {"name": "n1"}, "status": {"addresses": addresses[:1]}})


MASK = b"\x01\x02\x03\x04"
ASKING = {"connection": "keep-alive, Upgrade", "upgrade": "websocket", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}


class Browser:
    """The client's end of an upgraded connection: says what it is given, and then stays or goes."""

    def __init__(self, *says: bytes, goes: bool = False) -> None:
        self._says = list(says)
        self._goes = goes
        self.heard = b""

    async def read(self) -> bytes:
        if self._says:
            return self._says.pop(0)
        if not self._goes:
            await asyncio.Event().wait()
        return b""

    def write(self, data: bytes) -> None:
        self.heard += data

    def pending(self) -> int:
        return 0

    async def drain(self) -> None:
        await asyncio.sleep(0)

    async def closed(self) -> None:
        await asyncio.Event().wait()

    def messages(self) -> list[tuple[Opcode, bytes]]:
        return [(message.opcode, message.payload) for message in Decoder(masked=False).feed(self.heard)]


def by_websocket(protocol: str) -> Request:
    headers = ASKING | ({"sec-websocket-protocol": protocol} if protocol else {})
    return Request(method="GET", path="", query={}, headers=headers, body=b"", user=UserInfo(name="u"))


async def two_lines(writer: StreamWriter) -> None:
    writer.write(b"one\ntwo\n")


async def nothing_yet(writer: StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("protocol", "chosen", "sent"),
    [
        ("", "", [(Opcode.BINARY, b""), (Opcode.BINARY, b"one\ntwo\n")]),
        ("x, binary.k8s.io", "binary.k8s.io", [(Opcode.BINARY, b""), (Opcode.BINARY, b"one\ntwo\n")]),
        (framed.BASE64, framed.BASE64, [(Opcode.TEXT, b""), (Opcode.TEXT, b"b25lCnR3bwo=")]),
    ],
)
def test_a_log_as_messages(protocol: str, chosen: str, sent: list[tuple[Opcode, bytes]]) -> None:
    answer = framed.log(by_websocket(protocol), StreamResponse(status=200, produce=two_lines))
    assert isinstance(answer, Upgrade)
    assert ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in answer.headers
    assert dict(answer.headers).get("Sec-WebSocket-Protocol", "") == chosen
    browser = Browser()
    asyncio.run(asyncio.wait_for(_run(answer, browser), 30))
    assert browser.messages() == [*sent, (Opcode.CLOSE, NORMAL.to_bytes(2, "big"))]


def test_a_watch_is_an_event_a_message() -> None:
    answer = framed.events(by_websocket("any"), StreamResponse(status=200, produce=two_lines))
    assert isinstance(answer, Upgrade)
    assert ("Sec-WebSocket-Protocol", "any") in answer.headers
    browser = Browser(frame(Opcode.PING, b"?", MASK))
    asyncio.run(asyncio.wait_for(_run(answer, browser), 30))
    text = [payload for opcode, payload in browser.messages() if opcode is Opcode.TEXT]
    assert text == [b"one", b"two"]


@pytest.mark.parametrize(
    "browser", [Browser(close_frame(NORMAL, mask=MASK)), Browser(b"\xff" * 16), Browser(goes=True)]
)
def test_a_client_that_goes_ends_a_log(browser: Browser) -> None:
    answer = framed.log(by_websocket(""), StreamResponse(status=200, produce=nothing_yet))
    assert isinstance(answer, Upgrade)
    asyncio.run(asyncio.wait_for(_run(answer, browser), 30))


def test_who_asks_for_no_websocket_gets_a_body() -> None:
    plain = Request(method="GET", path="", query={}, headers={}, body=b"", user=UserInfo(name="u"))
    stream = StreamResponse(status=200, produce=two_lines)
    assert framed.log(plain, stream) is stream
    assert framed.events(plain, stream) is stream
    with pytest.raises(StatusError, match="none of the protocols is served: x"):
        framed.log(by_websocket("x"), stream)


async def _run(answer: Upgrade, browser: Browser) -> None:
    await answer.run(browser)
