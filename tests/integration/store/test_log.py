"""The write-ahead log: cut off anywhere it still holds what had been acknowledged by then; and it stays short.

A power cut leaves of the log what was synced, and after that anything: nothing, zeros, noise, or what stood there
before (the log is written over from its start once it is folded into the file). A sync ends before an acknowledgement
begins (see the traces of system calls), so whatever a client was told lies before the cut.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from twinstack.store import Event
from twinstack.store import database as database_module
from twinstack.store.database import Database

SOAK = os.environ.get("TWINSTACK_TESTS") == "soak"
WRITES, CUTS = (3000, 3000) if SOAK else (500, 120)
KEYS = 40
_HEADER, _FRAME = 32, 24  # bytes: of the log, and before each of its pages (sqlite.org/fileformat2.html, section 4)

State = dict[str, tuple[int, bytes]]


class Epoch:
    """The log from one folding to the next, the file below it, and what had been acknowledged at which length."""

    def __init__(self, salt: bytes, file: bytes, state: State) -> None:
        self.salt = salt
        self.file = file
        self.log = b""
        self.acknowledged: list[tuple[int, State]] = [(0, state)]

    def state_at(self, length: int) -> State:
        return next(state for end, state in reversed(self.acknowledged) if end <= length)


class History:
    """A store that is written at random, and everything that its files have been."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._random = random.Random(seed)
        self._revision = 0
        self._state: State = {}
        self.epochs: list[Epoch] = []
        with closing(Database(str(path))) as database:
            self._note()
            for _ in range(WRITES):
                self._write(database)

    def _write(self, database: Database) -> None:
        events, after = [], dict(self._state)
        for key in self._random.sample(range(KEYS), self._random.randint(1, 8)):
            self._revision += 1
            name = f"key{key}"
            value = self._random.randbytes(self._random.choice((10, 500, 4000, 20_000)))
            if name in after and self._random.random() < 0.3:
                events.append(Event(name, self._revision, None, after.pop(name)[0]))
            else:
                events.append(Event(name, self._revision, value, after.get(name, (0, b""))[0]))
                after[name] = (self._revision, value)
        before = self._path.read_bytes()
        database.write(events)
        self._note(before, after)

    def _note(self, file: bytes | None = None, state: State | None = None) -> None:
        """What the files are after a write. `file`: what the database file was before it."""
        log = self._log.read_bytes() if self._log.exists() else b""
        salt = log[16:24]
        if not self.epochs or salt != self.epochs[-1].salt:
            self.epochs.append(Epoch(salt, self._path.read_bytes() if file is None else file, self._state))
        epoch = self.epochs[-1]
        epoch.log = log[: committed(log)]
        self._state = self._state if state is None else state
        epoch.acknowledged.append((len(epoch.log), self._state))


def committed(log: bytes) -> int:
    """Where the last transaction of the log's present epoch ends."""
    if len(log) < _HEADER:
        return 0
    (page,) = struct.unpack(">I", log[8:12])
    at, end = _HEADER, 0
    while at + _FRAME + page <= len(log) and log[at + 8 : at + 16] == log[16:24]:
        at += _FRAME + page
        if log[at - page - _FRAME + 4 : at - page - _FRAME + 8] != bytes(4):  # pages of the file: ends a transaction
            end = at
    return end


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    made = History(tmp_path_factory.mktemp("history") / "store.db", random.randrange(1 << 32) if SOAK else 1)
    assert len(made.epochs) > 2
    return made


