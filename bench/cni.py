"""What a pod's network costs: our CNI executable beside Debian's bridge with host-local, the agent beside the kernel.

    bench/cni.py [--pods 60] [--json FILE]

Claims: ADD of both families by the executable, with its service, takes at most a third of the time of the reference
plugins, which start two programs; in the agent it takes at most 2 ms, and at most 1.5 times the floor: the same kernel
calls, with all messages made beforehand and no lease. DEL takes a fraction of the reference's, which waits until the
kernel has freed a link. Beside them stands what no executable can go below: the start of a program that does nothing,
in machine code, in Perl and in Python.

Pods are interleaved, so that a busy machine favours none. Run as root, in namespaces of its own; the reference plugins
are those of scripts/unpack_peers.sh.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twinstack.ip import CIDR, Address
from twinstack.linux import links, namespaces, netlink, sysctl
from twinstack.node.cni.install import install
from twinstack.node.network import POD_SYSCTLS, PodNetwork
from twinstack.node.podaddresses import PodAddresses
from twinstack.node.wiring import GATEWAY, GATEWAY_MAC, alone

PREFIX = f"tt-bench-cni-{os.getpid()}"
PLUGINS = Path(__file__).parents[1] / ".venv" / "debian" / "usr" / "lib" / "cni"
RESULTS = Path(__file__).parent / "results" / "cni.json"
MAC = bytes.fromhex("0a5800000002")
PATIENCE = 30.0
SETTLING = 0.06  # seconds after each DEL, for what the kernel does later
NOTHING = {  # programs that do nothing
    "machine code": ["/bin/true"],
    "Perl": ["/usr/bin/perl", "-e", "0"],
    "Python": ["/usr/bin/python3", "-IS", "-c", "pass"],
}

T = TypeVar("T")


def pin(name: str) -> Path:
    return namespaces.RUN_DIRECTORY / f"{PREFIX}-{name}"


class Plugin:
    """Calls one plugin as a runtime does; in the namespace of the calling thread."""

    def __init__(self, executable: Path, configuration: dict[str, Any], path: Path) -> None:
        self._executable = str(executable)
        self._configuration = json.dumps(configuration).encode()
        self._path = path

    def seconds(self, command: str, name: str, namespace: Path) -> float:
        call = {"CNI_COMMAND": command, "CNI_CONTAINERID": name, "CNI_NETNS": str(namespace), "CNI_IFNAME": "eth0"}
        call |= {"CNI_PATH": str(self._path), "PATH": os.environ["PATH"]}  # the reference runs iptables
        begin = time.perf_counter()
        done = subprocess.run([self._executable], input=self._configuration, env=call, capture_output=True, check=False)
        spent = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(f"{self._executable}: {done.stdout.decode()} {done.stderr.decode()}")
        return spent


def start(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, input=b"", env={"PATH": os.environ["PATH"]}, capture_output=True, check=True)
    return time.perf_counter() - begin


def plugins(directory: Path, masquerade: bool) -> dict[str, Plugin]:
    ranges = [[[{"subnet": f"10.{n}.0.0/16"}], [{"subnet": f"fd00:{n}::/64"}]] for n in (1, 2)]
    own = {"type": "twinstack-cni", "ranges": ranges[0], "dataDir": str(directory / "own")}
    local = {"type": "host-local", "ranges": ranges[1], "dataDir": str(directory / "local")}
    bridge = {"type": "bridge", "bridge": "br0", "isDefaultGateway": True, "ipam": local}
    common = {"cniVersion": "1.0.0", "name": "pods", "ipMasq": masquerade}
    executable = install(directory / "bin", str(directory / "socket"))
    return {
        "twinstack": Plugin(executable, common | {"type": "twinstack-cni", "ipam": own}, executable.parent),
        "reference": Plugin(PLUGINS / "bridge", common | bridge, PLUGINS),
    }


def start_service(directory: Path, stack: ExitStack) -> None:
    """In the namespace of the calling thread."""
    socket = directory / "socket"
    command = [sys.executable, "-m", "twinstack.cli.main", "cni", "serve", f"--socket={socket}"]
    service = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    stack.callback(service.wait)
    stack.callback(service.kill)
    until = time.monotonic() + PATIENCE
    while not socket.exists():
        if time.monotonic() > until:
            raise SystemExit("the service did not come")
        time.sleep(0.01)


def by_executables(directory: Path, pods: int, masquerade: bool) -> dict[str, dict[str, list[float]]]:
    """Seconds of each ADD and DEL."""
    found: dict[str, dict[str, list[float]]] = {name: {"start": []} for name in NOTHING}
    with ExitStack() as stack:
        start_service(directory, stack)
        called = plugins(directory, masquerade)
        for name, plugin in called.items():
            found[name] = {"ADD": [], "DEL": []}
            stack.callback(_remove_all, name)
            namespaces.create(pin(f"{name}-warm"), lambda: None)
            plugin.seconds("ADD", "warm", pin(f"{name}-warm"))  # makes the bridge
        for number in range(pods):
            for name, plugin in called.items():
                path = pin(f"{name}-{number}")
                namespaces.create(path, lambda: None)
                found[name]["ADD"].append(plugin.seconds("ADD", f"p{number}", path))
            for name, command in NOTHING.items():
                found[name]["start"].append(start(command))
        for number in range(pods):
            for name, plugin in called.items():
                found[name]["DEL"].append(plugin.seconds("DEL", f"p{number}", pin(f"{name}-{number}")))
                time.sleep(SETTLING)
    return found


def _remove_all(name: str) -> None:
    for entry in os.listdir(namespaces.RUN_DIRECTORY):
        if entry.startswith(f"{PREFIX}-{name}"):
            namespaces.remove(namespaces.RUN_DIRECTORY / entry)


class Floor:
    """The kernel's part of wiring a pod: messages are made beforehand, only their sending is timed."""

    def __init__(self) -> None:
        self._node = netlink.NetlinkSocket(netlink.ROUTE)

    def close(self) -> None:
        self._node.close()

    def seconds(self, number: int) -> float:
        index, path = 50_000 + number, pin(f"floor-{number}")
        addresses = [Address.parse(f"10.3.{number // 256}.{number % 256}"), Address.parse(f"fd00:3::{number + 1:x}")]
        inside = [links.link_up(1), links.link_up(2)]
        inside += [links.add_address(2, address, address.family.bits) for address in addresses]
        inside += [links.add_route(None, 2, family=address.family, via=GATEWAY) for address in addresses]
        inside.append(links.add_neighbour(2, GATEWAY, GATEWAY_MAC))
        outside = [links.add_address(index, GATEWAY, 64)]
        for address in addresses:
            outside.append(links.add_route(alone(address), index, family=address.family))
            outside.append(links.add_neighbour(index, address, MAC))

        def enter() -> tuple[int, netlink.NetlinkSocket]:
            sysctl.write(POD_SYSCTLS)
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), netlink.NetlinkSocket(netlink.ROUTE)

        begin = time.perf_counter()
        descriptor, pod = namespaces.create(path, enter)
        peer = links.Peer(descriptor, "eth0", 2, MAC)
        self._node.request([links.veth(f"fl{number}", peer, index=index, mac=GATEWAY_MAC)])
        pod.request(inside)
        self._node.request(outside)
        spent = time.perf_counter() - begin
        pod.close()
        os.close(descriptor)
        return spent


