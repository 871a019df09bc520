"""What a pod's network carries: one TCP stream between pods, and through a Service, beside a bare veth.

    bench/pod_throughput.py [--rounds 15] [--megabytes 400] [--json FILE]

Claim: both have at least 0.9 of the throughput of a veth pair between two namespaces, in both families. The Service is
one of our proxy's, with all of its rules; the node has an uplink like a cluster's, behind which is another node, whose
pod is the third client. Rounds are interleaved, each in another order; a ratio is the median of those of the rounds.
Run as root, in namespaces of its own; iperf3 is that of scripts/unpack_peers.sh.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.proxy_sync import FAMILIES, SERVICES, Node, service_json, slice_json

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import links, namespaces, netlink, sysctl
from twinstack.node.network import PodNetwork
from twinstack.node.podaddresses import PodAddresses

PREFIX = f"tt-bench-throughput-{os.getpid()}"
DEBIAN = Path(__file__).parents[1] / ".venv" / "debian" / "usr"
RESULTS = Path(__file__).parent / "results" / "pod_throughput.json"
PODS = [CIDR.parse("10.128.0.0/24"), CIDR.parse("fd00:10:244::/64")]  # the first pod's are the Service's endpoints
BARE = {IPFamily.IPV4: ("10.1.0.1", "10.1.0.2"), IPFamily.IPV6: ("fd00:1::1", "fd00:1::2")}
OTHER_PODS = [CIDR.parse("10.129.0.0/24"), CIDR.parse("fd00:10:245::/64")]
NODES = [[Address.parse(f"172.30.0.1{n}"), Address.parse(f"fd00:30::1{n}")] for n in (1, 2)]
PORT = 8080
PATIENCE = 60.0


class Stream(NamedTuple):
    """From where to where."""

    name: str
    family: IPFamily
    client: Path
    server: Path
    address: str
    port: int


def iperf3(path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    libraries = next(DEBIAN.glob("lib/*-linux-gnu"))
    return subprocess.Popen(
        ["nsenter", f"--net={path}", str(DEBIAN / "bin" / "iperf3"), *arguments],
        env=os.environ | {"LD_LIBRARY_PATH": str(libraries)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def gigabits(stream: Stream, megabytes: int) -> float:
    """A second of what the receiver got."""
    server = iperf3(stream.server, "-s", "-1", "-p", str(PORT))
    try:
        _wait_for_listener(stream.server)
        flags = ["-c", stream.address, "-p", str(stream.port), "-n", f"{megabytes}M", "-J"]
        client = iperf3(stream.client, *flags, "--connect-timeout", "5000")
        out, _ = client.communicate(timeout=PATIENCE)
        report: dict[str, Any] = json.loads(out)
        if "error" in report:
            raise SystemExit(f"{stream.name} {stream.family}: {report['error']}")
        return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9
    finally:
        server.kill()
        server.communicate()


def _wait_for_listener(path: Path) -> None:
    until = time.monotonic() + PATIENCE
    row = re.compile(rf":{PORT:04X} [0-9A-F]+:0000 0A")  # TCP_LISTEN

    def listens() -> bool:
        return row.search(Path("/proc/thread-self/net/tcp6").read_text()) is not None

    while not namespaces.inside(path, listens):
        if time.monotonic() > until:
            raise SystemExit("iperf3 does not listen")
        time.sleep(0.01)


@contextmanager
def bare_veth() -> Iterator[list[Stream]]:
    near, far = (namespaces.RUN_DIRECTORY / f"{PREFIX}-{name}" for name in ("near", "far"))
    try:
        for path in (near, far):
            namespaces.create(path, lambda: sysctl.write({"net/ipv6/conf/default/accept_dad": "0"}))
        with far.open() as namespace:
            _in(near, lambda route: route.request([links.veth("e", links.Peer(namespace.fileno(), "e", 2), index=2)]))
        for number, path in enumerate((near, far)):
            own = [(Address.parse(BARE[family][number]), 24 if family is IPFamily.IPV4 else 64) for family in FAMILIES]
            messages = [links.link_up(1), links.link_up(2), *(links.add_address(2, *each) for each in own)]
            _in(path, lambda route, m=messages: route.request(m))
        _in(near, lambda route: route.get(*links.link(2)))
        yield [Stream("veth", family, near, far, BARE[family][1], PORT) for family in FAMILIES]
    finally:
        for path in (near, far):
            namespaces.remove(path)


def _in(path: Path, work: Any) -> None:
    def run() -> None:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        try:
            work(route)
        finally:
            route.close()

    namespaces.inside(path, run)


def join(nodes: list[Path], stack: ExitStack) -> None:
    """Connect nodes as a cluster does, and lead each to the pods of the other."""
    switch = namespaces.RUN_DIRECTORY / f"{PREFIX}-switch"
    stack.callback(namespaces.remove, switch)
    namespaces.create(switch, lambda: None)
    _in(switch, lambda route: route.request([links.bridge("br0", 2)]))
    for number, path in enumerate(nodes):
        with path.open() as namespace:
            peer = links.Peer(namespace.fileno(), "eth0", 2)
            pair = links.veth(f"n{number}", peer, index=10 + number, master=2, segment=links.LONGEST_SEGMENT)
            _in(switch, lambda route, message=pair: route.request([message]))
        messages = [links.link_up(1), links.link_up(2)]
        messages += [links.add_address(2, each, 24 if each.family is IPFamily.IPV4 else 64) for each in NODES[number]]
        beyond = zip((OTHER_PODS, PODS)[number], NODES[1 - number], strict=True)
        messages += [links.add_route(block, 2, family=block.family, via=via) for block, via in beyond]
        _in(path, lambda route, m=messages: route.request(m))
        _in(switch, lambda route, index=10 + number: route.get(*links.link(index)))


@contextmanager
def pods(directory: Path) -> Iterator[list[Stream]]:
    """Two pods on a node with our proxy's rules, one on another node."""
    with ExitStack() as stack:
        node = Node(100)
        stack.callback(node.close)
        services = [service_json(number) for number in range(node.size)]
        node.fill(services, [(0, family, slice_json(0, family, [1])) for family in FAMILIES])
        other = namespaces.RUN_DIRECTORY / f"{PREFIX}-other"
        stack.callback(namespaces.remove, other)
        namespaces.create(other, lambda: None)
        join([node.path, other], stack)
        network = PodNetwork(PodAddresses(directory / "one"), f"{PREFIX}-pod")
        beyond = PodNetwork(PodAddresses(directory / "two"), f"{PREFIX}-other")
        namespaces.inside(node.path, lambda: network.open(PODS, NODES[0]))
        stack.callback(network.close)
        namespaces.inside(other, lambda: beyond.open(OTHER_PODS, NODES[1]))
        stack.callback(beyond.close)
        for name in ("server", "client"):
            stack.callback(network.detach, name)
        stack.callback(beyond.detach, "guest")
        server, client, guest = network.attach("server"), network.attach("client"), beyond.attach("guest")
        streams = []
        for address in server.addresses:
            family = address.family
            streams.append(Stream("pod", family, client.namespace, server.namespace, str(address), PORT))
            through = str(SERVICES[family].address(1))
            streams.append(Stream("pod of another node", family, guest.namespace, server.namespace, str(address), PORT))
            streams.append(Stream("Service", family, client.namespace, server.namespace, through, 80))
        yield streams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args()
    found: dict[tuple[str, IPFamily], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory, bare_veth() as bare, pods(Path(directory)) as through:
        streams = [*bare, *through]
        for number in range(args.rounds):
            start = number % len(streams)
            for stream in streams[start:] + streams[:start]:
                found.setdefault((stream.name, stream.family), []).append(gigabits(stream, args.megabytes))
    report: dict[str, Any] = {}
    for family in FAMILIES:
        veth = statistics.median(found["veth", family])
        for name in ("pod", "Service", "pod of another node"):
            rate = statistics.median(found[name, family])
            pairs = zip(found[name, family], found["veth", family], strict=True)
            ratio = statistics.median(one / other for one, other in pairs)
            report[f"{name} {family}"] = {"gbit_s": rate, "veth_gbit_s": veth, "ratio": ratio}
            print(f"{family}, {name}: {rate:.1f} Gbit/s, a bare veth {veth:.1f}: {ratio:.2f}")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
