"""What creating a Service costs the server, beside a ConfigMap of the same size and the rules alone.

    bench/service_create.py [--services 4000] [--connections 16] [--json FILE]

The ConfigMap passes through the same TLS, decoding, generic verbs and store: what a dual-stack Service costs
more is its rules, two addresses and three records instead of one. The last thousand Services beside the first
show that the price does not grow with their number. CPU is the server's own, of all its threads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.service_server import MemoryStore, Server  # noqa: E402

from twinstack.api.resources import Resource  # noqa: E402

JSON = dict[str, Any]
TOKEN = "bench-token"
RANGES = "10.96.0.0/16,fd00:96::/112"
TICKS = os.sysconf("SC_CLK_TCK")
READY_SECONDS = 20.0


def service(number: int) -> JSON:
    name = f"s{number}"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "https", "port": 443}],
        },
    }


def config_map(number: int) -> JSON:
    """As many bytes as a Service, stored and shown."""
    name = f"c{number}"
    data = {"selector": name, "policy": "PreferDualStack", "http": "80 " * 60, "https": "443"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}}, "data": data}


@contextmanager
def server(directory: Path) -> Iterator[tuple[int, int]]:
    """A `twinstack server` on loopback; yields its port and process id."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    tokens = directory / "tokens.csv"
    tokens.write_text(f'{TOKEN},admin,admin,"system:masters"\n')
    command = [
        *(sys.executable, "-m", "twinstack.cli.main", "server"),
        *("--secure-port", str(port), "--bind-address", "127.0.0.1", "--advertise-address", "192.0.2.1"),
        *("--sqlite", str(directory / "store"), "--cert-dir", str(directory), "--token-auth-file", str(tokens)),
        *("--service-cluster-ip-range", RANGES, "--disable-admission-plugins", "ServiceAccount"),
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        asyncio.run(ready(port, process))
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(10)


async def ready(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            connection = await Connection.open(port)
            status = await connection.call("GET", "/readyz")
            connection.close()
            if status == 200:
                return
        except OSError:
            pass  # not listening yet
        await asyncio.sleep(0.05)
    raise SystemExit("the server did not become ready")


class Connection:
    """One kept TLS connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context))

    async def call(self, method: str, path: str, body: bytes = b"") -> int:
        """Returns the HTTP status; the answer's body is read and dropped."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        await self._reader.readexactly(length)
        return int(lines[0].split()[1])

    def close(self) -> None:
        self._writer.close()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def load(port: int, pid: int, connections: int, path: str, bodies: Iterable[JSON]) -> dict[str, float]:
    """POST all bodies; returns creates a second and the server's CPU milliseconds each."""
    pending = iter([json.dumps(body).encode() for body in bodies])
    open_connections = [await Connection.open(port) for _ in range(connections)]
    done = 0

    async def work(connection: Connection) -> None:
        nonlocal done
        for body in pending:
            status = await connection.call("POST", path, body)
            if status != 201:
                raise SystemExit(f"POST {path} answered {status}")
            done += 1

    cpu, start = cpu_seconds(pid), time.perf_counter()
    await asyncio.gather(*map(work, open_connections))
    seconds, cpu = time.perf_counter() - start, cpu_seconds(pid) - cpu
    for connection in open_connections:
        connection.close()
    return {"per_second": done / seconds, "cpu_ms": 1000 * cpu / done}


class RangesAtHand(MemoryStore):
    """Finds the ServiceCIDR without looking through all records, as the server's cache does."""

    def list(self, resource: Resource, namespace: str = "") -> Iterable[JSON]:
        return [msgspec.json.decode(self.records[resource.key(namespace, "kubernetes")])]


def rules_alone(count: int) -> float:
    """Microseconds that defaults, rules, allocation and encoding of the records take, without any server."""
    memory = Server("dual46", RangesAtHand())
    bodies = [service(number) for number in range(count)]
    for body in bodies:
        body["metadata"] |= {"namespace": "default", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    start = time.perf_counter()
    for body in bodies:
        memory.strategy.default(body)
        change = memory.strategy.create(memory.context("bench"), body)
        memory.store.commit(change.also)
    return 1e6 * (time.perf_counter() - start) / count


def measure(services: int, connections: int) -> dict[str, Any]:
    part = services // 4
    base = "/api/v1/namespaces/default"
    with tempfile.TemporaryDirectory(prefix="twinstack-bench-") as directory, server(Path(directory)) as (port, pid):

        def run(path: str, bodies: Iterable[JSON]) -> dict[str, float]:
            return asyncio.run(load(port, pid, connections, f"{base}/{path}", bodies))

        run("configmaps", map(config_map, range(part, part + 200)))  # warm up
        floor = run("configmaps", map(config_map, range(part)))
        parts = [run("services", map(service, range(i * part, (i + 1) * part))) for i in range(4)]
    cpu = sum(each["cpu_ms"] for each in parts) / 4
    rules = rules_alone(min(part, 1000))
    return {
        "services": services,
        "service_per_second": 4 / sum(1 / each["per_second"] for each in parts),
        "service_cpu_ms": cpu,
        "configmap_per_second": floor["per_second"],
        "configmap_cpu_ms": floor["cpu_ms"],
        "rules_us": rules,
        "service_to_configmap_cpu": cpu / floor["cpu_ms"],
        "rules_share_of_cpu": rules / 1000 / cpu,
        "last_to_first_quarter_cpu": parts[3]["cpu_ms"] / parts[0]["cpu_ms"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--services", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    found = measure(args.services, args.connections)
    print(
        f"Service: {found['service_per_second']:.0f}/s, {found['service_cpu_ms']:.2f} ms CPU each; "
        f"ConfigMap: {found['configmap_per_second']:.0f}/s, {found['configmap_cpu_ms']:.2f} ms; "
        f"ratio {found['service_to_configmap_cpu']:.2f}"
    )
    print(
        f"rules alone {found['rules_us']:.0f} us, {found['rules_share_of_cpu']:.0%} of the CPU; "
        f"last quarter of {args.services} beside the first: {found['last_to_first_quarter_cpu']:.2f}"
    )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
