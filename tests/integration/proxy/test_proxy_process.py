"""The program as the cluster runs it: against an API, through its end, kill and restart, with its pages and flags."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from pathlib import Path

import pytest
from tests.integration.proxy.bed import FAMILIES, NODE, NODE_CLIENT_SIDE, Bed, cluster_ip, pod
from tests.integration.proxy.fake_cluster import NODE_OBJECT, Mood
from tests.integration.proxy.world import WEB, World, behind, play
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import Node, NodeSpec, Taint
from twinstack.api.discovery import EndpointSlice
from twinstack.ip import IPFamily
from twinstack.linux.nftables import Nftables, dump
from twinstack.proxy.layout import Layout

PATIENT = 1500  # looks, each a fiftieth of a second or more after the one before

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_a_life_of_a_proxy(bed: Bed, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with world.proxy() as process:
            for family in FAMILIES:
                await world.answers(family, pod(family, 1))
                world.cluster.put("endpointslices", behind(family, 2))
                await world.answers(family, pod(family, 2))
            assert (await world.page(10256, "/healthz"))[0].startswith("HTTP/1.1 200 OK")
            assert (await world.page(10249, "/proxyMode"))[1] == "nftables"
            shown = json.loads((await world.page(10249, "/configz"))[1])["kubeproxy.config.k8s.io"]
            assert (shown["HostnameOverride"], shown["Mode"]) == (NODE, "nftables")
            await world.metric('kubeproxy_network_programming_duration_seconds_count{ip_family="IPv6"} 1')
            assert 'twinstack_proxy_front_ends{ip_family="IPv4"} 3' in (await world.page(10249, "/metrics"))[1]
            layout = Layout(FAMILIES[0])
            with contextlib.closing(bed.on_node(Nftables)) as nft:
                counted = dump.count(nft.socket, layout.services.clients)
                assert counted is None or counted >= len(dump.elements(nft.socket, layout.services.clients))
            code, _, explained = await world.output("--cleanup")
            assert (code, "stop it first" in explained) == (1, True)
            process.send_signal(signal.SIGTERM)
            _, log = await asyncio.wait_for(process.communicate(), 60)
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

            def is_current() -> bool:
                shown = [bed.nft("list", "map", name, "twinstack-proxy", "services") for name in ("ip", "ip6")]
                return cluster_ip(FAMILIES[0], 20) in shown[0] and cluster_ip(family) + " . tcp" not in shown[1]

            await world.until(is_current)

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
                await world.answers(family, pod(family, 1))

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
            _, log = await asyncio.wait_for(process.communicate(), 60)
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
            _, said = await asyncio.wait_for(process.communicate(), 60)
            assert (process.returncode, "to be started again with it" in said.decode()) == (1, True)
        await world.answers(FAMILIES[0], pod(FAMILIES[0], 1))  # the tables outlive the process

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
            for _ in range(PATIENT):
                if (await world.page(10256, "/healthz"))[0].startswith("HTTP/1.1 503 Service Unavailable"):
                    break
                await asyncio.sleep(0.02)
            else:
                raise AssertionError("still eligible")
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
            await world.until(lambda: "10.7.0.1" in bed.nft("list", "set", "ip", "twinstack-proxy", "node-ips"))
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
            for _ in range(PATIENT):
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

        async def gone(family: IPFamily) -> None:
            for _ in range(PATIENT):
                try:
                    await world.page(30999, "/", NODE_CLIENT_SIDE[family])
                except ConnectionRefusedError:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError(f"{family}: still told")

        taken = bed.on_node(lambda: socket.create_server((NODE_CLIENT_SIDE[FAMILIES[0]], 30999)))
        async with world.proxy():
            await world.answers(FAMILIES[0], pod(FAMILIES[0], 1))
            world.cluster.put("services", balanced)
            for family in FAMILIES:
                world.cluster.put("endpointslices", here(family, 1, 2))
            assert await told(FAMILIES[1], 2) == "200"
            for _ in range(PATIENT):
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
            for family in FAMILIES:
                await gone(family)

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
