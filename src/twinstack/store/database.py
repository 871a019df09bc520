"""The SQLite file behind `SQLiteStore`: every call runs in the writer thread and blocks.

A batch is one INSERT of many rows. SQLite gives the interpreter lock away once per statement and may wait
a whole switch interval (5 ms) to get it back while the event loop is busy: few statements matter more than
small ones (measured: 7 ms against 95 ms for 32 rows). A deleted key stays as a row without value (a
tombstone) until many of them are purged at once.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from twinstack.store.base import Event, Opened, Record, StoreError

log = logging.getLogger(__name__)

Row = tuple[str, int, bytes | None]

FORMAT = 1  # PRAGMA user_version
_ROWS_A_STATEMENT = 1000  # of three parameters; SQLite takes 32766
_TOMBSTONES = 10_000  # purged when there are more
_LOG_BYTES = 8 << 20  # a burst may make the log longer; it is cut back to this once it is folded into the file
COUNTER = ""  # the key of the row that outlives purged tombstones: the highest revision of them

_CREATE = "CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, value BLOB)"
_UPSERT = " ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, value = excluded.value"


class Database:
    """One open file, locked against every other process. Raises sqlite3.Error, OSError and StoreError."""

    def __init__(self, path: str) -> None:
        made = create_private(path)
        self._copy = f"{path}-copy"
        self._tombstones = 0
        try:
            # The worker's thread opens, uses and closes it.
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=256)
            try:
                self._prepare(path)
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            if made:
                os.unlink(path)
            raise

    def _prepare(self, path: str) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")  # before WAL: then no shared memory is used either
        self._check_owner(path)  # before anything is written
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")  # fsync of the log at every commit
        execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        execute("BEGIN IMMEDIATE")  # takes the lock, for as long as the file is open
        execute(f"PRAGMA user_version = {FORMAT}")
        execute(_CREATE)
        execute("COMMIT")
        (verdict,) = execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(" ".join(verdict.split()))
        _remove(self._copy)

    def _check_owner(self, path: str) -> None:
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found not in (0, FORMAT):
            raise StoreError(
                f"{path} has format {found}, this version reads format {FORMAT}: "
                "use the version that wrote it, or name another file"
            )
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if found == 0 and tables:
            raise StoreError(f"{path} is the database of another program: name another file")

    def load(self) -> Opened:
        """Everything stored, and what is remembered of deletions."""
        (revision,) = self._connection.execute("SELECT coalesce(max(revision), 0) FROM records").fetchone()
        (self._tombstones,) = self._connection.execute("SELECT count(*) FROM records WHERE value IS NULL").fetchone()
        if self._tombstones > _TOMBSTONES:
            self._purge(revision)
        rows = self._connection.execute("SELECT key, revision, value FROM records WHERE value IS NOT NULL")
        records = [Record(*row) for row in rows]
        deletions = dict(self._connection.execute("SELECT key, revision FROM records WHERE value IS NULL"))
        forgotten: int = deletions.pop(COUNTER, 0)
        return Opened(revision, records, deletions, forgotten)

    def write(self, events: Sequence[Event]) -> None:
        """Make the events durable, all or none."""
        rows = {event.key: (event.key, event.revision, event.value) for event in events}  # the last one of a key wins
        if len(rows) <= _ROWS_A_STATEMENT:
            self._insert(list(rows.values()))
        else:
            with _transaction(self._connection):
                for chunk in _chunks(list(rows.values())):
                    self._insert(chunk)
        self._tombstones += sum(row[2] is None for row in rows.values())
        if self._tombstones > _TOMBSTONES:
            try:
                self._purge(events[-1].revision)
            except sqlite3.Error as error:  # the batch itself is durable; the next one tries again
                log.warning("cannot purge deleted keys: %s", error)

    def _insert(self, rows: Sequence[Row]) -> None:
        places = ", ".join(["(?, ?, ?)"] * len(rows))
        parameters = [value for row in rows for value in row]
        self._connection.execute(f"INSERT INTO records VALUES {places}{_UPSERT}", parameters)

    def _purge(self, revision: int) -> None:
        with _transaction(self._connection):
            self._insert([(COUNTER, revision, None)])
            self._connection.execute("DELETE FROM records WHERE value IS NULL AND key <> ?", (COUNTER,))
        self._tombstones = 0

    def copy(self) -> int:
        """A descriptor of a file without a name, which holds a compact copy of all that is stored now."""
        _remove(self._copy)
        create_private(self._copy)
        try:
            self._connection.execute("VACUUM INTO ?", (self._copy,))
            return os.open(self._copy, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _remove(self._copy)

    def close(self) -> None:
        """Also folds the log into the file."""
        self._connection.close()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        yield rows[start : start + _ROWS_A_STATEMENT]


def create_private(path: str) -> bool:
    """Secrets live in it: mode 0600 from the first moment. SQLite gives its log the same mode. False if it is there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    sync_directory(path)
    return True


def sync_directory(path: str) -> None:
    """Make the name `path` durable."""
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def advice(error: sqlite3.Error | OSError) -> str:
    """Why a file cannot be used, and what to do about it."""
    if isinstance(error, OSError):
        what = error.strerror or str(error)
        return f"{what}: {_OS_ADVICE.get(error.errno or 0, 'name another file')}"
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return f"{error}: {_SQLITE_ADVICE.get(code, 'name another file')}"


_DAMAGED = (
    "put a backup in its place (`twinstack server restore BACKUP --sqlite FILE`), "
    "or move it away to begin with an empty one"
)
_NO_SPACE = "make room, or name a file elsewhere"
_OS_ADVICE = {
    errno.ENOENT: "make its directory first",
    errno.ENOTDIR: "name a file in a directory",
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EROFS: "name a file elsewhere",
    errno.EACCES: "let this user write there, or name a file elsewhere",
}
_SQLITE_ADVICE = {
    sqlite3.SQLITE_BUSY: "stop the process that has it open, or name another file",
    sqlite3.SQLITE_CANTOPEN: "name a file that can be read and written",
    sqlite3.SQLITE_READONLY: "let this user write it, or name another file",
    sqlite3.SQLITE_FULL: _NO_SPACE,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_ERROR: _DAMAGED,
    sqlite3.SQLITE_IOERR: f"look at the disk; then {_DAMAGED}",
}
