"""Neither a write nor the server's start pays for the objects that are there already.

    bench/many_objects.py [--objects 0,1000,10000,50000] [--writes 500]

A store is filled with Services and the records of their addresses as the server itself writes them. Then the
server is started on it: the time until it is ready, its memory, and what creates and patches cost it. The floor
of the start is SQLite alone reading all rows of the same file, that of memory is the size of their values.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop
from bench.apiserver.connections import Call, creations, load, patches
from bench.apiserver.measured import api_server, write_results

from twinstack.ip import Address, IPFamily

_RECORDS = 3  # of one dual-stack Service
_HALVES = {IPFamily.IPV4: ("10.96.1.0", "10.96.128.0"), IPFamily.IPV6: ("fd00:96::100", "fd00:96::8000")}


def fill(directory: Path, services: int) -> None:
    """Start a server, create one Service, and copy its records with other names and addresses."""
    with api_server(directory) as server:
        uvloop.run(load(server, 1, creations(0, 1)))
    with sqlite3.connect(directory / "state.db") as database:
        rows = database.execute("SELECT key, value FROM records WHERE CAST(value AS TEXT) LIKE '%\"s0\"%'").fetchall()
        (revision,) = database.execute("SELECT max(revision) FROM records").fetchone()

        addresses = [Address.parse(key.rpartition("/")[2]) for key, _ in rows if "ipaddresses/" in key]
        assert len(rows) == _RECORDS
        for number in range(1, services):
            changes = [("/s0", f"/s{number}"), ('"s0"', f'"s{number}"')]
            changes += [(str(old), str(_far_from(old) + number)) for old in addresses]
            for key, value in rows:
                revision += 1
                text = re.sub('"resourceVersion":"[0-9]+"', f'"resourceVersion":"{revision}"', value.decode())
                row = (_replaced(key, changes), revision, _replaced(text, changes).encode())
                database.execute("INSERT INTO records VALUES (?, ?, ?)", row)
    database.close()


def _far_from(address: Address) -> Address:
    """Where addresses begin that are none of the Service that is copied."""
    lower, upper = map(Address.parse, _HALVES[address.family])
    return upper if address < upper else lower


def _replaced(text: str, changes: Iterable[tuple[str, str]]) -> str:
    for old, new in changes:
        text = text.replace(old, new)
    return text


def floor(directory: Path) -> dict[str, float]:
    """Milliseconds in which SQLite hands out all rows; the MiB of their values."""
    begun = time.perf_counter()
    database = sqlite3.connect(directory / "state.db")
    rows = database.execute("SELECT key, revision, value FROM records").fetchall()
    took = time.perf_counter() - begun
    database.close()
    return {"read_ms": 1e3 * took, "values_mib": sum(len(value or b"") for _, _, value in rows) / (1 << 20)}


def measure(objects: int, writes: int) -> dict[str, float]:
    services = max(objects // _RECORDS, 1)
    with tempfile.TemporaryDirectory(prefix="twinstack-bench-") as name:
        directory = Path(name)
        fill(directory, services)
        figures = floor(directory)
        begun = time.perf_counter()
        with api_server(directory) as server:
            figures |= {"ready_s": time.perf_counter() - begun, "memory_mib": server.memory() / 1024}
            work: dict[str, list[Call]] = {
                "create": creations(services, services + writes),
                "patch": patches(writes, services + writes, "p"),
            }
            asyncio.run(asyncio.sleep(1.5))  # the first look of the repair is over
            for kind, calls in work.items():
                found = uvloop.run(load(server, 16, calls))
                figures |= {f"{kind}_cpu_ms": found["cpu_ms"], f"{kind}_per_second": found["per_second"]}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", default="0,1000,10000,50000")
    parser.add_argument("--writes", type=int, default=500)
    args = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    for text in args.objects.split(","):
        found = results[text] = measure(int(text), args.writes)
        print(
            f"{text:>6} objects: ready in {found['ready_s']:.2f} s (SQLite reads them in {found['read_ms']:.0f} ms), "
            f"{found['memory_mib']:.0f} MiB (values {found['values_mib']:.0f}), "
            f"create {found['create_cpu_ms']:.2f} ms CPU, patch {found['patch_cpu_ms']:.2f} ms",
            flush=True,
        )
    write_results("many_objects", results)


if __name__ == "__main__":
    main()
