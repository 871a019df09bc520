"""How fast the proxy writes: everything at start, one endpoint, and nothing at a restart.

    bench/proxy_sync.py [--sizes 1000,10000,30000] [--changes 300] [--json FILE]

Claims: one endpoint's change costs the same whatever the number of Services (within 20 %), a small multiple
of the smallest exchange with nf_tables there is (GETGEN); both families of 10 000 Services are laid within a
second, decoding and computing included; a restart with nothing changed writes no element. Times run from
the object's JSON to the kernel's acknowledgement. Sizes are interleaved, so that a busy machine favours none.
Run as root; each size has a network namespace of its own, which goes away.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from twinstack.api.core import Service
from twinstack.api.discovery import EndpointSlice
from twinstack.dataplane.model import NodeView, Surroundings
from twinstack.dataplane.tracker import Change, Tracker
from twinstack.ip import CIDR, IPFamily
from twinstack.linux import namespaces
from twinstack.linux.nftables import Nftables
from twinstack.proxy.command import GARBAGE_THRESHOLDS
from twinstack.proxy.health import Health
from twinstack.proxy.layout import Layout
from twinstack.proxy.metrics import ProxyMetrics
from twinstack.proxy.sync import FamilySync
from twinstack.proxy.writer import Writer

T = TypeVar("T")

FAMILIES = list(IPFamily)
SERVICES = {IPFamily.IPV4: CIDR.parse("10.96.0.0/12"), IPFamily.IPV6: CIDR.parse("fd00:10:96::/108")}
PODS = {IPFamily.IPV4: CIDR.parse("10.128.0.0/9"), IPFamily.IPV6: CIDR.parse("fd00:10:244::/56")}
RESULTS = Path(__file__).parent / "results" / "proxy_sync.json"

decode_service = msgspec.json.Decoder(Service).decode
decode_slice = msgspec.json.Decoder(EndpointSlice).decode


def service_json(number: int) -> bytes:
    addresses = [str(SERVICES[family].address(number + 1)) for family in FAMILIES]
    spec = {
        "type": "ClusterIP",
        "clusterIP": addresses[0],
        "clusterIPs": addresses,
        "ipFamilies": list(FAMILIES),
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
    }
    metadata = {"namespace": "default", "name": f"s{number}", "uid": f"{number:036d}", "resourceVersion": "1"}
    return json.dumps({"kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": spec}).encode()


def slice_json(number: int, family: IPFamily, endpoints: list[int]) -> bytes:
    metadata = {
        "namespace": "default",
        "name": f"s{number}-{family.lower()}",
        "labels": {"kubernetes.io/service-name": f"s{number}"},
    }
    behind = [
        {
            "addresses": [str(PODS[family].address(number * 8 + each + 1))],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{each}",
        }
        for each in endpoints
    ]
    ports = [{"name": "http", "protocol": "TCP", "port": 8080}]
    return json.dumps({"metadata": metadata, "addressType": family, "endpoints": behind, "ports": ports}).encode()


class Node:
    """A proxy of one size in its own namespace."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.path = namespaces.RUN_DIRECTORY / f"tt-bench-proxy-{os.getpid()}-{size}"
        namespaces.create(self.path, lambda: None)
        self.endpoints: dict[tuple[int, IPFamily], int] = {}
        self._now = 0.0
        self.start()

    def start(self) -> None:
        self.metrics = ProxyMetrics()
        health = Health(FAMILIES, sync_period=30, metrics=self.metrics)
        self.tracker = Tracker(FAMILIES, NodeView("node-0"))
        self.writer = namespaces.inside(self.path, Writer)
        self.families = {f: FamilySync(Layout(f), self.writer, self.metrics, health) for f in FAMILIES}
        for family, state in self.families.items():
            state.surroundings = Surroundings(frozenset(), frozenset([SERVICES[family]]), frozenset([PODS[family]]))

    def fill(self, services: list[bytes], slices: list[tuple[int, IPFamily, bytes]]) -> None:
        for data in services:
            self.tracker.put_service(decode_service(data))
        for _, _, data in slices:
            self.tracker.put_slice(decode_slice(data))
        self.sync()

    def change(self, number: int, family: IPFamily, data: bytes) -> None:
        self.tracker.put_slice(decode_slice(data))
        self.sync()

    def sync(self) -> None:
        changes: dict[IPFamily, list[Change]] = {family: [] for family in FAMILIES}
        for change in self.tracker.take():
            changes[change.family].append(change)
        self._now += 1
        for family, state in self.families.items():
            if not state.sync(changes[family], self._now):
                raise SystemExit(f"{family}: rules were not written")

    @property
    def operations(self) -> int:
        return int(sum(self.metrics.elements.value(family) for family in FAMILIES))

    def close(self) -> None:
        self.writer.close()
        namespaces.remove(self.path)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cold_and_warm(node: Node) -> dict[str, float]:
    """Seconds to lay everything, and to find at a restart that nothing is to be done."""
    services = [service_json(number) for number in range(node.size)]
    slices = [(n, f, slice_json(n, f, [0, 1])) for n in range(node.size) for f in FAMILIES]
    cold = timed(lambda: node.fill(services, slices))
    laid = node.operations
    node.writer.close()
    node.start()
    warm = timed(lambda: node.fill(services, slices))
    if node.operations:
        raise SystemExit(f"a restart wrote {node.operations} elements")
    print(f"{node.size:6} Services: cold {cold:.3f} s for {laid} elements, warm restart {warm:.3f} s for none")
    return {"cold_s": cold, "elements": laid, "warm_s": warm}


