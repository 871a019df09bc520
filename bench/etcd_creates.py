"""A server on etcd adds little to what etcd itself needs for the same transactions.

    bench/etcd_creates.py [--count 1500]

Creates of dual-stack Services (a Service and two IPAddress objects in one transaction) and gets, with 1 and with 16
clients, beside the floor of the same run: the same bytes written to the same etcd by transactions alone, as many at a
time. CPU is user and system time: of the server, of etcd, and of the floor's client. etcd's files are in memory.
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
from bench.apiserver.connections import SERVICES, Call, creations, load
from bench.apiserver.measured import Measured, api_server, write_results
from tests.etcd_servers import Etcd, etcd

from twinstack.store.etcd import messages
from twinstack.store.etcd.channel import Channel, endpoints_of

_SIZES = (1500, 750, 750)  # of a Service and two addresses, about


async def bare(store: Etcd, clients: int, count: int) -> dict[str, float]:
    """Transactions of three new keys."""
    channel = Channel(endpoints_of(store.servers), None)
    numbers = iter(range(count))

    async def write() -> None:
        for number in numbers:
            keys = [b"/bare/%d/%d/%d" % (clients, number, part) for part in range(len(_SIZES))]
            puts = [messages.put_operation(key, b"x" * size) for key, size in zip(keys, _SIZES, strict=True)]
            request = messages.txn_request([messages.modified_at(key, 0) for key in keys], puts, [])
            await channel.call(messages.TXN, request, seconds=30, repeat=False)

    (member,) = store.members
    began, own, theirs = time.perf_counter(), time.process_time(), member.cpu_seconds
    await asyncio.gather(*(write() for _ in range(clients)))
    seconds = time.perf_counter() - began
    figures = {
        "per_second": count / seconds,
        "client_cpu_ms": 1e3 * (time.process_time() - own) / count,
        "etcd_cpu_ms": 1e3 * (member.cpu_seconds - theirs) / count,
    }
    await channel.close()
    return figures


def served(server: Measured, store: Etcd, clients: int, calls: list[Call]) -> dict[str, float]:
    """The same by the API."""
    (member,) = store.members
    before = member.cpu_seconds
    found = uvloop.run(load(server, clients, calls))
    return found | {"etcd_cpu_ms": 1e3 * (member.cpu_seconds - before) / len(calls)}


def _show(name: str, found: dict[str, float], cpu: str) -> None:
    print(
        f"{name:28} {found['per_second']:7.0f}/s   {found[cpu]:6.3f} ms CPU   etcd {found['etcd_cpu_ms']:6.3f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1500)
    args = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="twinstack-bench-") as name,
        etcd() as store,
        api_server(Path(name), "--sqlite=", f"--etcd-servers={store.servers}") as server,
    ):
        for number, clients in enumerate((1, 16)):
            start = number * args.count
            floor = results[f"bare, {clients}"] = uvloop.run(bare(store, clients, args.count))
            _show(f"bare etcd, {clients} at a time", floor, "client_cpu_ms")
            calls = creations(start, start + args.count)
            found = results[f"create, {clients}"] = served(server, store, clients, calls)
            found["ratio"] = found["per_second"] / floor["per_second"]
            _show(f"create, {clients} clients", found, "cpu_ms")
            print(f"{'':28} {found['ratio']:7.2f} of the floor's rate")
            gets = [Call("GET", f"{SERVICES}/s{start + i}") for i in range(args.count)]
            found = results[f"get, {clients}"] = served(server, store, clients, gets)
            _show(f"consistent get, {clients} clients", found, "cpu_ms")
        print(f"server {server.memory() / 1024:.0f} MiB")
    write_results("etcd_creates", results)


if __name__ == "__main__":
    main()
