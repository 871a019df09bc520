"""The agent with CNI plugins: Debian's bridge and host-local, and what a pod's network is when they give what."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.node.cni.site import PLUGINS
from tests.integration.node.machine import LOOP, NODE, Machine, is_running

from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import NODES
from twinstack.client.rest import Client
from twinstack.node.cni.install import install

V4, V6 = "10.9.0.0/24", "fd00:9::/64"
PASS_ON = """python3 -c 'import json, sys; json.dump(json.load(sys.stdin)["prevResult"], sys.stdout)'
"""
RECORDER = """#!/bin/sh
# A plugin behind another one: notes how it was called, and passes the result on.
input=$(cat)
echo "$CNI_COMMAND $CNI_ARGS $CNI_IFNAME" >>{log}
printf '%s\\n' "$input" >>{log}.json
[ "$CNI_COMMAND" = ADD ] || exit 0
printf '%s' "$input" | """
SLOW = """#!/bin/sh
# A plugin that takes its time, until there is a file beside it.
[ "$CNI_COMMAND" = ADD ] || exit 0
for _ in $(seq 600); do [ ! -e "$0.quick" ] || break; sleep 0.1; done
"""


class Plugins:
    """A machine whose agent runs plugins."""

    def __init__(self, directory: Path) -> None:
        self.machine = Machine(directory)
        self.configurations, self.bin = directory / "net.d", directory / "bin"
        self.store, self.log = directory / "networks", directory / "calls"
        socket = directory / "cni.sock"
        install(self.bin, str(socket))
        recorder = self.bin / "recorder"
        recorder.write_text(RECORDER.format(log=self.log) + PASS_ON)
        recorder.chmod(recorder.stat().st_mode | stat.S_IXUSR)
        self.machine.agent_flags = [
            "--network-plugin=cni",
            f"--cni-conf-dir={self.configurations}",
            f"--cni-bin-dir={self.bin},{PLUGINS}",
            f"--cni-socket={socket}",
        ]

    def put(self, name: str, configuration: dict[str, Any]) -> None:
        self.configurations.mkdir(exist_ok=True)
        (self.configurations / f".{name}").write_text(json.dumps(configuration))
        (self.configurations / f".{name}").rename(self.configurations / name)

    def bridge(self, *subnets: str, name: str = "bridged", bridge: str = "br0") -> dict[str, Any]:
        ipam = {"type": "host-local", "dataDir": str(self.store), "ranges": [[{"subnet": each}] for each in subnets]}
        first = {"type": "bridge", "bridge": bridge, "isDefaultGateway": True, "ipam": ipam}
        behind = {"type": "recorder", "capabilities": {"portMappings": True, "nonsense": True}}
        return {"cniVersion": "0.4.0", "name": name, "plugins": [first, behind]}

    def ready(self, wanted: str) -> str:
        """The message of the condition, once it is as wanted."""

        async def look(client: Client) -> str | None:
            try:
                node = await client.get(NODES, NODE)
            except StatusError:
                return None
            found = next((c for c in node.status.conditions if c.type == "Ready"), None)
            return found.message if found is not None and found.status == wanted else None

        return self.machine.wait(look, f"a node that is ready: {wanted}")

    def held(self, network: str = "bridged") -> list[str]:
        directory = self.store / network
        return sorted(n for n in os.listdir(directory) if n[0] in "1f") if directory.is_dir() else []

    def until(self, good: Any, what: str) -> None:
        end = time.monotonic() + 60
        while not good():
            assert time.monotonic() < end, what
            time.sleep(0.05)


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugins]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Plugins(tmp_path_factory.mktemp("plugins"))
    try:
        made.machine.start()
        yield made
    finally:
        made.machine.stop()
    assert made.held() == made.held("small") == []  # what the agent leaves is deleted by the plugins, too


def ips(pod: Pod) -> list[str]:
    return [each.ip for each in pod.status.pod_ips]


def has(*addresses: str) -> Any:
    return lambda pod: is_running(pod) and ips(pod) == list(addresses)


def test_what_plugins_give_is_what_a_pod_has(plugins: Plugins) -> None:
    machine = plugins.machine
    text = plugins.ready("False")
    assert text == (
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
        "message:Network plugin returns error: cni plugin not initialized"
    )
    plugins.put("10-a.conflist", plugins.bridge(V6, V4))
    plugins.put("20-b.conflist", {"cniVersion": "0.4.0", "name": "later", "plugins": [{"type": "none"}]})
    plugins.put("05-broken.conf", {"cniVersion": "0.4.0"})
    plugins.ready("True")
    machine.create("two", {"command": ["sh", "-c", LOOP], "ports": [{"containerPort": 80, "hostPort": 8080}]})
    pod = machine.pod("two", is_running, "to run")
    assert ips(pod) == ["10.9.0.2", "fd00:9::2"]  # the node's primary family first, whatever the plugins say
    add = plugins.log.read_text().split()
    assert add[0] == "ADD"
    arguments = dict(part.split("=") for part in add[1].split(";"))
    assert (arguments["K8S_POD_NAMESPACE"], arguments["K8S_POD_NAME"]) == ("default", "two")
    assert arguments["K8S_POD_UID"] == pod.metadata.uid
    assert len(arguments["K8S_POD_INFRA_CONTAINER_ID"]) == 64
    told = json.loads(Path(f"{plugins.log}.json").read_text())
    assert (told["name"], told["cniVersion"]) == ("bridged", "0.4.0")
    assert told["runtimeConfig"] == {
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]
    }

    machine.kill_agent(signal.SIGKILL)
    plugins.put("10-a.conflist", plugins.bridge("fd00:7::/64", name="single"))
    machine.start_agent()
    machine.create("one", {"command": ["sh", "-c", LOOP]})
    machine.pod("one", has("fd00:7::2"), "to run with one address")
    machine.pod("two", has("10.9.0.2", "fd00:9::2"), "to keep its addresses")
    machine.end("two", "one", grace=0)  # each by the network that made it
    plugins.until(lambda: not plugins.held() and not plugins.held("single"), "addresses to come back")
    assert "DEL" in plugins.log.read_text()

    os.unlink(plugins.configurations / "10-a.conflist")
    os.unlink(plugins.configurations / "20-b.conflist")
    assert "cni plugin not initialized" in plugins.ready("False")


def test_a_failing_plugin_is_told_and_leaves_nothing(plugins: Plugins) -> None:
    machine = plugins.machine
    plugins.put("10-a.conflist", plugins.bridge("10.9.0.0/30", V6, name="small", bridge="br1"))
    plugins.ready("True")
    machine.create("first", {"command": ["sh", "-c", LOOP]})
    machine.pod("first", is_running, "to run")
    machine.create("second", {"command": ["sh", "-c", LOOP]})
    text = machine.event("second", "FailedCreatePodSandBox")
    assert 'plugin type="bridge" failed (add)' in text
    plugins.until(lambda: len(plugins.held("small")) == 2, "the other family's address to be free")
    machine.end("first", grace=0)
    machine.pod("second", is_running, "to run once there is an address")
    machine.end("second", grace=0)
    os.unlink(plugins.configurations / "10-a.conflist")
    plugins.ready("False")


def test_an_agent_that_is_killed_while_a_plugin_works(plugins: Plugins) -> None:
    """What was begun is undone by the next agent, from what was written down before the first plugin ran."""
    machine = plugins.machine
    network = plugins.bridge("10.6.0.0/24", "fd00:6::/64", name="slow", bridge="br2")
    network["plugins"].append({"type": "slow"})
    slow = plugins.bin / "slow"
    slow.write_text(SLOW + PASS_ON)
    slow.chmod(0o755)
    plugins.put("10-a.conflist", network)
    plugins.ready("True")
    machine.create("caught", {"command": ["sh", "-c", LOOP]})
    machine.create("gone", {"command": ["sh", "-c", LOOP]})
    plugins.until(lambda: len(plugins.held("slow")) == 4, "both pods to have addresses")
    machine.kill_agent(signal.SIGKILL)
    machine.delete("gone", grace=0)
    Path(f"{slow}.quick").touch()
    machine.start_agent()
    machine.pod("caught", is_running, "to run in the end")
    plugins.until(lambda: len(plugins.held("slow")) == 2, "the addresses that nobody has to be free")
    machine.end("caught", grace=0)
    plugins.until(lambda: not plugins.held("slow"), "all addresses to be free")
    plugins.until(lambda: os.listdir(machine.root / "cni") == [], "nothing to be written down any more")
    os.unlink(plugins.configurations / "10-a.conflist")
    plugins.ready("False")


def test_our_own_plugin_with_the_nodes_ranges(plugins: Plugins) -> None:
    machine = plugins.machine

    async def give(client: Client) -> None:
        await client.patch(NODES, NODE, "", {"spec": {"podCIDR": V4, "podCIDRs": [V4, V6]}})

    machine.do(give)
    ipam = {"type": "twinstack-cni", "dataDir": str(plugins.store)}
    own = {"type": "twinstack-cni", "ipam": ipam, "capabilities": {"ipRanges": True, "portMappings": True}}
    plugins.put("10-own.conflist", {"cniVersion": "1.1.0", "name": "own", "plugins": [own]})
    plugins.ready("True")
    machine.create("own", {"command": ["sh", "-c", LOOP], "ports": [{"containerPort": 80, "hostPort": 8080}]})
    pod = machine.pod("own", lambda pod: is_running(pod) and len(ips(pod)) == 2, "to run")
    assert ips(pod) == ["10.9.0.2", "fd00:9::2"]
    machine.kill_agent(signal.SIGKILL)
    machine.start_agent()
    machine.pod("own", has("10.9.0.2", "fd00:9::2"), "to go on")
    crowd = [f"own-{number}" for number in range(12)]  # more than the agent has threads for plugins
    for name in crowd:
        machine.create(name, {"command": ["sh", "-c", LOOP]})
    for name in crowd:
        machine.pod(name, is_running, "to run among others")
    machine.end("own", *crowd, grace=0)
    plugins.until(lambda: not [n for n in os.listdir(plugins.store / "own") if ":" in n], "the lease to end")
    os.unlink(plugins.configurations / "10-own.conflist")
