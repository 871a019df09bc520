"""A watch event costs little more than writing its bytes to a TLS connection, and arrives within milliseconds.

    bench/watch_events.py [--services 2000] [--watchers 50] [--updates 50] [--rounds 12]

One client patches Services, one at a time, while others watch their namespace. What the events cost is the difference
to patches of Services in a namespace that nobody watches. The floor sends the same bytes to as many TLS connections
and does nothing else; there, too, requests without streams are taken off. All four take turns, so that what else the
machine does hits them alike; figures are medians of the rounds. Delays run from the moment the patch was answered,
which is after its commit (0 when the event came first), and from the moment it was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop
from bench.apiserver.bare_tls import bare_tls
from bench.apiserver.connections import (
    MARK,
    QUIET,
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


async def _send(server: Measured, calls: list[Call]) -> tuple[list[tuple[float, float]], float]:
    """One after the other: when each was sent and answered; CPU seconds of the server until all events are out."""
    connection = await Connection.open(server.port, context())
    times = []
    cpu = server.cpu()
    for call in calls:
        sent = time.perf_counter()
        await connection.call(call)
        times.append((sent, time.perf_counter()))
    await asyncio.sleep(0.1)
    connection.close()
    return times, server.cpu() - cpu


async def _watch(port: int, path: str, count: int) -> list[Watch]:
    tls = context()
    held = [await watch(port, tls, path) for _ in range(count)]
    await asyncio.sleep(1)  # the state that a watch without a revision begins with
    for each in held:
        each.seen.clear()
    return held


async def _all_seen(watches: list[Watch], count: int) -> None:
    end = time.monotonic() + _GRACE
    while sum(len(each.seen) for each in watches) < count * len(watches):
        if time.monotonic() > end:
            raise SystemExit("events are missing")
        await asyncio.sleep(0.01)


class _Turns:
    """CPU seconds of each sort of work, a round each."""

    def __init__(self, server: Measured, floor: Measured, updates: int, watchers: int) -> None:
        self._server = server
        self._floor = floor
        self._updates = updates
        self._watchers = watchers
        self._unseen: list[float] = []
        self._events: list[float] = []
        self._writes: list[float] = []
        self._after_commit: list[float] = []
        self._after_sending: list[float] = []

    async def run(self, number: int, size: int, watches: list[Watch], streams: list[Watch]) -> None:
        updates = self._updates
        _, unseen = await _send(self._server, patches(updates, updates, f"u{number}", QUIET))
        for each in (*watches, *streams):
            each.seen.clear()
        times, cpu = await _send(self._server, patches(updates, updates, f"w{number}"))
        await _all_seen(watches, updates)
        for value, when in (arrival for each in watches for arrival in each.seen):
            sent, answered = times[int(value.rpartition(b"-")[2])]
            self._after_commit.append(max(0.0, when - answered))
            self._after_sending.append(when - sent)
        _, requests = await _send(self._floor, [Call("GET", "/0")] * updates)
        event = MARK + b"x" * (size - len(MARK) - 1) + b'"'
        _, writes = await _send(self._floor, [Call("PUT", "/", event)] * updates)
        await _all_seen(streams, updates)
        self._unseen.append(unseen)
        self._events.append(cpu - unseen)
        self._writes.append(writes - requests)

    def figures(self) -> dict[str, float]:
        def each(seconds: list[float]) -> float:
            return 1e6 * statistics.median(seconds) / (self._updates * self._watchers)

        return {
            "event_us": each(self._events),
            "bare_us": each(self._writes),
            "ratio": each(self._events) / each(self._writes),
            "patch_ms": 1e3 * statistics.median(self._unseen) / self._updates,
            **{f"after_commit_{name}": value for name, value in latencies(self._after_commit).items()},
            **{f"after_sending_{name}": value for name, value in latencies(self._after_sending).items()},
        }


async def _measure(server: Measured, floor: Measured, args: argparse.Namespace) -> dict[str, float]:
    await load(server, 16, creations(0, args.services))
    await load(server, 1, [Call("POST", "/api/v1/namespaces", b'{"metadata":{"name":"quiet"}}')])
    await load(server, 16, creations(0, args.updates, QUIET))
    watches = await _watch(server.port, f"{SERVICES}?watch=1&allowWatchBookmarks=true", args.watchers)
    memory = server.memory()
    streams = await _watch(floor.port, "/watch", args.watchers)
    turns = _Turns(server, floor, args.updates, args.watchers)
    await _send(server, patches(args.updates, args.updates, "first"))  # each gets its annotation
    await _send(server, patches(args.updates, args.updates, "first", QUIET))
    size = await _size(server)
    for number in range(args.rounds):
        await turns.run(number, size, watches, streams)
    for each in (*watches, *streams):
        each.transport.abort()
    return turns.figures() | {"event_bytes": size, "memory_mib": memory / 1024}


async def _size(server: Measured) -> int:
    connection = await Connection.open(server.port, context())
    shown = await connection.call(Call("GET", f"{SERVICES}/s0"))
    connection.close()
    return len(shown) + _EVENT_OVERHEAD


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="twinstack-bench-") as name,
        api_server(Path(name)) as server,
        bare_tls(Path(name)) as floor,
    ):
        figures = uvloop.run(_measure(server, floor, args))
    print(
        f"event of {figures['event_bytes']} bytes to {args.watchers} watchers: {figures['event_us']:.1f} us CPU each, "
        f"bare TLS {figures['bare_us']:.1f} us, ratio {figures['ratio']:.2f}; its patch {figures['patch_ms']:.2f} ms"
    )
    print(
        f"delivered p50 {figures['after_commit_p50_ms']:.2f} ms, p99 {figures['after_commit_p99_ms']:.2f} ms after the "
        f"commit; p99 {figures['after_sending_p99_ms']:.2f} ms after sending; {figures['memory_mib']:.0f} MiB "
        f"with {args.services} Services"
    )
    write_results("watch_events", figures)


if __name__ == "__main__":
    main()
