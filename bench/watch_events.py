"""A watch event costs little more than writing its bytes to a TLS connection, and arrives within milliseconds.

    bench/watch_events.py [--services 2000] [--watchers 50] [--updates 400]

One client patches Services, one at a time, while others watch all of them. What the events cost is the difference
to the same patches without watchers. The floor sends the same bytes to as many TLS connections and does nothing
else; there, too, the request without streams is taken off. Delays run from the moment the patch was answered,
which is after its commit (0 when the event came first), and from the moment it was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop
from bench.apiserver.bare_tls import bare_tls
from bench.apiserver.connections import (
    MARK,
    SERVICES,
    Call,
    Connection,
    Watch,
    context,
    creations,
    latencies,
    load,
    patches,
    watch,
)
from bench.apiserver.measured import Measured, api_server, write_results

_EVENT_OVERHEAD = len(b'{"type":"MODIFIED","object":}\n') + len(b"480\r\n\r\n")
_GRACE = 30.0  # seconds for the last events
_Times = dict[bytes, tuple[float, float]]  # of each patch: sent, answered


async def _send(server: Measured, calls: list[tuple[bytes, Call]]) -> tuple[_Times, float]:
    """One after the other; the server's CPU seconds are read after a pause, when all events are out."""
    connection = await Connection.open(server.port, context())
    times: _Times = {}
    cpu = server.cpu()
    for name, call in calls:
        sent = time.perf_counter()
        await connection.call(call)
        times[name] = sent, time.perf_counter()
    await asyncio.sleep(0.2)
    connection.close()
    return times, server.cpu() - cpu


async def _all_seen(watches: list[Watch], count: int) -> None:
    end = time.monotonic() + _GRACE
    while sum(len(each.seen) for each in watches) < count * len(watches):
        if time.monotonic() > end:
            raise SystemExit("events are missing")
        await asyncio.sleep(0.01)


def _tagged(tag: str, updates: int, services: int) -> list[tuple[bytes, Call]]:
    return [(f"{tag}-{i}".encode(), call) for i, call in enumerate(patches(updates, services, tag))]


async def _events(server: Measured, services: int, watchers: int, updates: int) -> dict[str, float]:
    await _send(server, _tagged("warm", updates, services))
    _, alone = await _send(server, _tagged("alone", updates, services))
    tls = context()
    path = f"{SERVICES}?watch=1&allowWatchBookmarks=true"
    watches = [await watch(server.port, tls, path) for _ in range(watchers)]
    await asyncio.sleep(1)  # the state that a watch without a revision begins with
    memory = server.memory()
    for each in watches:
        each.seen.clear()
    times, cpu = await _send(server, _tagged("seen", updates, services))
    await _all_seen(watches, updates)
    arrivals = [(name, when) for each in watches for name, when in each.seen]
    after_commit = latencies([max(0.0, when - times[name][1]) for name, when in arrivals])
    after_sending = latencies([when - times[name][0] for name, when in arrivals])
    for each in watches:
        each.transport.abort()
    return {
        "event_us": 1e6 * (cpu - alone) / (updates * watchers),
        "event_with_its_patch_us": 1e6 * cpu / (updates * watchers),
        "patch_ms": 1e3 * alone / updates,
        "memory_mib": memory / 1024,
        **{f"after_commit_{name}": value for name, value in after_commit.items()},
        **{f"after_sending_{name}": value for name, value in after_sending.items()},
    }


async def _bare(floor: Measured, size: int, watchers: int, updates: int) -> float:
    """Microseconds of CPU for one write to one connection."""
    event = MARK + b"x" * (size - len(MARK) - 1) + b'"'
    calls = [(b"", Call("PUT", "/", event))] * updates
    await _send(floor, calls)
    _, alone = await _send(floor, calls)
    tls = context()
    watches = [await watch(floor.port, tls, "/watch") for _ in range(watchers)]
    _, cpu = await _send(floor, calls)
    await _all_seen(watches, updates)
    for each in watches:
        each.transport.abort()
    return 1e6 * (cpu - alone) / (updates * watchers)


async def _size(server: Measured) -> int:
    connection = await Connection.open(server.port, context())
    shown = await connection.call(Call("GET", f"{SERVICES}/s0"))
    connection.close()
    return len(shown) + _EVENT_OVERHEAD


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--updates", type=int, default=400)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="twinstack-bench-") as name, api_server(Path(name)) as server:
        uvloop.run(load(server, 16, creations(0, args.services)))
        figures = uvloop.run(_events(server, args.services, args.watchers, args.updates))
        size = uvloop.run(_size(server))
        with bare_tls(Path(name)) as floor:
            figures["bare_us"] = uvloop.run(_bare(floor, size, args.watchers, args.updates))
    figures |= {"event_bytes": size, "ratio": figures["event_us"] / figures["bare_us"]}
    print(
        f"event of {size} bytes to {args.watchers} watchers: {figures['event_us']:.1f} us CPU each, "
        f"bare TLS {figures['bare_us']:.1f} us, ratio {figures['ratio']:.2f} "
        f"(with the patch itself {figures['event_with_its_patch_us']:.1f} us; a patch {figures['patch_ms']:.2f} ms)"
    )
    print(
        f"delivered p50 {figures['after_commit_p50_ms']:.2f} ms, p99 {figures['after_commit_p99_ms']:.2f} ms after the "
        f"commit; p99 {figures['after_sending_p99_ms']:.2f} ms after sending; {figures['memory_mib']:.0f} MiB"
    )
    write_results("watch_events", figures)


if __name__ == "__main__":
    main()
