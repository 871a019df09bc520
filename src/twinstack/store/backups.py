"""Backups of the embedded store: what one holds, and a store made from one. No server has either file open."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from twinstack.store.base import StoreError
from twinstack.store.database import COUNTER, FORMAT, advice, create_private, sync_directory

# Clients have seen revisions that the backup has not. What a restored store hands out is above all of them (as with
# `etcdutl snapshot restore --bump-revision 1000000000 --mark-compacted`): no revision ever means two things, and
# whoever watched is told that what it knows is too old, and lists again.
REVISIONS_AHEAD = 1_000_000_000


class Contents(NamedTuple):
    """What a backup holds: its highest revision and the number of its records."""

    revision: int
    records: int


class Restored(NamedTuple):
    """`revision` is the first one's predecessor; `replaced` is where the file that was there has gone, if any was."""

    contents: Contents
    revision: int
    replaced: Path | None


def inspect(path: Path) -> Contents:
    """Read a backup whole. Raises StoreError when it is damaged, foreign, or a file that a server writes."""
    try:
        if path.with_name(f"{path.name}-wal").stat().st_size:
            raise StoreError(f"{path} is a server's own file, with a log beside it: make a backup of it instead")
    except FileNotFoundError:
        pass
    try:
        if not path.stat().st_size:
            raise StoreError(f"{path} is empty: name a backup")
        # Immutable: SQLite then makes no files beside it.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise StoreError(f"{path} is damaged: {' '.join(verdict.split())}; name another backup")
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found != FORMAT:
                raise StoreError(f"{path} has format {found}, not {FORMAT}: it is no backup of this version")
            counts = "SELECT coalesce(max(revision), 0), count(value) FROM records"
            return Contents(*connection.execute(counts).fetchone())
    except (sqlite3.Error, OSError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise StoreError(f"{path} is no backup: {reason}; name another one") from error


def restore(backup: Path, path: Path) -> Restored:
    """Make the store `path` from a backup. What is there is moved aside, unless a server has it open.

    Raises StoreError; then nothing has changed.
    """
    contents = inspect(backup)
    new = path.with_name(f"{path.name}-restoring")
    try:
        _check_unused(path)
        new.unlink(missing_ok=True)
        create_private(str(new))
        try:
            shutil.copyfile(backup, new)
            revision = _look_ahead(new, contents.revision)
            replaced = _move_aside(path)
            new.rename(path)
        finally:
            new.unlink(missing_ok=True)
        sync_directory(str(path))
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"the store {path}: {advice(error)}") from error
    return Restored(contents, revision, replaced)


def _check_unused(path: Path) -> None:
    """Raises StoreError when a process has it open. What is no database is in nobody's use; a log is folded in."""
    if not path.exists():
        return
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # as the server: without a file of shared memory
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise StoreError(f"{path} is in use: stop its server first") from error
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN:
                raise
        except sqlite3.DatabaseError:
            return


def _look_ahead(path: Path, revision: int) -> int:
    """Let the file say that all up to a revision beyond those that clients may know has been forgotten."""
    ahead = revision + REVISIONS_AHEAD
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM records WHERE value IS NULL")
        connection.execute("INSERT INTO records VALUES (?, ?, NULL)", (COUNTER, ahead))
        connection.execute("COMMIT")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return ahead


def _move_aside(path: Path) -> Path | None:
    """Keep what is there under the time of day; returns where."""
    if not path.exists():
        return None
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        log.rename(aside.with_name(f"{aside.name}-wal"))
    path.rename(aside)
    return aside
