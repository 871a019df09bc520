"""The floor of a durable write: SQLite with a synced log, one row upserted after the other, and nothing else."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path


def commits(directory: Path, sizes: list[int], count: int) -> dict[str, float]:
    """`count` transactions of one row of each size in bytes: how many a second, CPU milliseconds each."""
    path = directory / f"floor-{time.monotonic_ns()}.db"
    connection = sqlite3.connect(path, isolation_level=None)
    for line in ("PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"):
        connection.execute(line)
    connection.execute("CREATE TABLE records (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, value BLOB)")
    statement = f"INSERT INTO records VALUES {', '.join(['(?, ?, ?)'] * len(sizes))}"
    start, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        rows = [(f"services/default/s{number}-{i}", number, b"x" * size) for i, size in enumerate(sizes)]
        connection.execute(statement, [value for row in rows for value in row])
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    connection.close()
    return {"per_second": count / seconds, "cpu_ms": 1e3 * cpu / count}
