"""`GET /backup`: the embedded store as one file, while the server goes on. Who may read it may read every secret."""

from __future__ import annotations

import logging
import os

from twinstack.api.errors import internal_error
from twinstack.server.messages import StreamResponse, StreamWriter
from twinstack.store import Store, StoreError
from twinstack.store.sqlite import SQLiteStore

log = logging.getLogger(__name__)

PATH = "/backup"
_CHUNK = 256 << 10  # bytes


class Backup:
    """`App`'s download. The copy stands before the answer begins, so what it cannot hold is told as a failure."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store

    async def __call__(self) -> StreamResponse:
        """Raises StatusError 500."""
        try:
            copy = _Copy(await self._store.copy())
        except StoreError as error:
            raise internal_error(str(error)) from error
        log.info("a backup is being taken")
        return StreamResponse(status=200, produce=copy.send, content_type="application/vnd.sqlite3")


class _Copy:
    """A nameless file, gone with its last reader."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def send(self, writer: StreamWriter) -> None:
        at = 0
        while chunk := os.pread(self._descriptor, _CHUNK, at):
            writer.write(chunk)
            at += len(chunk)
            await writer.drain()

    def __del__(self) -> None:
        os.close(self._descriptor)


def downloads(store: Store) -> dict[str, Backup]:
    """By path; none of a store that has tools of its own."""
    return {PATH: Backup(store)} if isinstance(store, SQLiteStore) else {}
