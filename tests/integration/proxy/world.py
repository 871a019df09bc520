"""A cluster of one node, and the proxy as a process of its own on it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.integration.proxy.bed import FAMILIES, NODE, PORT, Bed, cluster_ip, pod
from tests.integration.proxy.fake_cluster import FakeCluster
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import ServicePort
from twinstack.api.discovery import EndpointPort, EndpointSlice
from twinstack.ip import IPFamily

WEB = service(
    "web",
    *(cluster_ip(family) for family in FAMILIES),
    type="NodePort",
    ports=[
        ServicePort(name="http", protocol="TCP", port=80, node_port=30080),
        ServicePort(name="dns", protocol="UDP", port=53),
    ],
    session_affinity="ClientIP",
)


def behind(family: IPFamily, *numbers: int) -> EndpointSlice:
    ports = [EndpointPort(name="http", port=PORT), EndpointPort(name="dns", protocol="UDP", port=PORT)]
    found = slice_("web", family, [endpoint(pod(family, n), node=NODE) for n in numbers], ports=ports)
    stamp = datetime.now(UTC).isoformat()  # to the microsecond: one of whole seconds may lie before the proxy's start
    found.metadata.annotations["endpoints.kubernetes.io/last-change-trigger-time"] = stamp
    return found


class World:
    """A cluster of one node, and proxies to run on it."""

    def __init__(self, bed: Bed, directory: Path) -> None:
        self.bed = bed
        self.directory = directory
        self.cluster = FakeCluster(bed)

    async def begin(self) -> None:
        self.kubeconfig = await self.cluster.start(self.directory)
        self.cluster.put("services", WEB)
        for family in FAMILIES:
            self.cluster.put("endpointslices", behind(family, 1))

    async def run(self, *flags: str) -> asyncio.subprocess.Process:
        """Start the proxy on the node."""
        return await self.start("--hostname-override", NODE.upper(), "--kubeconfig", str(self.kubeconfig), *flags)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        program = (sys.executable, "-m", "twinstack.cli.main", "proxy")
        return await asyncio.create_subprocess_exec(
            *("nsenter", f"--net={self.bed.node}", *program, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def output(self, *flags: str) -> tuple[int, str, str]:
        return await self._end_of(await self.run(*flags))

    async def program(self, *arguments: str) -> tuple[int, str, str]:
        return await self._end_of(await self.start(*arguments))

    async def _end_of(self, process: asyncio.subprocess.Process) -> tuple[int, str, str]:
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    @asynccontextmanager
    async def proxy(self, *flags: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A running one; it is stopped gracefully at the end."""
        process = await self.run(*flags)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.communicate(), 60)

    async def answers(self, family: IPFamily, expected: str | None = None, *, within: float = 60) -> str:
        """Who answers at the Service's address; waits for `expected`, or for an answer at all."""
        deadline = time.monotonic() + within
        while True:
            try:
                found = (await asyncio.to_thread(self.bed.ask, self.bed.client, cluster_ip(family)))[0]
            except OSError as error:
                found = str(error)
            if found == expected or (expected is None and found.startswith(("10.", "fd"))):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.01)

    async def page(self, port: int, path: str, address: str = "127.0.0.1") -> tuple[str, str]:
        """Head and body of a page of the proxy, asked for by the node itself."""
        connection = self.bed.on_node(lambda: socket.create_connection((address, port), 60))
        reader, writer = await asyncio.open_connection(sock=connection)
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition("\r\n\r\n")
        return head, body

    async def runs(self) -> None:
        """Wait until the proxy shows its pages."""
        for _ in range(3000):
            with contextlib.suppress(OSError):
                await self.page(10256, "/livez")
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the proxy does not run")

    async def until(self, condition: Callable[[], bool], *, within: float = 60) -> None:
        """Wait until something blocking, asked for again and again, is true."""
        deadline = time.monotonic() + within
        while not await asyncio.to_thread(condition):
            assert time.monotonic() < deadline, condition
            await asyncio.sleep(0.02)

    async def metric(self, line: str, *, within: float = 60) -> None:
        """Wait until the metrics have `line`: a change is counted a moment after packets obey it."""
        deadline = time.monotonic() + within
        while line not in (metrics := (await self.page(10249, "/metrics"))[1]):
            assert time.monotonic() < deadline, metrics
            await asyncio.sleep(0.02)


def play(bed: Bed, directory: Path, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(bed, directory)
        await world.begin()
        try:
            await scenario(world)
        finally:
            await world.cluster.stop()

    try:
        asyncio.run(main())
    finally:
        bed.clear()
