"""What packets pay for the rules: the first one of a flow, and every later one, beside a ruleset of kube-proxy's shape.

    bench/proxy_packets.py [--services 2000] [--flows 80000] [--packets 200000] [--rounds 20] [--json FILE]

Claim: neither costs more than with kube-proxy's rules of nftables mode, which this bench writes for the same Services:
a chain a Service, an anonymous map of its endpoints, filter chains for refusals. The floor is a namespace without any
rules. UDP, from a local pod through a ClusterIP to an endpoint on the same machine; nanoseconds of
processor time that the sender spends.

Each ruleset has a network namespace of its own; rounds are interleaved, so that a busy machine favours none.
Run as root.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.proxy_sync import FAMILIES, PODS, SERVICES, Node, service_json, slice_json

from twinstack.ip import IPFamily
from twinstack.linux import namespaces

RESULTS = Path(__file__).parent / "results" / "proxy_packets.json"
PORT = 8080
SOURCE = {family: str(PODS[family].address(1 << 20)) for family in FAMILIES}
FIRST = {family: [PODS[family].address(each + 1) for each in range(2)] for family in FAMILIES}  # of the first Service
RULESETS = ("none", "kube-proxy", "twinstack")

Costs = dict[tuple[str, IPFamily], list[float]]  # nanoseconds a packet, by round


class Words(NamedTuple):
    """One family in nft's language."""

    table: str
    type: str


WORDS = {IPFamily.IPV4: Words("ip", "ipv4_addr"), IPFamily.IPV6: Words("ip6", "ipv6_addr")}


# kube-proxy 1.36 in nftables mode: what is there whatever the Services.
SHAPE = Template("""
table $ip kube-proxy {
    set cluster-ips { type $type; }
    set nodeport-ips { type $type; }
    set hairpin-connections { type $type . $type . inet_proto . inet_service; }
    map no-endpoint-services { type $type . inet_proto . inet_service : verdict; }
    map firewall-ips { type $type . inet_proto . inet_service : verdict; }
    map service-ips { type $type . inet_proto . inet_service : verdict; }
    map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
    map service-nodeports { type inet_proto . inet_service : verdict; }
    chain mark-for-masquerade { meta mark set meta mark | 0x4000; }
    chain firewall-check { $ip daddr . meta l4proto . th dport vmap @firewall-ips; }
    chain service-endpoints-check { $ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
    chain nodeport-endpoints-check {
        $ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports;
    }
    chain cluster-ips-check { $ip daddr @cluster-ips reject; $ip daddr $range drop; }
    chain services {
        $ip daddr . meta l4proto . th dport vmap @service-ips;
        $ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports;
    }
    chain masquerading {
        meta mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random;
        ct status dnat $ip saddr . $ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random;
    }
    chain filter-prerouting-pre-dnat { type filter hook prerouting priority -110; ct state new jump firewall-check; }
    chain filter-output-pre-dnat { type filter hook output priority -110; ct state new jump firewall-check; }
    chain filter-input {
        type filter hook input priority 0;
        ct state new jump nodeport-endpoints-check;
        ct state new jump service-endpoints-check;
    }
    chain filter-forward {
        type filter hook forward priority 0;
        ct state new jump service-endpoints-check;
        ct state new jump cluster-ips-check;
    }
    chain filter-output {
        type filter hook output priority 0;
        ct state new jump service-endpoints-check;
        ct state new jump cluster-ips-check;
    }
    chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
    chain nat-output { type nat hook output priority -100; jump services; }
    chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }
}
""")
SERVICE = Template("""
chain $ip kube-proxy service-$name {
    $ip daddr $address udp dport 80 $ip saddr != $pods jump mark-for-masquerade;
    meta l4proto udp dnat $ip addr . port to numgen random mod 2 map { 0 : $first . 8080, 1 : $second . 8080 };
}
add element $ip kube-proxy service-ips { $address . udp . 80 : goto service-$name }
add element $ip kube-proxy cluster-ips { $address }
""")


def kube_proxy(family: IPFamily, services: int) -> str:
    """Its ruleset for dual-stack Services of one UDP port and two endpoints."""
    ip, type_ = WORDS[family]
    parts = [SHAPE.substitute(ip=ip, type=type_, range=SERVICES[family])]
    for number in range(services):
        first, second = (PODS[family].address(number * 8 + each + 1) for each in range(2))
        words = {"ip": ip, "name": f"{number:08d}-default/s{number}/udp/http", "pods": PODS[family]}
        words |= {"address": SERVICES[family].address(number + 1), "first": first, "second": second}
        parts.append(SERVICE.substitute(words))
    return "".join(parts)


def in_namespace(path: Path, *command: str, text: str = "") -> None:
    subprocess.run(["nsenter", f"--net={path}", *command], input=text, text=True, check=True)


def furnish(path: Path) -> None:
    """Everything is local: Services lead nowhere by themselves, endpoints to whoever listens."""
    in_namespace(path, "ip", "link", "set", "lo", "up")
    for family in FAMILIES:
        option = "-6" if family is IPFamily.IPV6 else "-4"
        in_namespace(path, "ip", option, "route", "add", "local", str(PODS[family]), "dev", "lo")
        for address in (SOURCE[family], *map(str, FIRST[family])):
            in_namespace(path, "ip", option, "address", "add", address, "dev", "lo")
        in_namespace(path, "ip", option, "route", "add", str(SERVICES[family]), "dev", "lo")


