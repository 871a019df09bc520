"""The store on etcd alone: several servers, members that die, TLS, and what etcd forgets."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.etcd_servers import Etcd, TLSFiles, etcd, leader_of
from tests.integration.store.objects import Feed, value_of

from twinstack.ip import Address
from twinstack.pki.ca import CertificateAuthority
from twinstack.store import Conflict, Delete, Event, Opened, Put, StoreError, Unavailable
from twinstack.store.etcd import messages
from twinstack.store.etcd import store as store_module
from twinstack.store.etcd.channel import Channel, endpoints_of
from twinstack.store.etcd.compaction import compact
from twinstack.store.etcd.store import EtcdStore

KILLS = 10 if os.environ.get("TWINSTACK_TESTS") == "soak" else 1


@pytest.fixture(scope="module")
def one() -> Iterator[Etcd]:
    with etcd() as servers:
        yield servers


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(90):
            await work()

    asyncio.run(main())


@asynccontextmanager
async def opened(servers: Etcd, prefix: str, *, history: int = 0) -> AsyncIterator[tuple[EtcdStore, Feed]]:
    store, feed = EtcdStore(endpoints_of(servers.servers), prefix, history=history), Feed()
    try:
        feed.load(await store.open(feed.publish, feed.gap))
        await store.current()
        yield store, feed
    finally:
        await store.close()


@asynccontextmanager
async def channel(servers: Etcd) -> AsyncIterator[Channel]:
    it = Channel(endpoints_of(servers.servers), None)
    try:
        yield it
    finally:
        await it.close()


async def put(client: Channel, key: bytes, value: bytes) -> int:
    """As another program would."""
    request = messages.txn_request([], [messages.put_operation(key, value)], [])
    return messages.read_txn(await client.call(messages.TXN, request, seconds=30, repeat=False)).revision


def test_a_write_of_one_server_is_read_at_another(one: Etcd) -> None:
    async def work() -> None:
        async with opened(one, "/two") as (a, feed_a), opened(one, "/two") as (b, feed_b):
            for number in range(30):
                (revision,) = await a.commit([Put(f"k{number}", value_of, 0)])
                assert feed_a.state[f"k{number}"][0] == revision  # its own write at once
                await b.current()
                assert feed_b.state == feed_a.state  # the other's after asking
                with pytest.raises(Conflict):
                    await b.commit([Put(f"k{number}", value_of, 0)])
            await b.commit([Delete(f"k{number}", None) for number in range(30)])
            await a.current()
            assert feed_a.state == feed_b.state == {}

    run(work)


def test_reads_are_consistent_beside_writers_of_other_prefixes(one: Etcd) -> None:
    async def work() -> None:
        async with opened(one, "/mine") as (store, feed), channel(one) as client:
            for number in range(3):
                await put(client, b"/another/key", b"%d" % number)
                await asyncio.gather(*(store.current() for _ in range(20)))
            await store.commit([Put("a", value_of, None)])
            assert set(feed.state) == {"a"}  # what makes this possible is told to nobody

    run(work)


def test_what_happened_before_a_start_is_told_as_history(one: Etcd) -> None:
    async def work() -> None:
        async with opened(one, "/past") as (store, _):
            (first,) = await store.commit([Put("a", value_of, 0)])
            (second,) = await store.commit([Put("a", value_of, first)])
        late = EtcdStore(endpoints_of(one.servers), "/past")
        told: list[Event] = []
        begun: Opened = await late.open(told.extend)
        await late.current()
        assert begun.revision < first
        assert begun.records == []
        assert told == [Event("a", first, value_of(first), 0), Event("a", second, value_of(second), first)]
        await late.close()

    run(work)


def test_a_prefix_of_kube_apiserver_is_refused(one: Etcd) -> None:
    async def work() -> None:
        async with channel(one) as client:
            await put(client, b"/registry/pods/default/p", b"k8s\0\n\x0f")
        with pytest.raises(StoreError, match="/registry/ in etcd holds the data of another program"):
            async with opened(one, "/registry"):
                pass

    run(work)


def test_too_much_for_one_transaction(one: Etcd) -> None:
    async def work() -> None:
        async with opened(one, "/much") as (store, feed):
            with pytest.raises(StoreError, match="etcdserver: too many operations in txn request"):
                await store.commit([Put(f"k{number}", value_of, 0) for number in range(129)])
            with pytest.raises(Unavailable, match="etcdserver: request is too large"):
                await store.commit([Put("big", lambda _: b"x" * 1_800_000, 0)])
            assert feed.state == {}
            await store.commit([Put(f"k{number}", value_of, 0) for number in range(128)])
            assert len(feed.state) == 128

    run(work)


def test_servers_compact_in_turns(one: Etcd) -> None:
    async def work() -> None:
        async with channel(one) as a, channel(one) as b:
            first = await put(a, b"/turns/key", b"1")
            at_a, at_b = await compact(a, 0, 0), await compact(b, 0, 0)
            for number in range(3):
                await put(a, b"/turns/key", b"%d" % number)
                before = max(at_a[1], at_b[1])
                at_a, at_b = await compact(a, *at_a), await compact(b, *at_b)
                assert at_a[0] == at_b[0]  # one has won, the other has seen it
                assert before < at_a[1] <= at_b[1]
            old = messages.range_request(b"/turns/key", revision=first)
            with pytest.raises(Exception, match="etcdserver: mvcc: required revision has been compacted"):
                await a.call(messages.RANGE, old, seconds=30, repeat=True)

    run(work)


class Gate:
    """A way to etcd that can be shut: connections are cut, and new ones refused."""

    def __init__(self, servers: Etcd) -> None:
        self._target = servers.members[0].client_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        except asyncio.CancelledError:
            pass  # the server's own handler complains of one that is cancelled
        finally:
            self._tasks.discard(task)
            for each in (writer, far_writer):
                each.transport.abort()
                await asyncio.gather(each.wait_closed(), return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def test_what_was_compacted_while_the_way_was_shut_is_made_up_for(one: Etcd) -> None:
    async def work() -> None:
        gate, feed = Gate(one), Feed()
        await gate.open()
        store = EtcdStore(endpoints_of(f"127.0.0.1:{gate.port}"), "/gap", history=0)
        feed.load(await store.open(feed.publish, feed.gap))
        await store.commit([Put(key, value_of, 0) for key in ("kept", "changed", "gone")])
        kept = feed.state["kept"]
        await gate.shut()
        async with opened(one, "/gap") as (other, wanted), channel(one) as client:
            await other.commit([Put("changed", value_of, None), Delete("gone", None), Put("new", value_of, 0)])
            for number in range(3):
                await other.commit([Put("changed", value_of, None), Put("new", value_of, None)])
                last = await put(client, b"/elsewhere", b"%d" % number)
            await client.call(messages.COMPACT, messages.compaction_request(last), seconds=30, repeat=True)
            assert feed.state.keys() == {"kept", "changed", "gone"}
            await gate.open()
            await store.current()
            assert feed.state == wanted.state
            assert feed.state["kept"] == kept
            assert len(feed.gaps) == 1
            await store.commit([Put("after", value_of, 0)])
            await other.current()
            assert feed.state == wanted.state
        await store.close()
        await gate.shut()

    run(work)


def test_changes_are_told_once_whenever_the_way_is_cut(one: Etcd) -> None:
    """The feed itself asserts that what it is told fits what it knows."""

    async def work() -> None:
        gate, feed = Gate(one), Feed()
        await gate.open()
        store = EtcdStore(endpoints_of(f"127.0.0.1:{gate.port}"), "/cut", history=0)
        feed.load(await store.open(feed.publish, feed.gap))
        async with opened(one, "/cut") as (other, wanted):

            async def write() -> None:
                for number in range(300):
                    await other.commit([Put(f"k{number % 7}", value_of, None), Put(f"n{number}", value_of, 0)])

            writing = asyncio.create_task(write())
            while not writing.done():
                await gate.shut()
                await gate.open()
                await asyncio.sleep(0.1)
            await writing
            await store.current()
            assert feed.state == wanted.state
            assert not feed.gaps
        await store.close()
        await gate.shut()

    run(work)


def test_etcd_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers are told so, watches go on, and what was acknowledged is there."""
    monkeypatch.setattr(store_module, "_WRITE_SECONDS", 1.0)

    async def work() -> None:
        with etcd() as servers:
            (member,) = servers.members
            async with opened(servers, "/restart") as (store, feed):
                acknowledged: dict[str, int] = {}
                for number in range(20):
                    (acknowledged[f"k{number}"],) = await store.commit([Put(f"k{number}", value_of, 0)])
                await asyncio.to_thread(member.stop)
                with pytest.raises(Unavailable):
                    await store.commit([Put("lost", value_of, 0)])
                while store.live:
                    await asyncio.sleep(0.01)
                servers.start_member(member)
                await store.current()  # waits for it
                (acknowledged["after"],) = await store.commit([Put("after", value_of, 0)])
                assert store.live
                assert {key: revision for key, (revision, _) in feed.state.items()} == acknowledged

    run(work)


