"""The program as the cluster runs it: against an API, through its end, kill and restart, with its pages and flags."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.proxy.bed import FAMILIES, NODE, NODE_CLIENT_SIDE, PORT, Bed, ask_datagram, cluster_ip, pod
from tests.integration.proxy.fake_cluster import NODE_OBJECT, FakeCluster, Mood
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import Node, NodeSpec, ServicePort, Taint
from twinstack.api.discovery import EndpointPort, EndpointSlice
from twinstack.ip import IPFamily
from twinstack.linux.nftables import Nftables, dump
from twinstack.proxy.layout import Layout

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

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
        out, err = await asyncio.wait_for(process.communicate(), 20)
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
                await asyncio.wait_for(process.communicate(), 10)

    async def answers(self, family: IPFamily, expected: str | None = None, *, within: float = 30) -> str:
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
        connection = self.bed.on_node(lambda: socket.create_connection((address, port), 5))
        reader, writer = await asyncio.open_connection(sock=connection)
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition("\r\n\r\n")
        return head, body

    async def runs(self) -> None:
        """Wait until the proxy shows its pages."""
        for _ in range(1500):
            with contextlib.suppress(OSError):
                await self.page(10256, "/livez")
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the proxy does not run")

    async def metric(self, line: str, *, within: float = 30) -> None:
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


def test_a_life_of_a_proxy(bed: Bed, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.proxy() as process:
            for family in FAMILIES:
                await world.answers(family, pod(family, 1))
                world.cluster.put("endpointslices", behind(family, 2))
                await world.answers(family, pod(family, 2), within=1)
            assert (await world.page(10256, "/healthz"))[0].startswith("HTTP/1.1 200 OK")
            assert (await world.page(10249, "/proxyMode"))[1] == "nftables"
            await world.metric('kubeproxy_network_programming_duration_seconds_count{ip_family="IPv6"} 1')
            assert 'twinstack_proxy_front_ends{ip_family="IPv4"} 3' in (await world.page(10249, "/metrics"))[1]
            layout = Layout(FAMILIES[0])
            with contextlib.closing(bed.on_node(Nftables)) as nft:
                counted = dump.count(nft.socket, layout.services.clients)
                assert counted is None or counted >= len(dump.elements(nft.socket, layout.services.clients))
            code, _, explained = await world.output("--cleanup")
            assert (code, "stop it first" in explained) == (1, True)
            process.send_signal(signal.SIGTERM)
            _, log = await asyncio.wait_for(process.communicate(), 5)
            assert process.returncode == 0
            assert "not acted on" not in log.decode()
        assert world.cluster.selectors == {
            "services": "!service.kubernetes.io/service-proxy-name",
            "endpointslices": "!service.kubernetes.io/headless",
            "nodes": f"metadata.name={NODE}",
            "servicecidrs": "",
        }
        assert [event["reason"] for event in world.cluster.events] == ["Starting"]
        await world.answers(FAMILIES[0], pod(FAMILIES[0], 2))  # the tables outlive the process
        assert (await world.output("--cleanup"))[0] == 0
        assert "twinstack-proxy" not in bed.nft("list", "ruleset")

    play(bed, tmp_path, scenario)


def test_killed_and_restarted(bed: Bed, tmp_path: Path) -> None:
    family = FAMILIES[1]

    async def scenario(world: World) -> None:
        async with world.proxy() as process:
            await world.answers(family, pod(family, 1))
            process.kill()
            await process.communicate()
        await world.answers(family, pod(family, 1))
        world.cluster.put("endpointslices", behind(family, 3))
        world.cluster.remove("services", WEB)
        other = service("other", cluster_ip(FAMILIES[0], 20))
        world.cluster.put("services", other)
        async with world.proxy():
            for _ in range(100):
                await asyncio.sleep(0.02)
                shown = [bed.nft("list", "map", name, "twinstack-proxy", "services") for name in ("ip", "ip6")]
                if cluster_ip(FAMILIES[0], 20) in shown[0] and cluster_ip(family) + " . tcp" not in shown[1]:
                    break
            assert cluster_ip(FAMILIES[0], 20) in shown[0]
            assert cluster_ip(family) + " . tcp" not in shown[1]

    play(bed, tmp_path, scenario)


def test_a_flush_while_the_proxy_is_dead_is_mended_at_its_return(bed: Bed, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.proxy() as process:
            for family in FAMILIES:
                await world.answers(family, pod(family, 1))
            bed.nft("flush", "ruleset")  # passes a table by that has an owner
            for family in FAMILIES:
                await world.answers(family, pod(family, 1), within=0)
            process.kill()
            await process.communicate()
        bed.nft("flush", "ruleset")
        assert "twinstack-proxy" not in bed.nft("list", "ruleset")
        async with world.proxy():
            for family in FAMILIES:
                await world.answers(family, pod(family, 1), within=30)

    play(bed, tmp_path, scenario)


def test_the_last_good_state_serves_while_the_api_server_is_ill(bed: Bed, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.proxy() as process:
            for family in FAMILIES:
                await world.answers(family, pod(family, 1))
            for number, mood in enumerate((Mood.GARBAGE, Mood.NONSENSE, Mood.SILENT, Mood.GONE), 1):
                world.cluster.become(mood)
                for family in FAMILIES:
                    world.cluster.put("endpointslices", behind(family, number + 1))
                await asyncio.sleep(0.4)
                for family in FAMILIES:
                    await world.answers(family, pod(family, number), within=0)
                assert (await world.page(10256, "/livez"))[0].startswith("HTTP/1.1 200 OK")
                world.cluster.become(Mood.WELL)
                for family in FAMILIES:
                    await world.answers(family, pod(family, number + 1))
            process.terminate()
            _, log = await asyncio.wait_for(process.communicate(), 30)
            told = [line for line in log.decode().splitlines() if "WARN" in line and "endpointslices" in line]
            assert len(told) <= 4, told  # one line a cause, if it lasts

    play(bed, tmp_path, scenario)


def test_ends_when_it_should(bed: Bed, tmp_path: Path) -> None:
    configuration = tmp_path / "config.yaml"
    head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
    configuration.write_text(head)

    async def scenario(world: World) -> None:
        taken = bed.on_node(lambda: socket.create_server(("127.0.0.1", 10249)))
        code, _, log = await world.output("--bind-address-hard-fail", "--healthz-bind-address", "")
        assert (code, "cannot serve metrics on 127.0.0.1:10249" in log) == (1, True)
        assert "FailedToStartMetricServer" in {event["reason"] for event in world.cluster.events}
        taken.close()
        async with world.proxy("--config", str(configuration)) as process:
            await world.runs()
            configuration.write_text(f"{head}hostnameOverride: {NODE}\n")
            _, said = await asyncio.wait_for(process.communicate(), 30)
            assert (process.returncode, "to be started again with it" in said.decode()) == (1, True)
        await world.answers(FAMILIES[0], pod(FAMILIES[0], 1))  # the tables outlive the process

    play(bed, tmp_path, scenario)


def test_udp_flows_move_when_their_endpoint_goes(bed: Bed, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.proxy():
            for family in FAMILIES:
                await world.answers(family, pod(family, 1))
                with bed.socket(bed.client, family, socket.SOCK_DGRAM) as asking:
                    assert ask_datagram(asking, cluster_ip(family), 53)[0] == pod(family, 1)
                    world.cluster.put("endpointslices", behind(family, 2))
                    for _ in range(100):
                        await asyncio.sleep(0.02)
                        answer = ask_datagram(asking, cluster_ip(family), 53)[0]
                        if answer == pod(family, 2):
                            break
                    assert answer == pod(family, 2)

    play(bed, tmp_path, scenario)


def test_a_node_that_leaves_says_so(bed: Bed, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.proxy():
            await world.answers(FAMILIES[0], pod(FAMILIES[0], 1))
            leaving = Node(
                metadata=NODE_OBJECT.metadata,
                status=NODE_OBJECT.status,
                spec=NodeSpec(taints=[Taint(key="ToBeDeletedByClusterAutoscaler", effect="NoSchedule")]),
            )
            world.cluster.put("nodes", leaving)
            await asyncio.sleep(0.1)
            assert (await world.page(10256, "/healthz"))[0].startswith("HTTP/1.1 503 Service Unavailable")
            assert (await world.page(10256, "/livez"))[0].startswith("HTTP/1.1 200 OK")

    play(bed, tmp_path, scenario)


def test_node_ports_follow_the_interfaces(bed: Bed, tmp_path: Path) -> None:
    family = FAMILIES[0]

    async def scenario(world: World) -> None:
        flags = ("--nodeport-addresses", "10.1.0.0/24,10.7.0.0/24", "--healthz-bind-address", "")
        async with world.proxy(*flags):
            await world.answers(family, pod(family, 1))
            ask = bed.ask
            assert (await asyncio.to_thread(ask, bed.client, NODE_CLIENT_SIDE[family], 30080))[0] == pod(family, 1)
            command = ("nsenter", f"--net={bed.node}", "ip", "address")
            adding = await asyncio.create_subprocess_exec(*command, "add", "10.7.0.1/32", "dev", "lo")
            assert await adding.wait() == 0
            await asyncio.sleep(0.2)
            assert (await asyncio.to_thread(ask, bed.client, "10.7.0.1", 30080))[0] == pod(family, 1)
            removing = await asyncio.create_subprocess_exec(*command, "del", "10.7.0.1/32", "dev", "lo")
            assert await removing.wait() == 0

    play(bed, tmp_path, scenario)


def test_a_load_balancer_is_told_how_many_endpoints_are_here(bed: Bed, tmp_path: Path) -> None:
    balanced = service(
        "lb",
        *(cluster_ip(family, 30) for family in FAMILIES),
        type="LoadBalancer",
        external_traffic_policy="Local",
        health_check_node_port=30999,
    )

    def here(family: IPFamily, *numbers: int) -> EndpointSlice:
        found = [endpoint(pod(family, n), node=NODE) for n in numbers]
        found += [endpoint(pod(family, 4)), endpoint(pod(family, 5), node=NODE, ready=False, terminating=True)]
        return slice_("lb", family, found)

    async def scenario(world: World) -> None:
        async def told(family: IPFamily, expected: int) -> str:
            for _ in range(200):
                with contextlib.suppress(OSError):
                    head, body = await world.page(30999, "/any", NODE_CLIENT_SIDE[family])
                    if json.loads(body)["localEndpoints"] == expected:
                        assert f"X-Load-Balancing-Endpoint-Weight: {expected}\r\n" in head + "\r\n"
                        assert json.loads(body) == {
                            "service": {"namespace": "default", "name": "lb"},
                            "localEndpoints": expected,
                            "serviceProxyHealthy": True,
                        }
                        return head.split(" ")[1]
                await asyncio.sleep(0.02)
            raise AssertionError(f"{family}: never {expected} endpoints")

        taken = bed.on_node(lambda: socket.create_server((NODE_CLIENT_SIDE[FAMILIES[0]], 30999)))
        async with world.proxy():
            await world.answers(FAMILIES[0], pod(FAMILIES[0], 1))
            world.cluster.put("services", balanced)
            for family in FAMILIES:
                world.cluster.put("endpointslices", here(family, 1, 2))
            assert await told(FAMILIES[1], 2) == "200"
            for _ in range(100):
                if len(world.cluster.events) > 1:
                    break
                await asyncio.sleep(0.02)
            assert world.cluster.events[-1]["reason"] == "FailedToStartServiceHealthcheck"
            taken.close()
            for family in FAMILIES:
                assert await told(family, 2) == "200"
                world.cluster.put("endpointslices", here(family))
                assert await told(family, 0) == "503"
            world.cluster.remove("services", balanced)
            await asyncio.sleep(0.2)
            for family in FAMILIES:
                with pytest.raises(ConnectionRefusedError):
                    await world.page(30999, "/", NODE_CLIENT_SIDE[family])

    play(bed, tmp_path, scenario)


def test_dry_run_shows_and_writes_nothing(bed: Bed, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        code, shown, _ = await world.output("--dry-run")
        assert code == 0
        assert f"[{cluster_ip(FAMILIES[1])}]:80/TCP" in shown
        assert f"{pod(FAMILIES[0], 1)}:8080" in shown
        code, shown, _ = await world.output("--dry-run", "-o", "json")
        front_ends = json.loads(shown)["IPv6"]["frontEnds"]
        assert {f["via"] for f in front_ends} == {"ClusterIP", "NodePort"}
        assert front_ends[0]["endpoints"] == [f"[{pod(FAMILIES[1], 1)}]:8080"]
        assert "twinstack-proxy" not in bed.nft("list", "ruleset")

    play(bed, tmp_path, scenario)


def test_explain_tells_the_fate_of_a_packet(bed: Bed, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for family in FAMILIES:
            asked = f"{cluster_ip(family)}:80/TCP"
            flags = ("explain", "--kubeconfig", str(world.kubeconfig), "--hostname-override", NODE)
            code, shown, _ = await world.program(*flags, asked, "--from", pod(family, 2))
            assert code == 0
            assert "default/web:http/TCP (ClusterIP" in shown
            assert f"from {pod(family, 2)}, a local pod: forward" in shown
            code, shown, _ = await world.program(*flags, asked, "-o", "json")
            assert [packet["masquerade"] for packet in json.loads(shown)["packets"]] == [False, True, True]
        code, _, explained = await world.program(*flags, "web:80")
        assert (code, "not an IP address" in explained) == (2, True)

    play(bed, tmp_path, scenario)


def test_flags_that_mean_nothing_are_explained(bed: Bed, tmp_path: Path) -> None:
    configuration = tmp_path / "config.yaml"
    head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
    configuration.write_text(f"{head}mode: ipvs\n")

    async def scenario(world: World) -> None:
        for flags, words in (
            (("--proxy-mode", "iptables"), "only nftables is there"),
            (("--detect-local-mode", "Guess"), "known here are ClusterCIDR, NodeCIDR"),
            (("--detect-local-mode", "BridgeInterface"), "needs --pod-bridge-interface"),
            (("--conntrack-udp-timeout", "soon"), "not a duration"),
            (("--cluster-cidr", "10.0.0.0"), "not a CIDR block"),
            (("--iptables-sync-period", "soon"), "not a duration"),
            (("--config", str(configuration)), "only nftables is there"),
            (("--config", "/nowhere"), "cannot read /nowhere"),
        ):
            code, _, explained = await world.output(*flags)
            assert code == 2
            assert words in explained

    play(bed, tmp_path, scenario)
