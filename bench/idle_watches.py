"""Thousands of idle watches cost memory alone, and little of it.

    bench/idle_watches.py [--watches 5000] [--writes 500]

The watches look at Services; the writes are patches of ConfigMaps, which nobody watches. The floor holds as many
TLS connections of the event loop with a stream each and knows nothing more of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop
from bench.apiserver.bare_tls import bare_tls
from bench.apiserver.connections import MERGE, SERVICES, Call, Watch, context, load, watch
from bench.apiserver.measured import Measured, api_server, write_results

_MAPS = "/api/v1/namespaces/default/configmaps"
_OBJECTS = 50
_AT_ONCE = 50  # handshakes in work


def _creations() -> list[Call]:
    bodies = [json.dumps({"metadata": {"name": f"c{i}"}, "data": {"k": "v" * 500}}) for i in range(_OBJECTS)]
    return [Call("POST", _MAPS, body.encode()) for body in bodies]


def _writes(count: int, tag: str) -> list[Call]:
    return [
        Call("PATCH", f"{_MAPS}/c{i % _OBJECTS}", json.dumps({"data": {"n": f"{tag}{i}"}}).encode(), MERGE)
        for i in range(count)
    ]


async def _hold(server: Measured, path: str, count: int) -> list[Watch]:
    tls = context()
    held: list[Watch] = []
    for start in range(0, count, _AT_ONCE):
        number = min(_AT_ONCE, count - start)
        held += await asyncio.gather(*(watch(server.port, tls, path) for _ in range(number)))
    await asyncio.sleep(1)
    return held


async def _memory_of(server: Measured, path: str, count: int) -> tuple[float, list[Watch]]:
    """KiB of each watch, and the watches."""
    (await _hold(server, path, 1))[0].transport.abort()  # what the first one loads belongs to no one
    await asyncio.sleep(0.2)
    before = server.memory()
    held = await _hold(server, path, count)
    return (server.memory() - before) / count, held


async def _measure(server: Measured, watches: int, writes: int) -> dict[str, float]:
    await load(server, 4, _creations())
    await load(server, 4, _writes(writes, "warm"))
    without = [(await load(server, 4, _writes(writes, f"a{turn}")))["cpu_ms"] for turn in range(3)]
    size, held = await _memory_of(server, f"{SERVICES}?watch=1&resourceVersion=0&timeoutSeconds=600", watches)
    among = [(await load(server, 4, _writes(writes, f"b{turn}")))["cpu_ms"] for turn in range(3)]
    for each in held:
        each.transport.abort()
    return {"watch_kib": size, "write_ms": sorted(among)[1], "write_without_watches_ms": sorted(without)[1]}


async def _bare(floor: Measured, watches: int) -> float:
    size, held = await _memory_of(floor, "/watch", watches)
    for each in held:
        each.transport.abort()
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watches", type=int, default=5000)
    parser.add_argument("--writes", type=int, default=500)
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * args.watches + 1000)), hard))
    with tempfile.TemporaryDirectory(prefix="twinstack-bench-") as name:
        with api_server(Path(name)) as server:
            figures = uvloop.run(_measure(server, args.watches, args.writes))
        with bare_tls(Path(name)) as floor:
            figures["bare_kib"] = uvloop.run(_bare(floor, args.watches))
    figures |= {
        "ratio": figures["watch_kib"] / figures["bare_kib"],
        "write_ratio": figures["write_ms"] / figures["write_without_watches_ms"],
    }
    print(
        f"{args.watches} idle watches: {figures['watch_kib']:.1f} KiB each, bare TLS {figures['bare_kib']:.1f} KiB, "
        f"ratio {figures['ratio']:.2f}"
    )
    print(
        f"a write to another kind: {figures['write_ms']:.3f} ms CPU with them, "
        f"{figures['write_without_watches_ms']:.3f} ms without, ratio {figures['write_ratio']:.2f}"
    )
    write_results("idle_watches", figures)


if __name__ == "__main__":
    main()