def test_tls_with_client_certificates(tmp_path: Path) -> None:
    authority = CertificateAuthority.create("etcd")
    certificate, key = authority.issue("server", addresses=[Address.parse("127.0.0.1")], server=True, client=True)
    files = TLSFiles(tmp_path / "ca.crt", tmp_path / "etcd.crt", tmp_path / "etcd.key")
    for path, content in zip(files, (authority.certificate_pem, certificate, key), strict=True):
        path.write_bytes(content)

    def context(*, own: bool) -> ssl.SSLContext:
        it = ssl.create_default_context(cafile=str(files.authority))
        it.set_alpn_protocols(["h2"])
        if own:
            it.load_cert_chain(files.certificate, files.key)
        return it

    async def work() -> None:
        with etcd(tls=files) as servers:
            store, feed = EtcdStore(endpoints_of(servers.servers), "/tls", context(own=True)), Feed()
            feed.load(await store.open(feed.publish))
            await store.commit([Put("a", value_of, 0), Put("b", lambda _: b"x" * 300_000, 0)])
            assert set(feed.state) == {"a", "b"}
            await store.close()
            stranger = Channel(endpoints_of(servers.servers), context(own=False))
            with pytest.raises(Exception, match="Unavailable"):
                await stranger.call(messages.RANGE, messages.range_request(b"/tls/a"), seconds=1, repeat=True)
            await stranger.close()

    run(work)


