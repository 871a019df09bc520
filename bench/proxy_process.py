"""What the proxy costs as a process: its start, a restart, memory, idling, and a stream of changes.

    bench/proxy_process.py [--services 10000] [--seconds 10] [--rate 1000] [--idle 20] [--json FILE]

Claims, with 10 000 dual-stack Services of two endpoints a family:

- cold start, from the process's first instruction to the last rule, the API's answers read: 1.5 s
- restart with nothing changed: 0.8 s, and not one element is written
- return after a death in which somebody flushed the rule set: 1.5 s, as a cold start
- resident ten seconds after the start: 140 MB, and never more than 200
- idle: 0.2 % of a core
- a thousand changes a second are in the kernel within 50 ms, for one core at most

The API server is a stub in this process: it sends bytes that were made before, over plain TCP. Floors of the same
run: the time of the interpreter with the proxy's imports alone, and of the kernel's transaction alone. Run as root;
the proxy works in a network namespace of its own, which goes away.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.proxy_sync import FAMILIES, PODS, SERVICES, service_json, slice_json

from twinstack.dataplane.model import Protocol, Slot, Target
from twinstack.ip import IPFamily
from twinstack.linux import links, namespaces
from twinstack.linux.netlink import ROUTE, NetlinkError, NetlinkSocket, attr, attributes, nest, text
from twinstack.linux.nftables import Nftables
from twinstack.linux.nftables.objects import GETELEMENT
from twinstack.proxy.elements import index_key, slot_key, target_value
from twinstack.proxy.layout import Layout
from twinstack.proxy.writer import remove_tables

RESULTS = Path(__file__).parent / "results" / "proxy_process.json"
NODE = "node-0"
PATIENCE = 60.0  # seconds for anything
METRICS_PORT = 10249
TICKS = os.sysconf("SC_CLK_TCK")

Collected = dict[str, list[bytes]]


def event(kind: str, body: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), body)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def versioned(body: bytes, version: int) -> bytes:
    document = json.loads(body)
    document["metadata"] |= {"resourceVersion": str(version), "uid": f"{version:08d}-0000-4000-8000-000000000000"}
    return json.dumps(document, separators=(",", ":")).encode()


class Stub:
    """An API server of four collections, which it tells to whoever watches; it answers one process."""

    def __init__(self, path: Path, services: int) -> None:
        self._listener = namespaces.inside(path, lambda: socket.create_server(("127.0.0.1", 0)))
        self.port = self._listener.getsockname()[1]
        self.version = 1
        self.collections: Collected = {"services": [], "endpointslices": []}
        for number in range(services):
            self.collections["services"].append(versioned(service_json(number), self._next()))
            for family in FAMILIES:
                self.collections["endpointslices"].append(versioned(slice_json(number, family, [0, 1]), self._next()))
        node: dict[str, Any] = {
            "metadata": {"name": NODE, "uid": "n", "resourceVersion": "1"},
            "spec": {"podCIDRs": [str(PODS[family].subnet(24 if f4(family) else 64, 0)) for family in FAMILIES]},
            "status": {"addresses": [{"type": "InternalIP", "address": each} for each in ("10.9.9.9", "fd00:9::9")]},
        }
        ranges: dict[str, Any] = {"metadata": {"name": "kubernetes", "uid": "r", "resourceVersion": "1"}}
        ranges |= {"spec": {"cidrs": [str(SERVICES[family]) for family in FAMILIES]}}
        self.collections |= {"nodes": [json.dumps(node).encode()], "servicecidrs": [json.dumps(ranges).encode()]}
        self._watchers: dict[str, socket.socket] = {}
        threading.Thread(target=self._accept, daemon=True).start()

    def _next(self) -> int:
        self.version += 1
        return self.version

    def close(self) -> None:
        self._listener.close()
        for watcher in self._watchers.values():
            watcher.close()

    def send(self, events: list[bytes]) -> None:
        """Tell the watcher of the slices."""
        self._watchers["endpointslices"].sendall(chunked(b"".join(events)))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            data = connection.recv(65536)
            if not data:
                return
            received += data
        method, target, *_ = received.split(b" ", 2)
        if method == b"POST":  # an event
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            connection.close()
            return
        name = target.partition(b"?")[0].rsplit(b"/", 1)[1].decode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        events = [event("ADDED", body) for body in self.collections[name]]
        meta = {"resourceVersion": str(self.version), "annotations": {"k8s.io/initial-events-end": "true"}}
        events.append(event("BOOKMARK", json.dumps({"kind": "Object", "metadata": meta}).encode()))
        for first in range(0, len(events), 50):
            connection.sendall(chunked(b"".join(events[first : first + 50])))
        self._watchers[name] = connection


def f4(family: IPFamily) -> bool:
    return family is IPFamily.IPV4


class Proxy:
    """The process, and what can be seen of it from outside."""

    def __init__(self, path: Path, kubeconfig: Path) -> None:
        self._path = path
        self.started = time.time()
        command = ["nsenter", f"--net={path}", sys.executable, "-m", "twinstack.cli.main", "proxy"]
        flags = ["--kubeconfig", str(kubeconfig), "--hostname-override", NODE, "--healthz-bind-address", ""]
        self._process = subprocess.Popen([*command, *flags])  # nsenter executes the program: one process

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)

    def metrics(self) -> dict[str, float]:
        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", METRICS_PORT), PATIENCE) as connection:
                connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                return b"".join(iter(lambda: connection.recv(65536), b""))

        lines = namespaces.inside(self._path, ask).decode().partition("\r\n\r\n")[2].splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def programmed(self) -> dict[str, float]:
        """Wait until both families are written; returns the metrics."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            time.sleep(0.05)
            try:
                metrics = self.metrics()
            except OSError:
                continue
            if all(metrics.get(of("sync_full_proxy_rules_duration_seconds_count", family)) for family in FAMILIES):
                return metrics
        raise SystemExit("the proxy has not written its rules in a minute")

    @property
    def cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self, field: str) -> float:
        """VmRSS or VmHWM in MB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def of(name: str, family: IPFamily) -> str:
    return f'kubeproxy_{name}{{ip_family="{family}"}}'


class Started(NamedTuple):
    proxy: Proxy
    seconds: float  # from the start of the process to its last rule
    cpu: float  # seconds that it worked for it
    written: float  # element operations


def start(path: Path, kubeconfig: Path) -> Started:
    """A proxy that has written its rules."""
    proxy = Proxy(path, kubeconfig)
    metrics = proxy.programmed()
    last = max(metrics[of("sync_proxy_rules_last_timestamp_seconds", family)] for family in FAMILIES)
    written = sum(
        metrics.get(f'twinstack_proxy_element_operations_total{{ip_family="{family}"}}', 0.0) for family in FAMILIES
    )
    return Started(proxy, last - proxy.started, proxy.cpu, written)


class Kernel:
    """Looks at single elements."""

    def __init__(self, path: Path) -> None:
        self._nft = namespaces.inside(path, Nftables)
        self._layouts = {family: Layout(family) for family in FAMILIES}

    def close(self) -> None:
        self._nft.close()

    def target(self, number: int, family: IPFamily, index: int) -> bytes:
        """What the endpoint at `index` of a Service is."""
        collection = self._layouts[family].services.endpoints
        slot = Slot(SERVICES[family].address(number + 1), 80, Protocol.TCP)
        key = index_key(slot_key(slot), index)
        names = text(1, collection.table.name) + text(2, collection.name)
        request = bytes((family.af, 0, 0, 0)) + names + nest(3, nest(1, nest(1, attr(1, key))))
        try:
            body = self._nft.socket.get(GETELEMENT, request).body
        except NetlinkError:
            return b""
        element = dict(attributes(next(value for kind, value in attributes(body, 4) if kind == 3), 0))
        inside = dict(attributes(element[1]))
        return dict(attributes(inside[2]))[1]


class Stream:
    """Changes at a steady rate, and how long some of them took to reach the kernel."""

    def __init__(self, stub: Stub, kernel: Kernel, services: int, rate: int) -> None:
        self._stub, self._kernel, self._services, self._rate = stub, kernel, services, rate
        self._sample: tuple[float, int, IPFamily, bytes] | None = None
        self._done = False
        self.lags: list[float] = []

    def run(self, seconds: float) -> None:
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        prepared = [self._change(turn) for turn in range(int(seconds * self._rate))]
        begin = time.perf_counter()
        step = max(1, self._rate // 200)
        for turn in range(0, len(prepared), step):
            time.sleep(max(0.0, begin + turn / self._rate - time.perf_counter()))
            batch = prepared[turn : turn + step]
            self._stub.send([data for data, *_ in batch])
            if self._sample is None:
                _, number, family, wanted = batch[-1]
                self._sample = (time.perf_counter(), number, family, wanted)
        self._done = True
        watcher.join(PATIENCE)

    def _change(self, turn: int) -> tuple[bytes, int, IPFamily, bytes]:
        """The second endpoint of a Service becomes another one."""
        number, family = turn * 37 % self._services, FAMILIES[turn % 2]
        extra = 2 + turn // (2 * self._services) % 4
        body = versioned(slice_json(number, family, [0, extra]), self._stub.version + turn + 1)
        target = Target(PODS[family].address(number * 8 + extra + 1), 8080)
        return event("MODIFIED", body), number, family, target_value(target)

    def _watch(self) -> None:
        while not self._done or self._sample is not None:
            if self._sample is None:
                time.sleep(0.001)
                continue
            since, number, family, wanted = self._sample
            if wanted in (self._kernel.target(number, family, 0), self._kernel.target(number, family, 1)):
                self.lags.append(time.perf_counter() - since)
                self._sample = None
                time.sleep(0.02)
            elif time.perf_counter() - since > PATIENCE:
                raise SystemExit("a change has not reached the kernel in a minute")
            else:
                time.sleep(0.0005)


@contextmanager
def bed(services: int) -> Iterator[tuple[Path, Stub, Path]]:
    """A namespace with loopback, the stub in it, and a kubeconfig for it."""
    path = namespaces.RUN_DIRECTORY / f"tt-bench-proxy-{os.getpid()}"
    config = Path(f"/tmp/tt-bench-proxy-{os.getpid()}.json")
    namespaces.create(path, loopback)
    try:
        stub = Stub(path, services)
        clusters = [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{stub.port}"}}]
        contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
        users = [{"name": "u", "user": {}}]
        document = {"clusters": clusters, "contexts": contexts, "users": users, "current-context": "x"}
        config.write_text(json.dumps(document))
        yield path, stub, config
        stub.close()
    finally:
        config.unlink(missing_ok=True)
        namespaces.remove(path)


def loopback() -> None:
    route = NetlinkSocket(ROUTE)
    route.request([links.link_up(links.LOOPBACK)])
    route.close()


def imports() -> float:
    """Seconds of an interpreter that imports what the proxy does, and ends."""
    program = "import twinstack.proxy.command, uvloop"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - started


def measure(arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    with bed(arguments.services) as (path, stub, kubeconfig):
        report["imports_s"] = min(imports() for _ in range(3))
        print(f"imports alone {report['imports_s']:.2f} s")
        runs: dict[str, list[Started]] = {"cold": [], "warm": [], "flushed": []}
        for _ in range(arguments.repeat):
            namespaces.inside(path, lambda: remove_tables([Layout(family) for family in FAMILIES]))
            for name in runs:
                if name == "flushed":
                    subprocess.run(["nsenter", f"--net={path}", "nft", "flush", "ruleset"], check=True)
                runs[name].append(start(path, kubeconfig))
                runs[name][-1].proxy.stop()
            if not runs["flushed"][-1].written:
                raise SystemExit("the flush left the tables")
            if runs["warm"][-1].written:
                raise SystemExit(f"a restart wrote {runs['warm'][-1].written:.0f} elements")
        for name, started in runs.items():
            seconds, cpu = sorted(run.seconds for run in started), sorted(run.cpu for run in started)
            report |= {f"{name}_s": seconds, f"{name}_cpu_s": cpu}
            print(f"{name} start {seconds[0]:.2f}-{seconds[-1]:.2f} s, of which it worked {cpu[0]:.2f}-{cpu[-1]:.2f} s")
        namespaces.inside(path, lambda: remove_tables([Layout(family) for family in FAMILIES]))
        proxy = start(path, kubeconfig).proxy
        try:
            time.sleep(max(0.0, proxy.started + 10 - time.time()))
            report |= {"resident_mb": proxy.memory("VmRSS"), "peak_mb": proxy.memory("VmHWM")}
            print(f"ten seconds after the start {report['resident_mb']:.0f} MB, peak {report['peak_mb']:.0f} MB")
            before = proxy.cpu
            time.sleep(arguments.idle)
            report["idle_percent"] = (proxy.cpu - before) / arguments.idle * 100
            print(f"idle {report['idle_percent']:.2f} % of a core over {arguments.idle} s")
            stream(path, stub, proxy, arguments, report)
        finally:
            proxy.stop()


def stream(path: Path, stub: Stub, proxy: Proxy, arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    kernel = Kernel(path)
    flow = Stream(stub, kernel, arguments.services, arguments.rate)
    before, began = proxy.cpu, time.perf_counter()
    flow.run(arguments.seconds)
    spent = (proxy.cpu - before) / (time.perf_counter() - began)
    kernel.close()
    lags = sorted(flow.lags)
    report["stream"] = {
        "rate": arguments.rate,
        "samples": len(lags),
        "lag_median_s": lags[len(lags) // 2],
        "lag_p99_s": lags[int(len(lags) * 0.99)],
        "lag_most_s": lags[-1],
        "cores": spent,
    }
    print(
        f"{arguments.rate} changes/s: lag {lags[len(lags) // 2] * 1e3:.1f} ms median, "
        f"{lags[int(len(lags) * 0.99)] * 1e3:.1f} ms p99, {lags[-1] * 1e3:.1f} ms at most; {spent:.2f} cores"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=20)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    report: dict[str, Any] = {"services": arguments.services}
    measure(arguments, report)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
