"""What creating a Service costs the server, beside a ConfigMap of the same size and the rules alone.

    bench/service_create.py [--services 4000] [--connections 16]

The ConfigMap passes through the same TLS, decoding, generic verbs and store: what a dual-stack Service costs
more is its rules, two addresses and three records instead of one. The last thousand Services beside the first
show that the price does not grow with their number. The floor of a durable create is SQLite alone, committing the
same records one create after the other. CPU is the server's own, of all its threads.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec
import uvloop
from bench.apiserver.bare_sqlite import commits
from bench.apiserver.connections import Call, load, service
from bench.apiserver.measured import api_server, write_results
from tests.service_server import MemoryStore, Server

from twinstack.api.resources import Resource

JSON = dict[str, Any]


def config_map(number: int) -> JSON:
    """As many bytes as a Service, stored and shown."""
    name = f"c{number}"
    data = {"selector": name, "policy": "PreferDualStack", "http": "80 " * 60, "https": "443"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}}, "data": data}


def posts(path: str, bodies: Iterable[JSON]) -> list[Call]:
    return [Call("POST", f"/api/v1/namespaces/default/{path}", json.dumps(body).encode()) for body in bodies]


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


def record_sizes(directory: Path, name: str) -> list[int]:
    """Bytes of the records of one Service, as they are stored."""
    with sqlite3.connect(directory / "state.db") as database:
        found = database.execute("SELECT length(value) FROM records WHERE instr(value, ?)", (f'"{name}"'.encode(),))
        sizes = [size for (size,) in found]
    database.close()
    return sizes


def measure(services: int, connections: int) -> dict[str, Any]:
    part = services // 4
    with tempfile.TemporaryDirectory(prefix="twinstack-bench-") as name:
        directory = Path(name)
        with api_server(directory, "--disable-admission-plugins", "ServiceAccount") as server:

            def run(path: str, bodies: Iterable[JSON]) -> dict[str, float]:
                return uvloop.run(load(server, connections, posts(path, bodies)))

            run("configmaps", map(config_map, range(part, part + 200)))  # warm up
            generic = run("configmaps", map(config_map, range(part)))
            parts = [run("services", map(service, range(i * part, (i + 1) * part))) for i in range(4)]
        sizes = record_sizes(directory, "s0")
        floor = commits(directory, sizes, part)
    cpu = sum(each["cpu_ms"] for each in parts) / 4
    rules = rules_alone(min(part, 1000))
    return {
        "services": services,
        "service_per_second": 4 / sum(1 / each["per_second"] for each in parts),
        "service_cpu_ms": cpu,
        "records_a_service": len(sizes),
        "bare_sqlite_per_second": floor["per_second"],
        "bare_sqlite_cpu_ms": floor["cpu_ms"],
        "configmap_per_second": generic["per_second"],
        "configmap_cpu_ms": generic["cpu_ms"],
        "rules_us": rules,
        "service_to_configmap_cpu": cpu / generic["cpu_ms"],
        "rules_share_of_cpu": rules / 1000 / cpu,
        "last_to_first_quarter_cpu": parts[3]["cpu_ms"] / parts[0]["cpu_ms"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--services", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=16)
    args = parser.parse_args()
    found = measure(args.services, args.connections)
    print(
        f"Service: {found['service_per_second']:.0f}/s, {found['service_cpu_ms']:.2f} ms CPU each; "
        f"ConfigMap: {found['configmap_per_second']:.0f}/s, {found['configmap_cpu_ms']:.2f} ms; "
        f"ratio {found['service_to_configmap_cpu']:.2f}"
    )
    print(
        f"bare SQLite, one commit of the same {found['records_a_service']} records after the other: "
        f"{found['bare_sqlite_per_second']:.0f}/s, {found['bare_sqlite_cpu_ms']:.2f} ms CPU"
    )
    print(
        f"rules alone {found['rules_us']:.0f} us, {found['rules_share_of_cpu']:.0%} of the CPU; "
        f"last quarter of {args.services} beside the first: {found['last_to_first_quarter_cpu']:.2f}"
    )
    write_results("service_create", found)


if __name__ == "__main__":
    main()
