"""Commits a second of the embedded store, beside what the disk itself can do in the same minute.

    bench/store.py [--seconds 2] [--directory DIR] [--json FILE]

The floor is one writer that appends 1 KiB and calls fdatasync, over and over: no store that keeps its promise
can commit faster one at a time. Group commit makes the ratio grow with the number of writers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from typing import Any

import uvloop

from twinstack.store import Put
from twinstack.store.sqlite import SQLiteStore

VALUE = b"x" * 1024
WRITERS = (1, 8, 32, 128)


def floor(directory: str, seconds: float) -> float:
    """Appends with fdatasync a second."""
    path = os.path.join(directory, "floor")
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            os.write(file, VALUE)
            os.fdatasync(file)
            count += 1
        return count / (time.perf_counter() - start)
    finally:
        os.close(file)
        os.unlink(path)


async def commits(directory: str, writers: int, seconds: float) -> dict[str, float]:
    """Commits of one key each: how many a second, how long one takes, what one costs the processor."""
    path = os.path.join(directory, f"store-{writers}.db")
    store = SQLiteStore(path)
    await store.open(lambda events: None)
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def write(number: int) -> None:
        i = 0
        while (begun := time.perf_counter()) < end:
            await store.commit([Put(f"services/default/{number}-{i % 100}", lambda revision: VALUE, None)])
            waits.append(time.perf_counter() - begun)
            i += 1

    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(write, range(writers)))
    elapsed, used = time.perf_counter() - start, time.process_time() - cpu
    await store.close()
    waits.sort()
    return {
        "commits_per_second": len(waits) / elapsed,
        "p50_ms": waits[len(waits) // 2] * 1e3,
        "p99_ms": waits[len(waits) * 99 // 100] * 1e3,
        "cpu_us": used / len(waits) * 1e6,
    }


async def measure(directory: str, seconds: float) -> dict[str, Any]:
    result: dict[str, Any] = {"fdatasync_per_second": floor(directory, seconds)}
    print(f"append + fdatasync   {result['fdatasync_per_second']:9.0f}/s")
    for writers in WRITERS:
        figures = await commits(directory, writers, seconds)
        figures["ratio"] = figures["commits_per_second"] / result["fdatasync_per_second"]
        result[f"{writers}_writers"] = figures
        print(
            f"{writers:4d} writers         {figures['commits_per_second']:9.0f}/s   {figures['ratio']:6.2f} x the floor"
            f"   p50 {figures['p50_ms']:.2f} ms   p99 {figures['p99_ms']:.2f} ms   {figures['cpu_us']:.0f} us CPU each"
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--directory", default=None, help="on the disk to measure; default the temporary directory")
    parser.add_argument("--json", default="", help="where to write the figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="twinstack-bench-", dir=args.directory) as directory:
        result = uvloop.run(measure(directory, args.seconds))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