def in_the_agent(directory: Path, pods: int) -> dict[str, list[float]]:
    """Seconds of each pod."""
    found: dict[str, list[float]] = {"agent": [], "floor": []}
    network, floor = PodNetwork(PodAddresses(directory / "leases"), f"{PREFIX}-agent"), Floor()
    network.open([CIDR.parse("10.4.0.0/16"), CIDR.parse("fd00:4::/64")], [Address.parse("172.30.0.11")])
    try:
        for number in range(pods):
            begin = time.perf_counter()
            network.attach(f"pod-{number}")
            found["agent"].append(time.perf_counter() - begin)
            found["floor"].append(floor.seconds(number))
    finally:
        network.close()
        floor.close()
        _remove_all("agent")
        _remove_all("floor")
    return found


def on_a_node(work: Callable[[Path], T]) -> T:
    """Run it in a new namespace, with a directory of its own."""
    node = pin("node")
    with tempfile.TemporaryDirectory() as directory:
        namespaces.create(node, lambda: None)
        try:
            return namespaces.inside(node, lambda: work(Path(directory)))
        finally:
            namespaces.remove(node)


def median_ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pods", type=int, default=60)
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args()
    figures: dict[str, Any] = {"pods": args.pods}
    for masquerade in (False, True) if shutil.which("iptables") else (False,):
        called = on_a_node(partial(by_executables, pods=args.pods, masquerade=masquerade))
        for command in ("ADD", "DEL"):
            ours, theirs = (median_ms(called[name][command]) for name in ("twinstack", "reference"))
            what = f"{command}{' with masquerading' if masquerade else ''}"
            figures[what] = {"twinstack_ms": ours, "reference_ms": theirs, "ratio": theirs / ours}
            print(f"{what}: executable {ours:.1f} ms, reference {theirs:.1f} ms: {theirs / ours:.1f} times")
        figures["start"] = {name: median_ms(called[name]["start"]) for name in NOTHING}
    told = ", ".join(f"{name} {spent:.1f} ms" for name, spent in figures["start"].items())
    print(f"the start of a program that does nothing: {told}")
    wired = on_a_node(partial(in_the_agent, pods=args.pods))
    agent, floor = (median_ms(wired[name]) for name in ("agent", "floor"))
    figures["agent"] = {"agent_ms": agent, "floor_ms": floor, "ratio": agent / floor}
    print(f"in the agent: {agent:.2f} ms, the kernel alone {floor:.2f} ms: {agent / floor:.2f} of it")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
