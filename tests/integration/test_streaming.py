"""exec, attach and port-forward at the kubelet API: real containers, real TLS, every protocol that clients speak."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.streaming_clients import Refused, SPDYClient, WebSocketClient
from tests.integration.test_exec import gone, processes_of
from tests.integration.test_kubelet_api import Pki, make_agent, make_gate, pki
from tests.integration.test_runtime import ETC, IMAGE, ROOT, UID

from twinstack.api.core import Container, Pod, PodSpec
from twinstack.api.meta import ObjectMeta
from twinstack.ip import Address
from twinstack.linux import cgroups, links, mounts, namespaces, netlink
from twinstack.node import http
from twinstack.node.agent import Agent
from twinstack.node.runtime.base import ContainerConfig, ContainerKey, SandboxConfig
from twinstack.node.runtime.records import Layout
from twinstack.node.server import KubeletServer
from twinstack.node.streaming.portforward import TUNNEL

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

__all__ = ["pki"]

SPDY = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
FORWARD = "/portForward/default/web"
LISTENERS = {8080: "127.0.0.1", 8081: "::1"}  # ports of the pod, each in one family


class Node:
    """An agent's kubelet API with one pod."""

    def __init__(self, agent: Agent, port: int, pki: Pki) -> None:
        self.agent, self.port, self._context = agent, port, pki.client("apiserver")

    async def start(self, script: str, *, stdin: bool = False) -> ContainerKey:
        key = ContainerKey(UID, "c", 0)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        command = ["bash", "--norc", "-c", script]
        config = ContainerConfig(key, IMAGE, command, environment, "/", [], ROOT, "/dev/termination-log")
        config = config._replace(stdin=stdin, stdin_once=stdin)
        await self.agent.runtime.create(config)
        await self.agent.runtime.start(key)
        return key

    async def websocket(self, target: str, protocol: str = "v5.channel.k8s.io") -> WebSocketClient:
        return await WebSocketClient.open(self.port, self._context, target, protocol)

    async def spdy(self, target: str, *protocols: str) -> SPDYClient:
        return await SPDYClient.open(self.port, self._context, target, *protocols)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Path]:
    """The pod's namespace."""
    path = make_agent(tmp_path / "other").network.path(UID)

    def setup() -> None:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        route.request([links.link_up(links.LOOPBACK)])
        route.close()

    namespaces.create(path, setup)
    yield path
    namespaces.remove(path)


@asynccontextmanager
async def node(root: Path, network: Path, pki: Pki) -> AsyncIterator[Node]:
    agent = make_agent(root)
    agent.runtime.open(lambda _: None)
    pod = Pod(metadata=ObjectMeta(name="web", namespace="default", uid=UID))
    pod.spec = PodSpec(containers=[Container(name="c", image=IMAGE)])
    agent._pod_informer.objects["default/web"] = pod
    await agent.runtime.create_sandbox(SandboxConfig(UID, "default/web", "web", str(network), ETC))
    server = await http.serve(KubeletServer(agent, make_gate()).handle, 0, pki.server())
    try:
        yield Node(agent, next(s.getsockname()[1] for s in server.sockets if s.family == socket.AF_INET), pki)
    finally:
        server.close()
        await agent.runtime.remove_sandbox(UID)
        agent.runtime.close()
        assert mounts.mounted(str(root)) == []
        assert cgroups.remove(Layout(root).group_directories())


