"""A request costs the server little more than moving its bytes: get, lists, a selection, a patch.

    bench/api_requests.py [--services 2000]

On a store with many dual-stack Services. The floor of a read is a bare TLS server that sends as many bytes; that of
a patch is SQLite writing a row of the same size with a synced log, with a bare TLS request around it. CPU is the
server's own, of all its threads.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop
from bench.apiserver.bare_sqlite import commits
from bench.apiserver.bare_tls import bare_tls
from bench.apiserver.connections import SERVICES, Call, Connection, context, creations, load, patches
from bench.apiserver.measured import Measured, api_server, write_results

_COMMITS = 500


class Kind(NamedTuple):
    """One sort of request, sent `total` times over `connections` connections."""

    name: str
    connections: int
    total: int
    query: str  # behind the collection's path; {} is the number of a Service


_READS = (
    Kind("get", 16, 4000, "/s{}"),
    Kind("list", 2, 60, ""),
    Kind("list limit=500", 2, 100, "?limit=500"),
    Kind("list label, one hit", 4, 300, "?labelSelector=app%3Ds{}"),
    Kind("list field, one hit", 4, 300, "?fieldSelector=metadata.name%3Ds{}"),
)


def _calls(kind: Kind, services: int) -> list[Call]:
    return [Call("GET", SERVICES + kind.query.format(i % services)) for i in range(kind.total)]


async def _size(server: Measured, call: Call) -> int:
    connection = await Connection.open(server.port, context())
    body = await connection.call(call)
    connection.close()
    return len(body)


def _measure_read(server: Measured, floor: Measured, kind: Kind, services: int) -> dict[str, float]:
    calls = _calls(kind, services)
    size = uvloop.run(_size(server, calls[0]))
    bare = [Call("GET", f"/{size}")] * kind.total
    for each, requests in ((server, calls), (floor, bare)):
        uvloop.run(load(each, kind.connections, requests[: kind.total // 5]))
    found = uvloop.run(load(server, kind.connections, calls))
    floor_ms = uvloop.run(load(floor, kind.connections, bare))["cpu_ms"]
    return found | {"bytes": size, "floor_cpu_ms": floor_ms}


def _measure_patch(
    server: Measured, floor: Measured, directory: Path, connections: int, services: int
) -> dict[str, float]:
    size = uvloop.run(_size(server, Call("GET", f"{SERVICES}/s0")))
    found = uvloop.run(load(server, connections, patches(1000, services, f"with-{connections}")))
    bare = uvloop.run(load(floor, connections, [Call("GET", f"/{size}")] * 1000))["cpu_ms"]
    return found | {"bytes": size, "floor_cpu_ms": bare + commits(directory, [size], _COMMITS)["cpu_ms"]}


def _show(name: str, found: dict[str, float]) -> None:
    found["ratio"] = found["cpu_ms"] / found["floor_cpu_ms"]
    print(
        f"{name:20} {found['bytes']:9.0f} bytes {found['per_second']:7.0f}/s {found['cpu_ms']:7.3f} ms CPU   "
        f"floor {found['floor_cpu_ms']:7.3f} ms   ratio {found['ratio']:5.2f}   p99 {found['p99_ms']:.1f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=2000)
    args = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="twinstack-bench-") as name:
        directory = Path(name)
        with api_server(directory) as server, bare_tls(directory) as floor:
            uvloop.run(load(server, 16, creations(0, args.services)))
            for kind in _READS:
                found = results[kind.name] = _measure_read(server, floor, kind, args.services)
                _show(kind.name, found)
            for connections in (1, 16):
                title = f"patch, {connections} clients"
                found = results[title] = _measure_patch(server, floor, directory, connections, args.services)
                _show(title, found)
            print(f"{server.memory() / 1024:.0f} MiB")
    write_results("api_requests", results)


if __name__ == "__main__":
    main()
