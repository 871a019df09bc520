"""A pod's network: raw netlink against the same links, addresses and routes made by `ip -batch`.

Claim: at most 2 ms a dual-stack pod, and a fraction of what forking `ip` costs. Run as root; makes and
removes namespaces of its own. Prints a line and, with `--json FILE`, writes the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from twinstack.ip import CIDR, Address
from twinstack.linux import namespaces
from twinstack.node.network import PodNetwork
from twinstack.node.podaddresses import PodAddresses
from twinstack.node.wiring import GATEWAY_MAC

PREFIX = f"tt-F-bench-{os.getpid()}"
CIDRS = [CIDR.parse("10.244.1.0/24"), CIDR.parse("fd00:10:244:1::/64")]
MAC = "0a:58:00:00:00:02"


def by_netlink(node: Path, directory: Path, pods: int) -> tuple[list[float], float]:
    """Seconds for each pod, and seconds a pod to take it away again."""
    network = PodNetwork(PodAddresses(directory), f"{PREFIX}-a")
    namespaces.inside(node, lambda: network.open(CIDRS, [Address.parse("172.30.0.11")]))
    times = []
    try:
        for number in range(pods):
            begin = time.perf_counter()
            network.attach(f"pod-{number}")
            times.append(time.perf_counter() - begin)
    finally:
        begin = time.perf_counter()
        for uid in network.pods():
            network.detach(uid)
        removal = (time.perf_counter() - begin) / max(1, len(times))
        network.close()
    return times, removal


def by_ip_batch(node: Path, number: int) -> float:
    """Seconds for one pod: three programs, the fewest that can do it."""
    name, link = f"{PREFIX}-b{number}", f"ib{number}"
    a4, a6 = f"10.244.2.{number + 2}", f"fd00:10:244:2::{number + 2:x}"
    gateway = GATEWAY_MAC.hex(":")
    inside = f"""link set lo up
link set eth0 up
addr add {a4}/32 dev eth0
addr add {a6}/128 dev eth0 nodad
route add default via fe80::1 dev eth0
route add 0.0.0.0/0 via inet6 fe80::1 dev eth0 onlink
neigh add fe80::1 lladdr {gateway} dev eth0 nud permanent
"""
    outside = f"""link add {link} address {gateway} type veth peer name eth0 address {MAC} netns {name}
link set {link} up
addr add fe80::1/64 dev {link} nodad
route add {a4}/32 dev {link}
route add {a6}/128 dev {link}
neigh add {a4} lladdr {MAC} dev {link} nud permanent
neigh add {a6} lladdr {MAC} dev {link} nud permanent
"""
    begin = time.perf_counter()
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", node.name, "-batch", "-"], input=outside, text=True, check=True)
        subprocess.run(["ip", "-n", name, "-batch", "-"], input=inside, text=True, check=True)
        return time.perf_counter() - begin
    finally:
        namespaces.remove(namespaces.RUN_DIRECTORY / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    node = namespaces.RUN_DIRECTORY / f"{PREFIX}-node"
    namespaces.create(node, lambda: None)
    try:
        with tempfile.TemporaryDirectory() as directory:
            raw, removal = by_netlink(node, Path(directory), args.pods)
        batch = [by_ip_batch(node, number) for number in range(min(20, args.pods))]
    finally:
        namespaces.remove(node)
    figures = {
        "pods": args.pods,
        "netlink_ms_p50": statistics.median(raw) * 1e3,
        "netlink_ms_p90": sorted(raw)[len(raw) * 9 // 10] * 1e3,
        "removal_ms": removal * 1e3,
        "ip_batch_ms_p50": statistics.median(batch) * 1e3,
        "ratio": statistics.median(batch) / statistics.median(raw),
    }
    print(
        f"{args.pods} pods: {figures['netlink_ms_p50']:.2f} ms each (p90 {figures['netlink_ms_p90']:.2f}), removal "
        f"{figures['removal_ms']:.2f} ms; ip -batch {figures['ip_batch_ms_p50']:.2f} ms: {figures['ratio']:.1f} times"
    )
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
