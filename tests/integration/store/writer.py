"""A process that writes keys and says so: run by the tests, and killed by them.

    writer.py PATH PREFIX WRITERS COUNT

Each line on standard output is an acknowledged operation: `+KEY REVISION` or `-KEY REVISION`.
"""

from __future__ import annotations

import asyncio
import os
import sys

from twinstack.store import Delete, Put
from twinstack.store.sqlite import SQLiteStore


async def main(path: str, prefix: str, writers: int, count: int) -> None:
    store = SQLiteStore(path)
    await store.open(lambda events: None)

    def say(sign: str, key: str, revision: int) -> None:
        os.write(1, f"{sign}{key} {revision}\n".encode())

    async def write(number: int) -> None:
        for i in range(count):
            key = f"{prefix}/{number}/{i}"
            (revision,) = await store.commit([Put(key, lambda revision: b"%d" % revision, expect=0)])
            say("+", key, revision)
            if i % 3 == 2:
                (deleted,) = await store.commit([Delete(key, expect=revision)])
                say("-", key, deleted)

    await asyncio.gather(*map(write, range(writers)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
