"""What every store does: the same tests against SQLite and against a real etcd."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.etcd_servers import Etcd, etcd
from tests.integration.store.objects import Feed, value_of

from twinstack.store import Conflict, Delete, Operation, Put, Store, StoreError
from twinstack.store.etcd.channel import endpoints_of
from twinstack.store.etcd.store import EtcdStore
from twinstack.store.sqlite import SQLiteStore

_numbers = itertools.count()


class Place:
    """Where a store keeps its state; each is empty at first."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="twinstack-store-")

    def store(self) -> Store:
        return SQLiteStore(os.path.join(self.directory, "store.db"))

    def remove(self) -> None:
        shutil.rmtree(self.directory)


class EtcdPlace(Place):
    """A prefix of an etcd that others write to as well."""

    servers: Etcd

    def __init__(self) -> None:
        self.prefix = f"/test/{next(_numbers)}"

    def store(self) -> Store:
        return EtcdStore(endpoints_of(self.servers.servers), self.prefix, history=0)

    def remove(self) -> None: ...


@pytest.fixture(scope="module", autouse=True)
def _servers() -> Iterator[None]:
    with etcd() as servers:
        EtcdPlace.servers = servers
        yield


async def opened(store: Store) -> Feed:
    feed = Feed()
    feed.load(await store.open(feed.publish, feed.gap))
    await store.current()
    return feed


# An operation of the model: a key, what to do, and whether the expectation is right, wrong or none.
operations = st.tuples(st.sampled_from("abcd"), st.booleans(), st.sampled_from(["right", "absent", "stale", "any"]))
transactions = st.lists(operations, min_size=1, max_size=4, unique_by=lambda operation: operation[0])


class StoreMachine(RuleBasedStateMachine):
    """Transactions one after the other, with restarts between, against a plain dict."""

    place_type = Place

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.place = self.place_type()
        self.model: dict[str, int] = {}
        self.last = 0
        self.open()

    def open(self) -> None:
        self.store = self.place.store()
        self.feed = self.loop.run_until_complete(opened(self.store))

    def _plan(self, wanted: list[tuple[str, bool, str]]) -> tuple[list[Operation], bool]:
        """The operations, and whether the model says conflict."""
        result: list[Operation] = []
        conflict = False
        for key, put, expectation in wanted:
            current = self.model.get(key, 0)
            expect = {"right": current, "absent": 0, "stale": max(current - 1, 1), "any": None}[expectation]
            result.append(Put(key, value_of, expect) if put else Delete(key, expect))
            conflict |= (expect is not None and expect != current) or (not put and not current)
        return result, conflict

    @rule(wanted=transactions)
    def commit(self, wanted: list[tuple[str, bool, str]]) -> None:
        planned, conflict = self._plan(wanted)
        if conflict:
            with pytest.raises(Conflict) as caught:
                self.loop.run_until_complete(self.store.commit(planned))
            assert caught.value.actual == self.model.get(caught.value.key, 0)
            return
        revisions = self.loop.run_until_complete(self.store.commit(planned))
        assert revisions == sorted(revisions)
        assert revisions[0] > self.last
        self.last = revisions[-1]
        for operation, revision in zip(planned, revisions, strict=True):
            if isinstance(operation, Put):
                self.model[operation.key] = revision
            else:
                self.model.pop(operation.key)

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.open()
        assert self.feed.revision >= self.last

    @invariant()
    def readers_see_the_model(self) -> None:
        assert self.feed.state == {key: (revision, value_of(revision)) for key, revision in self.model.items()}

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
        self.place.remove()


class EtcdMachine(StoreMachine):
    place_type = EtcdPlace