def changes_of(nodes: list[Node], count: int) -> dict[int, list[float]]:
    """Seconds of each change of one endpoint, by size: one added, then taken away again."""
    times: dict[int, list[float]] = {node.size: [] for node in nodes}
    for turn in range(count):
        for node in nodes:
            number, family = (turn // 2 * 37 + 5) % node.size, FAMILIES[turn // 2 % 2]
            data = slice_json(number, family, [0, 1, 2] if turn % 2 == 0 else [0, 1])
            times[node.size].append(timed(lambda n=node, i=number, f=family, d=data: n.change(i, f, d)))  # type: ignore[misc]
    return times


def smallest_exchange(node: Node) -> float:
    connection = namespaces.inside(node.path, Nftables)
    try:
        return statistics.median(timed(connection.generation) for _ in range(2000))
    finally:
        connection.close()


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--sizes", default="1000,10000,30000")
    parser.add_argument("--changes", type=int, default=300)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    sizes = [int(text) for text in arguments.sizes.split(",")]
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    nodes: list[Node] = []
    report: dict[str, Any] = {"sizes": {}}
    try:
        for size in sizes:
            nodes.append(Node(size))
            report["sizes"][str(size)] = cold_and_warm(nodes[-1])
        gc.freeze()  # as the proxy does once it has started
        changes_of(nodes, 20)
        times = changes_of(nodes, arguments.changes)
        floor = smallest_exchange(nodes[0])
    finally:
        for node in nodes:
            node.close()
    medians = {size: statistics.median(values) for size, values in times.items()}
    for size, values in times.items():
        median, slow = medians[size], sorted(values)[int(len(values) * 0.99)]
        report["sizes"][str(size)] |= {"change_median_s": median, "change_p99_s": slow}
        print(
            f"{size:6} Services: one endpoint {median * 1e6:.0f} µs median, {slow * 1e6:.0f} µs p99, "
            f"{median / floor:.1f} times GETGEN ({floor * 1e6:.1f} µs)"
        )
    flatness = max(medians.values()) / min(medians.values())
    report |= {"getgen_s": floor, "flatness": flatness, "resident_mb": resident()}
    print(f"flatness {flatness:.2f} (slowest over fastest size); this process holds {resident():.0f} MB")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