def reopened(directory: Path, file: bytes, log: bytes) -> tuple[int, State]:
    """The revision and content of a store with these files."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    path = directory / "store.db"
    path.write_bytes(file)
    path.with_name("store.db-wal").write_bytes(log)
    with closing(Database(str(path))) as database:
        opened = database.load()
    return opened.revision, {record.key: (record.revision, record.value) for record in opened.records}


def test_whatever_is_cut_off_what_was_acknowledged_is_there(tmp_path: Path, history: History) -> None:
    choose = random.Random() if SOAK else random.Random(2)
    for _ in range(CUTS):
        number = choose.randrange(len(history.epochs))
        epoch = history.epochs[number]
        cut = choose.choice((choose.randint(0, len(epoch.log)), choose.choice(epoch.acknowledged)[0]))
        stale = history.epochs[number - 1].log[cut:] if number else b""
        tail = choose.choice((b"", bytes(20_000), choose.randbytes(20_000), stale))
        revision, found = reopened(tmp_path / "cut", epoch.file, epoch.log[:cut] + tail)
        wanted = epoch.state_at(cut + _alike(epoch.log[cut:], tail))
        assert found == wanted, (number, cut, len(tail))
        assert revision >= max((revision for revision, _ in wanted.values()), default=0)


def _alike(log: bytes, tail: bytes) -> int:
    """How far what stood there before happens to be what was written: pages change little at their ends."""
    return next((n for n, (one, other) in enumerate(zip(log, tail, strict=False)) if one != other), len(tail))


def test_folding_may_end_anywhere(tmp_path: Path, history: History) -> None:
    """A cut while the log's pages are put into the file: the log is whole, and of the file some pages are new."""
    choose = random.Random() if SOAK else random.Random(3)
    for epoch, following in zip(history.epochs, history.epochs[1:], strict=False):
        for _ in range(CUTS // 20):
            pages = range(0, len(following.file), 4096)
            mixed = [choose.choice((epoch, following)).file[at : at + 4096] or bytes(4096) for at in pages]
            _, found = reopened(tmp_path / "folding", b"".join(mixed), epoch.log)
            assert found == epoch.acknowledged[-1][1]


def sizes(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.with_name(f"{path.name}-wal").stat().st_size


def test_updates_do_not_make_the_files_grow(tmp_path: Path) -> None:
    path, revision = tmp_path / "store.db", 0
    choose = random.Random(4)
    rounds = 400 if SOAK else 40
    with closing(Database(str(path))) as database:

        def write(count: int, size: int) -> None:
            nonlocal revision
            keys = [f"key{number}" for number in range(count)]
            database.write([Event(key, revision + n, choose.randbytes(size), 0) for n, key in enumerate(keys, 1)])
            revision += count

        for _ in range(rounds):
            write(100, choose.randint(1000, 10_000))  # about half a megabyte
        file, log = sizes(path)
        assert file < 4 << 20, "pages are used again"
        assert log <= 8 << 20
        write(1500, 20_000)  # a burst
        for _ in range(3):
            write(1, 10)
        assert sizes(path)[1] <= 8 << 20, "the log is cut back"


def test_deletions_do_not_make_the_file_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_TOMBSTONES", 500)
    path, revision, largest = tmp_path / "store.db", 0, 0
    with closing(Database(str(path))) as database:
        for turn in range(40):
            keys = [f"key{turn}-{number}" for number in range(100)]
            for value in (bytes(1000), None):
                database.write([Event(key, revision + n, value, 0) for n, key in enumerate(keys, 1)])
                revision += 100
            if turn == 20:
                database.load()
                largest = folded(path)
        assert folded(path) <= largest
        assert database.load().records == []


def folded(path: Path) -> int:
    """Pages of the database, those in the log included."""
    log = path.with_name(f"{path.name}-wal").read_bytes()
    end = committed(log)
    (page,) = struct.unpack(">I", log[8:12])
    (pages,) = struct.unpack(">I", log[end - page - _FRAME + 4 : end - page - _FRAME + 8])
    return int(pages)


def test_the_walk_through_the_log_agrees_with_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "plain.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (zeroblob(10000))")
        (_, frames, _) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        log = path.with_name("plain.db-wal").read_bytes()
        assert committed(log) == _HEADER + frames * (_FRAME + 4096)