@pytest.fixture
def with_node(tmp_path: Path, network: Path, pki: Pki) -> Callable[[Callable[[Node], Awaitable[None]]], None]:
    def run(work: Callable[[Node], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(100), node(tmp_path, network, pki) as one:
                await work(one)

        asyncio.run(main())

    return run


WithNode = Callable[[Callable[[Node], Awaitable[None]]], None]


def exec_target(script: str, *flags: str) -> str:
    words = "&".join(f"command={word}" for word in ("sh", "-c", script.replace(" ", "+").replace("&", "%26")))
    return f"/exec/default/web/c?{words}&{'&'.join(f'{flag}=1' for flag in flags)}"


def test_exec_over_a_websocket(with_node: WithNode) -> None:
    async def work(node: Node) -> None:
        await node.start("sleep 60")
        for protocol, ended in (("v5.channel.k8s.io", True), ("v4.channel.k8s.io", False)):
            script = (
                "sort; echo oops >&2; exit 3" if ended else "read a; read b; echo $b; echo $a; echo oops >&2; exit 3"
            )
            client = await node.websocket(exec_target(script, "input", "output", "error"), protocol)
            assert f"Sec-WebSocket-Protocol: {protocol}\r\n" in client.connection.head
            assert (await client.receive()).payload == b"\x01"  # it is connected
            client.send(b"\x00b\n")
            client.send(b"\x00a\n")
            if ended:
                client.send(b"\xff\x00")
            channels = await client.to_the_end()
            assert channels[1] == b"a\nb\n"
            assert channels[2] == b"oops\n"
            assert json.loads(channels[3])["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
        client = await node.websocket(exec_target("true", "output"))
        assert json.loads((await client.to_the_end())[3]) == {"metadata": {}, "status": "Success"}

    with_node(work)


def test_exec_over_spdy(with_node: WithNode) -> None:
    async def work(node: Node) -> None:
        await node.start("sleep 60")
        for protocols in (SPDY, SPDY[1:]):
            client = await node.spdy(exec_target("sort; echo oops >&2; exit 3", "input", "output", "error"), *protocols)
            error, given, out, err = (client.stream(streamType=name) for name in ("error", "stdin", "stdout", "stderr"))
            client.ping(1)
            client.send(given, b"b\na\n")
            client.send(given, b"", finished=True)
            await client.until_finished(error, out, err)
            assert (client.data[out], client.data[err]) == (b"a\nb\n", b"oops\n")
            assert json.loads(client.data[error])["details"]["causes"][0]["message"] == "3"
            assert len(client.others) == 1
            await client.close()

    with_node(work)


def test_a_terminal_with_window_sizes(with_node: WithNode) -> None:
    script = "stty size; read x; stty size; exit 5"

    async def work(node: Node) -> None:
        await node.start("sleep 60")
        sizes = [b'{"Width":101,"Height":33}', b'{"Width":90,"Height":20}']
        socket_client = await node.websocket(exec_target(script, "input", "output", "tty"))
        said = b""
        socket_client.send(b"\x04" + sizes[0])
        while b"33 101\r\n" not in said:
            said += (await socket_client.receive()).payload[1:]
            if b"0 0\r\n" in said:
                break  # it was faster than its window
        socket_client.send(b"\x04" + sizes[1])
        socket_client.send(b"\x00\n")
        channels = await socket_client.to_the_end()
        assert channels[1].endswith(b"20 90\r\n")
        client = await node.spdy(exec_target(script, "input", "output", "tty"), *SPDY)
        error, given, out, size = (client.stream(streamType=name) for name in ("error", "stdin", "stdout", "resize"))
        client.send(size, sizes[0] + b"\n")
        await client.until(out, b"\r\n")
        client.send(size, sizes[1])
        client.send(given, b"\n")
        await client.until_finished(error, out)
        assert client.data[out].endswith(b"20 90\r\n")
        assert json.loads(client.data[error])["details"]["causes"][0]["message"] == "5"
        await client.close()

    with_node(work)


@pytest.mark.parametrize("transport", ["websocket", "spdy"])
@pytest.mark.parametrize("tty", [False, True])
def test_a_client_that_goes_takes_its_program_along(with_node: WithNode, transport: str, tty: bool) -> None:
    mark = f"41{os.getpid()}{int(tty)}"

    async def work(node: Node) -> None:
        await node.start("sleep 60")
        target = exec_target(f"sleep {mark}", "output", *(["tty"] if tty else []))
        if transport == "websocket":
            connection = (await node.websocket(target)).connection
        else:
            client = await node.spdy(target, *SPDY)
            for name in ("error", "stdout", *(["resize"] if tty else [])):
                client.stream(streamType=name)
            assert not isinstance(client.raw, WebSocketClient)
            connection = client.raw
        while not processes_of(mark):
            await asyncio.sleep(0.01)
        connection.abort()
        assert await gone(mark)

    with_node(work)


def test_much_at_the_clients_pace(with_node: WithNode) -> None:
    async def work(node: Node) -> None:
        await node.start("sleep 60")
        client = await node.websocket(exec_target("head -c 30000000 /dev/zero", "output"))
        await asyncio.sleep(0.5)  # nobody reads yet
        channels = await client.to_the_end()
        assert len(channels[1]) == 30_000_000

    with_node(work)


def test_what_cannot_run_is_told_by_status(with_node: WithNode) -> None:
    async def work(node: Node) -> None:
        await node.start("sleep 60")
        client = await node.websocket("/exec/default/web/c?command=nosuch&output=1")
        status = json.loads((await client.to_the_end())[3])
        assert status["reason"] == "InternalError"
        assert status["message"].endswith('exec: "nosuch": executable file not found in $PATH')

    with_node(work)


def test_refusals(with_node: WithNode) -> None:
    async def work(node: Node) -> None:
        cases = [
            ("/exec/default/gone/c?command=ls&output=1", "v5.channel.k8s.io", 404, 'pod "gone" does not exist'),
            ("/exec/default/web/c?command=ls&output=1", "v5.channel.k8s.io", 500, 'container not found ("c")'),
            ("/attach/default/web/c?output=1", "v5.channel.k8s.io", 500, 'container not found ("c")'),
            ("/portForward/default/gone", TUNNEL, 404, 'pod "gone" does not exist'),
            (FORWARD, "v4.channel.k8s.io", 400, 'query parameter "port" is required'),
            (f"{FORWARD}?port=x", "v4.channel.k8s.io", 400, 'unable to parse "x" as a port'),
            ("/exec/default", "v5.channel.k8s.io", 404, "page not found"),
        ]
        running = [
            ("/exec/default/web/c?output=1", "v5.channel.k8s.io", 400, "must specify the command"),
            ("/exec/default/web/c?command=ls", "v5.channel.k8s.io", 400, "at least 1 of stdin, stdout, stderr"),
            ("/exec/default/web/c?command=ls&output=1", "mqtt", 400, "unable to negotiate"),
        ]
        for batch in (cases, running):
            for target, protocol, status, words in batch:
                with pytest.raises(Refused) as caught:
                    await node.websocket(target, protocol)
                assert (caught.value.status, words in str(caught.value)) == (status, True), str(caught.value)
            if batch is cases:
                await node.start("sleep 60")
        with pytest.raises(Refused) as caught:
            await node.spdy("/exec/default/web/c?command=ls&output=1", "v1")
        assert caught.value.status == 403

    with_node(work)


def test_attach(with_node: WithNode) -> None:
    """`kubectl run -i` by either transport: a line that was begun is heard, and the end of the input passes."""

    async def work(node: Node) -> None:
        key = await node.start("printf ready; sort; echo over >&2", stdin=True)
        client = await node.spdy("/attach/default/web/c?input=1&output=1&error=1", *SPDY)
        error, given, out, err = (client.stream(streamType=name) for name in ("error", "stdin", "stdout", "stderr"))
        await client.until(out, b"ready")
        listener = await node.websocket("/attach/default/web/c?output=1&error=1")
        heard = b""
        while heard != b"ready":  # it is attached after it is connected
            heard += (await listener.receive()).payload[1:]
        client.send(given, b"b\na\n", finished=True)
        await client.until_finished(error, out, err)
        assert (client.data[out], client.data[err]) == (b"readya\nb\n", b"over\n")
        assert json.loads(client.data[error])["status"] == "Success"
        channels = await listener.to_the_end()
        assert (heard + channels[1], channels[2]) == (b"readya\nb\n", b"over\n")
        await client.close()
        await node.agent.runtime.wait(key)

    with_node(work)


def listen(network: Path) -> list[socket.socket]:
    """Echo servers are the tests' own; each port listens in one family."""

    def make() -> list[socket.socket]:
        made = []
        for port, host in LISTENERS.items():
            one = socket.socket(Address.parse(host).family.af)
            one.bind((host, port))
            one.listen()
            made.append(one)
        return made

    return namespaces.inside(network, make)


@asynccontextmanager
async def echoes(network: Path) -> AsyncIterator[list[str]]:
    """Answers what it is told, in capitals, with a word of its own after the end. Yields a diary."""
    diary: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        diary.append("came")
        try:
            while data := await reader.read(65536):
                writer.write(data.upper())
                await writer.drain()
            writer.write(b"bye")
            await writer.drain()
        except ConnectionError:
            diary.append("broken")
        diary.append("went")
        writer.close()

    servers = [await asyncio.start_server(serve, sock=each) for each in listen(network)]
    try:
        yield diary
    finally:
        for server in servers:
            server.close()


@pytest.mark.parametrize("tunnelled", [False, True])
def test_port_forward_by_pairs_of_streams(with_node: WithNode, network: Path, tunnelled: bool) -> None:
    async def work(node: Node) -> None:
        async with echoes(network):
            if tunnelled:
                client = SPDYClient(await node.websocket(FORWARD, TUNNEL))
            else:
                client = await node.spdy(FORWARD, "portforward.k8s.io")
            pairs = []
            for number, port in enumerate([*LISTENERS, *LISTENERS, 9]):
                names = {"port": str(port), "requestID": str(number)}
                error, data = client.stream(streamType="error", **names), client.stream(streamType="data", **names)
                client.send(error, b"", finished=True)
                pairs.append((error, data, port))
            block = b"abcdefgh" * 50_000
            for _, data, _ in pairs[:-1]:
                client.send(data, block[:200_000])
                client.send(data, block[200_000:])
                client.send(data, b"", finished=True)
            for error, data, port in pairs:
                await client.until_finished(error, data)
                if port == 9:
                    told = client.data[error].decode()
                    assert told.startswith(
                        f"error forwarding port 9 to pod {UID}, uid : failed to connect to localhost:9"
                    )
                    assert told.endswith("IPv4: connection refused, IPv6: connection refused")
                else:
                    assert client.data[data] == block.upper() + b"bye"
                    assert client.data[error] == b""
            odd = client.stream(streamType="data", port="0", requestID="x")
            while not client.others:
                await client.step()
            assert client.others[0].stream == odd
            await client.close()

    with_node(work)


def test_a_forwarded_connection_that_is_reset_or_left_behind(with_node: WithNode, network: Path) -> None:
    async def work(node: Node) -> None:
        async with echoes(network) as diary:
            client = await node.spdy(FORWARD, "portforward.k8s.io")
            streams = []
            for number in "12":
                names = {"port": "8080", "requestID": number}
                client.stream(streamType="error", **names)
                streams.append(client.stream(streamType="data", **names))
            for stream in streams:
                client.send(stream, b"x")
                await client.until(stream, b"X")
            assert diary == ["came", "came"]
            client.reset(streams[0])
            while diary.count("went") < 1:
                await asyncio.sleep(0.01)
            assert not isinstance(client.raw, WebSocketClient)
            client.raw.abort()
            while diary.count("went") < 2:
                await asyncio.sleep(0.01)

    with_node(work)


def test_port_forward_by_channels(with_node: WithNode, network: Path) -> None:
    """As the Python client does: a port that nobody listens on harms no other one."""

    async def work(node: Node) -> None:
        async with echoes(network):
            client = await node.websocket(f"{FORWARD}?port=8081,9", "v4.channel.k8s.io")
            got: dict[int, bytes] = {}

            async def until(channel: int, text: bytes) -> None:
                while text not in got.get(channel, b""):
                    payload = (await client.receive()).payload
                    got[payload[0]] = got.get(payload[0], b"") + payload[1:]

            await until(3, b"connection refused")
            client.send(b"\x00hello")
            await until(0, b"HELLO")
            assert got[0] == struct.pack("<H", 8081) + b"HELLO"
            assert got[1] == struct.pack("<H", 8081)
            assert got[2] == struct.pack("<H", 9)
            client.connection.abort()

    with_node(work)
