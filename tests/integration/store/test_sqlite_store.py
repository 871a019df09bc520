"""The embedded store against a model, against kill -9, and against a full disk."""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from twinstack.store import Conflict, Delete, Event, Operation, Put, Record, StoreError
from twinstack.store import database as database_module
from twinstack.store.sqlite import SQLiteStore

WRITER = Path(__file__).with_name("writer.py")


def value_of(revision: int) -> bytes:
    return b"value %d" % revision


class Feed:
    """What a reader of the store sees: the published changes, applied."""

    def __init__(self) -> None:
        self.state: dict[str, tuple[int, bytes]] = {}
        self.revision = 0

    def load(self, revision: int, records: Sequence[Record]) -> None:
        self.state = {record.key: (record.revision, record.value) for record in records}
        self.revision = revision

    def publish(self, events: Sequence[Event]) -> None:
        for event in events:
            assert event.revision > self.revision
            assert event.previous == self.state.get(event.key, (0, b""))[0]
            self.revision = event.revision
            if event.value is None:
                del self.state[event.key]
            else:
                self.state[event.key] = (event.revision, event.value)


# An operation of the model: a key, what to do, and whether the expectation is right, wrong or none.
operations = st.tuples(st.sampled_from("abcd"), st.booleans(), st.sampled_from(["right", "absent", "stale", "any"]))
transactions = st.lists(operations, min_size=1, max_size=4)