def test_the_leader_of_three_members_is_killed() -> None:
    """No acknowledged write is lost, no change is told twice or left out, by two stores on three members."""

    async def write(store: EtcdStore, name: str, until: asyncio.Event, acknowledged: dict[str, int]) -> None:
        number = 0
        while not until.is_set():
            number += 1
            try:
                (acknowledged[f"{name}/{number}"],) = await store.commit([Put(f"{name}/{number}", value_of, 0)])
            except Unavailable:  # not known: it counts neither way
                await asyncio.sleep(0.05)

    async def work() -> None:
        flags = ("--heartbeat-interval=50", "--election-timeout=500")
        with etcd(3, flags=flags) as servers:
            async with opened(servers, "/three") as (a, feed_a), opened(servers, "/three") as (b, feed_b):
                stop, acknowledged = asyncio.Event(), dict[str, int]()
                writers = [
                    asyncio.create_task(write(store, f"{name}{n}", stop, acknowledged))
                    for store, name in ((a, "a"), (b, "b"))
                    for n in range(4)
                ]
                for _ in range(KILLS):
                    before = len(acknowledged)
                    while len(acknowledged) < before + 100:
                        await asyncio.sleep(0.01)
                    leader = await leader_of(servers)
                    await asyncio.to_thread(leader.stop)
                    before = len(acknowledged)
                    while len(acknowledged) < before + 100:
                        await asyncio.sleep(0.01)
                    servers.start_member(leader)
                    await asyncio.to_thread(servers.wait_for, leader)
                stop.set()
                await asyncio.gather(*writers)
                await asyncio.gather(a.current(), b.current())
                assert feed_a.state == feed_b.state
                assert not feed_a.gaps
                found = {key: revision for key, (revision, _) in feed_a.state.items()}
                assert acknowledged.items() <= found.items()

    run(work)