@contextmanager
def places(services: int) -> Iterator[dict[str, Path]]:
    with ExitStack() as stack:
        found = {}
        for name in RULESETS[:2]:
            found[name] = path = namespaces.RUN_DIRECTORY / f"tt-bench-packets-{os.getpid()}-{name}"
            namespaces.create(path, lambda: None)
            stack.callback(namespaces.remove, path)
        node = Node(services)
        stack.callback(node.close)
        found["twinstack"] = node.path
        for path in found.values():
            furnish(path)
        for family in FAMILIES:
            in_namespace(found["kube-proxy"], "nft", "-f", "-", text=kube_proxy(family, services))
        udp = [data.replace(b'"TCP"', b'"UDP"') for data in map(service_json, range(services))]
        slices = [
            (n, family, slice_json(n, family, [0, 1]).replace(b'"TCP"', b'"UDP"'))
            for n in range(services)
            for family in FAMILIES
        ]
        node.fill(udp, slices)
        yield found


class Sender:
    """Sockets of one namespace and family. The listener reads next to nothing: what does not fit is thrown away."""

    def __init__(self, path: Path, family: IPFamily, destinations: list[str], port: int) -> None:
        self._path, self._family = path, family
        self._destinations = [(address, port) for address in destinations]
        self._listener = self._bound("::" if family is IPFamily.IPV6 else "0.0.0.0")
        self._first = [self._bound(str(address)) for address in FIRST[family]]

    def _bound(self, address: str) -> socket.socket:
        listener = self._socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._family is IPFamily.IPV6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, PORT))
        listener.setblocking(False)
        return listener

    def _socket(self) -> socket.socket:
        return namespaces.inside(self._path, lambda: socket.socket(self._family.af, socket.SOCK_DGRAM))

    def close(self) -> None:
        for listener in (self._listener, *self._first):
            listener.close()

    def new_flows(self, count: int) -> float:
        """Nanoseconds a packet, when each is the first of a flow."""
        spent = sent = 0
        while sent < count:
            with self._socket() as sock:
                sock.bind((SOURCE[self._family], 0))
                started = time.thread_time_ns()
                for destination in self._destinations:
                    sock.sendto(b"x", destination)
                spent += time.thread_time_ns() - started
            sent += len(self._destinations)
        return spent / sent

    def later_packets(self, count: int) -> float:
        """Nanoseconds a packet of one flow."""
        with self._socket() as sock:
            sock.bind((SOURCE[self._family], 0))
            sock.connect(self._destinations[0])
            self._exchange(sock)
            started = time.thread_time_ns()
            for _ in range(count):
                sock.send(b"x")
            return (time.thread_time_ns() - started) / count

    def _exchange(self, sock: socket.socket) -> None:
        """A flow is established once it has been answered."""
        for listener in self._first:
            with suppress(BlockingIOError):
                while True:
                    listener.recv(1)  # what is left of before
        sock.settimeout(5)
        sock.send(b"?")
        (asked, *_), _, _ = select.select(self._first, [], [], 5)
        _, peer = asked.recvfrom(1)
        asked.sendto(b"!", peer)
        sock.recv(1)


def senders(path: Path, ruleset: str, services: int) -> dict[IPFamily, Sender]:
    """Without rules packets go to the endpoints themselves: nobody else sends them there."""
    found = {}
    for family in FAMILIES:
        if ruleset == "none":
            to = [str(PODS[family].address(number * 8 + 1)) for number in range(services)]
        else:
            to = [str(SERVICES[family].address(number + 1)) for number in range(services)]
        found[family] = Sender(path, family, to, PORT if ruleset == "none" else 80)
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Costs]:
    costs: dict[str, Costs] = {"new flow": {}, "later packet": {}}
    with places(arguments.services) as found, ExitStack() as stack:
        sending = {name: senders(path, name, arguments.services) for name, path in found.items()}
        for each in sending.values():
            for sender in each.values():
                stack.callback(sender.close)
        for _ in range(arguments.rounds):
            for family in FAMILIES:
                for name in RULESETS:
                    sender = sending[name][family]
                    new = sender.new_flows(arguments.flows // arguments.rounds)
                    later = sender.later_packets(arguments.packets // arguments.rounds)
                    costs["new flow"].setdefault((name, family), []).append(new)
                    costs["later packet"].setdefault((name, family), []).append(later)
    return costs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--flows", type=int, default=80_000)
    parser.add_argument("--packets", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    report: dict[str, Any] = {"services": arguments.services}
    for what, costs in measure(arguments).items():
        for family in FAMILIES:
            found = {name: statistics.median(costs[name, family]) for name in RULESETS}
            ratio = found["twinstack"] / found["kube-proxy"]
            report[f"{what} {family}"] = found | {"ratio": ratio}
            shown = ", ".join(f"{name} {value:.0f} ns" for name, value in found.items())
            print(f"{what} {family}: {shown}; {ratio:.2f} of kube-proxy's shape")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