class StoreMachine(RuleBasedStateMachine):
    """Transactions, alone and at the same time, with restarts between, against a plain dict."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.mkdtemp(prefix="twinstack-store-")
        self.model: dict[str, int] = {}
        self.revision = 0
        self.feed = Feed()
        self.open()

    def open(self) -> None:
        self.store = SQLiteStore(os.path.join(self.directory, "store.db"))
        revision, records, _, _ = self.loop.run_until_complete(
            self.store.open(lambda events: self.feed.publish(events))
        )
        assert revision >= self.feed.revision
        self.feed.load(revision, records)

    def _operation(self, key: str, put: bool, expectation: str, model: dict[str, int]) -> Operation:
        current = model.get(key, 0)
        expect = {"right": current, "absent": 0, "stale": max(current - 1, 1), "any": None}[expectation]
        return Put(key, value_of, expect) if put else Delete(key, expect)

    def _plan(self, wanted: list[tuple[str, bool, str]]) -> tuple[list[Operation], list[int] | None]:
        """The operations, and the revisions that the model gives them; None where it says conflict."""
        model = dict(self.model)
        revision = self.revision
        result: list[Operation] = []
        revisions: list[int] = []
        conflict = False
        for key, put, expectation in wanted:
            operation = self._operation(key, put, expectation, model)
            result.append(operation)
            current = model.get(key, 0)
            if (operation.expect is not None and operation.expect != current) or (not put and not current):
                conflict = True
            revision += 1
            revisions.append(revision)
            if put:
                model[key] = revision
            else:
                model.pop(key, None)
        if conflict:
            return result, None
        self.model, self.revision = model, revision
        return result, revisions

    @rule(batch=st.lists(transactions, min_size=1, max_size=5))
    def commit_at_once(self, batch: list[list[tuple[str, bool, str]]]) -> None:
        plans = [self._plan(wanted) for wanted in batch]

        async def run() -> list[Any]:
            tasks = [asyncio.ensure_future(self.store.commit(operations)) for operations, _ in plans]
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert self.feed.revision == self.revision  # published before the commits return
            return results

        for (_, revisions), result in zip(plans, self.loop.run_until_complete(run()), strict=True):
            if revisions is None:
                assert isinstance(result, Conflict)
            else:
                assert result == revisions

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.open()
        assert self.feed.revision == self.revision

    @invariant()
    def readers_see_the_model(self) -> None:
        assert self.feed.state == {key: (revision, value_of(revision)) for key, revision in self.model.items()}

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
        shutil.rmtree(self.directory)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(stateful_step_count=12)


async def opened(path: Path) -> tuple[SQLiteStore, Feed]:
    store, feed = SQLiteStore(str(path)), Feed()
    held = await store.open(feed.publish)
    feed.load(held.revision, held.records)
    return store, feed


def test_revisions_are_not_repeated_after_deletes_and_purges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_TOMBSTONES", 3)

    async def run() -> None:
        last = 0
        for _ in range(3):
            store, feed = await opened(tmp_path / "store.db")
            assert feed.revision == last
            assert feed.state == {}
            for key in "abcdef":
                (created,) = await store.commit([Put(key, value_of, 0)])
                (last,) = await store.commit([Delete(key, created)])
            await store.close()

    asyncio.run(run())
    rows = sqlite3.connect(tmp_path / "store.db").execute("SELECT count(*) FROM records").fetchone()
    assert rows[0] <= 4


def test_deletions_are_remembered_until_they_are_purged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"

    async def run() -> None:
        store, _ = await opened(path)
        await store.commit([Put("a", value_of, 0), Put("b", value_of, 0), Delete("a", None)])
        await store.close()
        store = SQLiteStore(str(path))
        assert await store.open(lambda events: None) == (3, [Record("b", 2, value_of(2))], {"a": 3}, 0)
        await store.commit([Delete("b", 2), Put("a", value_of, 0)])
        await store.close()
        store = SQLiteStore(str(path))
        assert await store.open(lambda events: None) == (5, [Record("a", 5, value_of(5))], {"b": 4}, 0)
        await store.close()
        monkeypatch.setattr(database_module, "_TOMBSTONES", 0)
        store = SQLiteStore(str(path))
        assert await store.open(lambda events: None) == (5, [Record("a", 5, value_of(5))], {}, 5)
        await store.close()

    asyncio.run(run())


def test_acknowledged_writes_survive_kill(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    expected: dict[str, int] = {}
    revisions: list[int] = []
    for attempt in range(4):
        command = [sys.executable, str(WRITER), str(path), f"run{attempt}", "8", "100000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            asyncio.run(asyncio.sleep(random.uniform(0.02, 0.2)))
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
        for line in lines:
            if not line.endswith(b"\n"):
                continue
            key, _, revision = line[1:].decode().partition(" ")
            revisions.append(int(revision))
            if line.startswith(b"+"):
                expected[key] = int(revision)
            else:
                del expected[key]

        async def check() -> None:
            store, feed = await opened(path)
            found = {key: revision for key, (revision, value) in feed.state.items() if value == b"%d" % revision}
            unacknowledged = found.keys() - expected.keys()
            missing = {key: revision for key, revision in expected.items() if found.get(key) != revision}
            # A deletion may have become durable without having been acknowledged in time.
            assert len(missing) <= 8
            assert all(int(key.rpartition("/")[2]) % 3 == 2 for key in missing)
            assert len(unacknowledged) <= 8
            (revision,) = await store.commit([Put("probe", value_of, None)])
            assert revision > max(revisions)
            await store.commit([Delete(key, None) for key in found])
            await store.close()

        asyncio.run(check())
        expected.clear()
        assert len(lines) > 10


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_log_is_synced_before_a_commit_is_acknowledged(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "trace=openat,pwrite64,pwritev,fdatasync,fsync,write"
    command = [sys.executable, str(WRITER), str(tmp_path / "store.db"), "k", "1", "6"]
    subprocess.run(["strace", "-f", "-o", str(trace), "-e", calls, *command], check=True, capture_output=True)
    log_file = -1
    dirty = False
    acknowledged = 0
    for line in trace.read_text().splitlines():
        opened_log = re.search(r'openat\(.*store\.db-wal".*= (\d+)$', line)
        if opened_log:
            log_file = int(opened_log[1])
        elif f"pwrite64({log_file}," in line:
            dirty = True
        elif re.search(rf"f(data)?sync\({log_file}\)\s*= 0", line):
            dirty = False
        elif re.search(r'write\(1, "[+-]k', line):
            assert not dirty
            acknowledged += 1
    assert acknowledged == 8


def test_a_failed_commit_changes_nothing(tmp_path: Path) -> None:
    """The disk is full for a while: a limit on file sizes, which fails writes as a full disk does."""

    async def run() -> None:
        store, feed = await opened(tmp_path / "store.db")
        (first,) = await store.commit([Put("kept", value_of, 0)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        big = b"x" * (4 << 20)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            results = await asyncio.gather(
                store.commit([Put("kept", value_of, first), Put("new", lambda revision: big, 0)]),
                store.commit([Put("other", value_of, 0)]),
                store.commit([Delete("kept", None)]),
                return_exceptions=True,
            )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [type(result) for result in results] == [StoreError] * 3
        assert feed.state == {"kept": (first, value_of(first))}
        (second,) = await store.commit([Put("kept", value_of, first)])
        assert second > first + 3
        (third,) = await store.commit([Put("new", value_of, 0)])
        await store.close()
        _, reread = await reopened(tmp_path / "store.db")
        assert reread.state == {"kept": (second, value_of(second)), "new": (third, value_of(third))}

    asyncio.run(run())


async def reopened(path: Path) -> tuple[SQLiteStore, Feed]:
    store, feed = await opened(path)
    await store.close()
    return store, feed


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def run() -> None:
        store, _ = await opened(path)
        with pytest.raises(StoreError, match="locked"):
            await opened(path)
        command = [sys.executable, str(WRITER), str(path), "x", "1", "1"]
        child = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, errors = await child.communicate()
        assert child.returncode != 0
        assert b"locked" in errors
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.commit([Put("a", value_of, 0)])
        await reopened(path)

    asyncio.run(run())


def modes(directory: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}


def test_files_are_private(tmp_path: Path) -> None:
    async def run() -> None:
        store, _ = await opened(tmp_path / "store.db")
        await store.commit([Put("a", value_of, 0)])
        assert modes(tmp_path) == {"store.db": 0o600, "store.db-wal": 0o600}
        await store.close()

    asyncio.run(run())


def test_a_foreign_or_damaged_file_is_refused(tmp_path: Path) -> None:
    newer = tmp_path / "newer.db"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database at all, " * 500)
    for path in (newer, damaged, tmp_path / "absent" / "store.db"):
        with pytest.raises(StoreError):
            asyncio.run(reopened(path))


def test_a_loser_sees_the_winner_after_settling(tmp_path: Path) -> None:
    async def run() -> None:
        store, feed = await opened(tmp_path / "store.db")
        winner = asyncio.ensure_future(store.commit([Put("a", value_of, 0)]))
        await asyncio.sleep(0)
        with pytest.raises(Conflict) as caught:
            await store.commit([Put("b", value_of, 0), Put("a", value_of, 0)])
        assert (caught.value.key, caught.value.expected, caught.value.actual) == ("a", 0, 1)
        assert feed.state == {}
        await store.settled()
        assert feed.state == {"a": (1, value_of(1))}
        assert await winner == [1]
        (revision,) = await store.commit([Put("b", value_of, 0)])
        assert revision == 2  # a refused transaction takes no revision and leaves no key
        await store.close()

    asyncio.run(run())
