"""From a write to the API server to the kernel of a node: how long one endpoint's change is under way.

    bench/proxy_api.py [--services 10000] [--changes 200] [--json FILE]

Claim: with 10 000 dual-stack Services of two endpoints a family, the median is 8 ms, from the first byte of a PUT of
an EndpointSlice to the element in the kernel: our API server, TLS, a durable write, the watch and the proxy together.
The floor of the same run is the PUT alone, until it is answered. Run as root; server and proxy work in a network
namespace of their own, which goes away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.apiserver.connections import Call, Connection, context
from bench.proxy_process import NODE, PATIENCE, Proxy, loopback
from bench.proxy_sync import FAMILIES, PODS, slice_json
from tests.server_process import TOKEN, Client, Server

from twinstack.dataplane.model import Target
from twinstack.linux import namespaces
from twinstack.linux.netlink import NETFILTER, NetlinkSocket
from twinstack.proxy.elements import target_value

RESULTS = Path(__file__).parent / "results" / "proxy_api.json"
SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
CONNECTIONS = 8  # that fill the server
APART = 0.05  # seconds between changes: those that follow within 20 ms are written together, and wait for it
CHANGES_GROUP = 7  # of nf_tables, linux/netfilter/nfnetlink.h


def service(number: int) -> Call:
    spec = {"ipFamilyPolicy": "RequireDualStack", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return Call("POST", SERVICES, json.dumps({"metadata": {"name": f"s{number}"}, "spec": spec}).encode())


async def fill(port: int, services: int) -> None:
    calls = [Call("POST", "/api/v1/nodes", json.dumps({"metadata": {"name": NODE}}).encode())]
    calls += [service(number) for number in range(services)]
    calls += [Call("POST", SLICES, slice_json(n, family, [0, 1])) for n in range(services) for family in FAMILIES]
    tls, pending = context(), iter(calls)

    async def work() -> None:
        connection = await Connection.open(port, tls)
        for call in pending:
            await connection.call(call)
        connection.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


class Arrivals:
    """When elements come into the kernel, told by the kernel."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETFILTER, 1 << CHANGES_GROUP - 1)
        self._wanted = b""
        self._at = 0.0
        self._seen = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def expect(self, value: bytes) -> None:
        self._seen.clear()
        self._wanted = value

    def wait(self) -> float:
        if not self._seen.wait(PATIENCE):
            raise SystemExit("a change has not reached the kernel in a minute")
        return self._at

    def _read(self) -> None:
        while True:
            replies = self._socket.receive()
            now = time.perf_counter()
            if self._wanted and any(self._wanted in reply.body for reply in replies):
                self._at, self._wanted = now, b""
                self._seen.set()


def change(client: Client, arrivals: Arrivals, turn: int, services: int) -> tuple[float, float]:
    """Seconds until the kernel has it, and until it is answered."""
    time.sleep(APART)
    number, family = turn * 37 % services, FAMILIES[turn % 2]
    extra = 2 + turn // (2 * services) % 4
    body = json.loads(slice_json(number, family, [0, extra]))
    arrivals.expect(target_value(Target(PODS[family].address(number * 8 + extra + 1), 8080)))
    began = time.perf_counter()
    status, answer = client.call("PUT", f"{SLICES}/{body['metadata']['name']}", body)
    answered = time.perf_counter()
    if status != 200:
        raise SystemExit(f"refused: {answer}")
    return arrivals.wait() - began, answered - began


def measure(path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs in the namespace, and so does what it starts."""
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), "--advertise-address", "192.0.2.1")
        with server.running():
            asyncio.run(fill(server.port, arguments.services))
            kubeconfig = Path(directory) / "kubeconfig"
            kubeconfig.write_text(json.dumps(access(server)))
            proxy = Proxy(path, kubeconfig)
            try:
                proxy.programmed()
                arrivals = Arrivals()
                with server.client() as client:
                    for turn in range(20):
                        change(client, arrivals, turn, arguments.services)
                    before = proxy.cpu
                    pairs = [change(client, arrivals, 20 + t, arguments.services) for t in range(arguments.changes)]
                cpu = (proxy.cpu - before) / arguments.changes
            finally:
                proxy.stop()
    reached, answered = (sorted(each) for each in zip(*pairs, strict=True))
    return {
        "services": arguments.services,
        "changes": arguments.changes,
        "kernel_median_s": statistics.median(reached),
        "kernel_p99_s": reached[int(len(reached) * 0.99)],
        "answer_median_s": statistics.median(answered),
        "proxy_cpu_s_per_change": cpu,
    }


def access(server: Server) -> dict[str, Any]:
    return {
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": f"https://127.0.0.1:{server.port}",
                    "certificate-authority": str(server.certificate),
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    path = namespaces.RUN_DIRECTORY / f"tt-bench-proxy-{os.getpid()}"
    namespaces.create(path, loopback)
    try:
        report = namespaces.inside(path, lambda: measure(path, arguments))
    finally:
        namespaces.remove(path)
    print(
        f"{report['services']} Services: in the kernel after {report['kernel_median_s'] * 1e3:.1f} ms median, "
        f"{report['kernel_p99_s'] * 1e3:.1f} ms p99; answered after {report['answer_median_s'] * 1e3:.1f} ms; "
        f"{report['proxy_cpu_s_per_change'] * 1e3:.2f} ms of the proxy's processor a change"
    )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