TestSQLiteMachine = StoreMachine.TestCase
TestEtcdMachine = EtcdMachine.TestCase
# SQLite has a machine of its own beside this one, with transactions at the same time.
TestSQLiteMachine.settings = settings(max_examples=settings().max_examples // 5, stateful_step_count=12)
TestEtcdMachine.settings = settings(stateful_step_count=12)


@pytest.fixture(params=[Place, EtcdPlace], ids=["sqlite", "etcd"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    it: Place = request.param()
    yield it
    it.remove()


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(main())


def test_writers_at_the_same_time_lose_no_update(place: Place) -> None:
    """Each reads what the feed shows, writes on top of it, and tries again after a conflict."""

    async def work() -> None:
        store = place.store()
        feed = await opened(store)
        won: list[int] = []

        async def write(count: int) -> None:
            while count:
                key = random.choice("ab")
                expect = feed.state.get(key, (0, b""))[0]
                try:
                    won.extend(await store.commit([Put(key, value_of, expect)]))
                except Conflict:
                    await store.settled()
                    outdated = feed.state.get(key, (0, b""))[0] == expect
                    assert not outdated
                else:
                    count -= 1

        await asyncio.gather(*(write(10) for _ in range(16)))
        assert len(set(won)) == 160
        assert max(revision for revision, _ in feed.state.values()) == max(won)
        await store.close()

    run(work)


def test_a_loser_sees_the_winner_after_settling(place: Place) -> None:
    """Which of the two wins is the store's choice."""

    async def work() -> None:
        store = place.store()
        feed = await opened(store)

        async def attempt(own: str, other: str) -> str:
            try:
                await store.commit([Put(own, value_of, 0), Put("a", value_of, 0)])
            except Conflict as error:
                conflict = error
            else:
                return ""
            assert (conflict.key, conflict.expected) == ("a", 0)
            await store.settled()
            assert feed.state.keys() == {"a", other}
            assert feed.state["a"] == (conflict.actual, value_of(conflict.actual))
            return own

        (refused,) = filter(None, await asyncio.gather(attempt("b", "c"), attempt("c", "b")))
        (revision,) = await store.commit([Put(refused, value_of, 0)])  # the refused transaction left no key
        assert feed.state[refused] == (revision, value_of(revision))
        await store.close()

    run(work)


def test_a_cancelled_caller_does_not_stop_the_write(place: Place) -> None:
    async def work() -> None:
        store = place.store()
        feed = await opened(store)
        caller = asyncio.ensure_future(store.commit([Put("a", value_of, 0)]))
        await asyncio.sleep(0)
        caller.cancel()
        while "a" not in feed.state:
            await store.settled()
        await store.close()

    run(work)


def test_a_mark_and_a_removal_in_one(place: Place) -> None:
    """What deleting a Pod without grace comes to: watchers see both."""

    async def work() -> None:
        store = place.store()
        told: list[tuple[int, bool]] = []
        await store.open(lambda events: told.extend((event.revision, event.value is None) for event in events))
        await store.current()
        (first,) = await store.commit([Put("a", value_of, 0)])
        marked, removed = await store.commit([Put("a", value_of, first), Delete("a", None)])
        assert first < marked < removed
        assert told[-3:] == [(first, False), (marked, False), (removed, True)]
        with pytest.raises(Conflict):
            await store.commit([Delete("a", None)])
        await store.close()

    run(work)


def test_values_of_many_sizes(place: Place) -> None:
    async def work() -> None:
        store = place.store()
        feed = await opened(store)
        values = {f"k{size}": os.urandom(size) for size in (0, 1, 125, 16_384, 65_535, 65_536, 200_000, 1_400_000)}

        def constant(value: bytes) -> Callable[[int], bytes]:
            return lambda _: value

        puts = [store.commit([Put(key, constant(value), 0)]) for key, value in values.items()]
        await asyncio.gather(*puts)
        assert {key: value for key, (_, value) in feed.state.items()} == values
        await store.close()
        store = place.store()
        assert {key: value for key, (_, value) in (await opened(store)).state.items()} == values
        await store.close()

    run(work)


def test_nothing_is_done_and_nothing_is_accepted_when_closed(place: Place) -> None:
    async def work() -> None:
        store = place.store()
        await opened(store)
        assert await store.commit([]) == []
        while not store.live:  # etcd's watch begins in a moment
            await asyncio.sleep(0.01)
        await store.close()
        assert not store.live
        with pytest.raises(StoreError, match="closed"):
            await store.commit([Put("a", value_of, 0)])

    run(work)


def test_an_encoder_that_refuses_stores_nothing(place: Place) -> None:
    def refuse(revision: int) -> bytes:
        raise KeyError(revision)

    async def work() -> None:
        store = place.store()
        feed = await opened(store)
        planned: Sequence[Any] = [Put("a", value_of, 0), Put("b", refuse, 0)]
        with pytest.raises(KeyError):
            await store.commit(planned)
        await store.settled()
        assert feed.state == {}
        assert await store.commit([Put("a", value_of, 0)])
        await store.close()

    run(work)
