"""The watch cache against a naive model: snapshots, resumes, selections, frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api.resources import resource
from twinstack.server import watchcache, watchers
from twinstack.server.forms import Partial, Whole
from twinstack.server.selection import Selection
from twinstack.server.versions import Version, view_of
from twinstack.server.watchcache import WatchCache
from twinstack.server.watchers import Watcher, replay
from twinstack.store import Event, Opened, Record

JSON = dict[str, Any]
PODS = resource("", "pods")
NODES = resource("", "nodes")
VIEW = view_of(PODS)


def pod(revision: int, name: str, labels: dict[str, str] | None = None, node: str = "", namespace: str = "ns") -> bytes:
    meta = {"name": name, "namespace": namespace, "labels": labels or {}, "resourceVersion": str(revision)}
    return msgspec.json.encode({"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": {"nodeName": node}})


class Timeline:
    """A cache fed with changes of Pods, and every state it has been in."""

    def __init__(self) -> None:
        self.cache = WatchCache()
        self.cache.load(Opened(0, [], {}, 0))
        self.pods = self.cache.collection(PODS)
        self.revision = 0
        self.state: dict[str, bytes] = {}
        self.states: list[dict[str, bytes]] = [{}]
        self.revisions: dict[str, int] = {}

    def change(self, name: str, labels: dict[str, str] | None, node: str = "", namespace: str = "ns") -> None:
        """Write a Pod; without labels, delete it."""
        key = PODS.key(namespace, name)
        self.revision += 1
        value = None if labels is None else pod(self.revision, name, labels, node, namespace)
        previous = self.revisions.get(key, 0)
        self.cache.publish([Event(key, self.revision, value, previous)])
        if value is None:
            self.state.pop(key, None)
            self.revisions.pop(key, None)
        else:
            self.state[key] = value
            self.revisions[key] = self.revision
        self.states.append(dict(self.state))


changes = st.lists(
    st.tuples(
        st.sampled_from(["a", "ab", "b", "c"]),
        st.sampled_from([None, {"x": "1"}, {"x": "2"}, {}]),
        st.sampled_from(["", "n1", "n2"]),
        st.sampled_from(["ns", "ns2"]),
    ),
    max_size=14,
)
selections = st.tuples(
    st.sampled_from(["", "ns", "ns2"]),
    st.sampled_from(["", "x=1", "x", "!x"]),
    st.sampled_from(
        ["", "metadata.name=a", "spec.nodeName=n1", "metadata.name=a,spec.nodeName=n1", "spec.nodeName!=n1"]
    ),
)


def run(coroutine: Callable[[], Any]) -> None:
    asyncio.run(coroutine())


@given(changes, st.sampled_from(["pods/", "pods/ns/"]))
def test_every_past_state_can_be_listed(steps: list[tuple[str, dict[str, str] | None, str, str]], prefix: str) -> None:
    timeline = Timeline()
    for step in steps:
        timeline.change(*step)
    for revision, state in enumerate(timeline.states):
        expected = [state[key] for key in sorted(state) if key.startswith(prefix)]
        found = timeline.pods.versions_at(revision, prefix)
        assert found is not None
        assert [version.value for version in found] == expected
        for start in sorted(state):
            later = timeline.pods.versions_at(revision, prefix, after=start)
            assert later is not None
            assert [v.value for v in later] == [state[k] for k in sorted(state) if k.startswith(prefix) and k > start]


def apply_frames(frames: bytes, state: dict[str, str]) -> None:
    """A client that follows a watch: name to resourceVersion."""
    for line in frames.splitlines():
        event = msgspec.json.decode(line)
        meta = event["object"]["metadata"]
        key = f"{meta['namespace']}/{meta['name']}"
        if event["type"] == "ADDED":
            assert key not in state
            state[key] = meta["resourceVersion"]
        elif event["type"] == "MODIFIED":
            assert int(meta["resourceVersion"]) > int(state[key])
            state[key] = meta["resourceVersion"]
        else:
            assert event["type"] == "DELETED"
            assert int(meta["resourceVersion"]) > int(state.pop(key))


def selected(state: dict[str, bytes], selection: Selection) -> dict[str, str]:
    found = {}
    for key, value in state.items():
        meta = msgspec.json.decode(value)["metadata"]
        if selection.covers(key) and selection.admits(Version(key, 0, value)):
            found[f"{meta['namespace']}/{meta['name']}"] = meta["resourceVersion"]
    return found


class Connection:
    """Takes what a watcher writes."""

    def __init__(self) -> None:
        self.data = b""
        self.writes = 0
        self.waiting = 0

    def write(self, data: bytes) -> None:
        self.data += data
        self.writes += 1

    def pending(self) -> int:
        return self.waiting

    async def drain(self) -> None:
        self.waiting = 0

    async def closed(self) -> None:
        await asyncio.get_running_loop().create_future()


@settings(deadline=None)
@given(changes, changes, selections)
def test_a_follower_ends_in_the_selected_state(
    before: list[Any], after: list[Any], wanted: tuple[str, str, str]
) -> None:
    """From any revision, replayed or live: a client that applies the events has what a list shows."""

    async def main() -> None:
        timeline = Timeline()
        selection = Selection(VIEW, *wanted)
        for step in before:
            timeline.change(*step)
        clients = []
        for start in range(timeline.revision + 1):
            watcher, connection = Watcher(timeline.revision), Connection()
            past = timeline.pods.changes_since(start)
            assert past is not None
            replay(past, selection, Whole(VIEW), watcher)
            timeline.pods.watches.add(selection, Whole(VIEW), watcher)
            watcher.attach(connection)
            clients.append((start, watcher, connection))
        for step in after:
            timeline.change(*step)
        await asyncio.sleep(0)
        for start, watcher, connection in clients:
            state = selected(timeline.states[start], selection)
            apply_frames(connection.data, state)
            assert state == selected(timeline.state, selection)
            timeline.pods.watches.remove(selection, Whole(VIEW), watcher)
        assert len(timeline.pods.watches) == 0

    run(main)


def follow(timeline: Timeline, selection: Selection, form: Any = None) -> Connection:
    watcher, connection = Watcher(timeline.revision), Connection()
    timeline.pods.watches.add(selection, form or Whole(VIEW), watcher)
    watcher.attach(connection)
    return connection


def events(connection: Connection) -> list[tuple[str, JSON]]:
    found = [msgspec.json.decode(line) for line in connection.data.splitlines()]
    return [(event["type"], event["object"]) for event in found]


def test_leaving_a_selection_is_a_deletion_with_the_old_content() -> None:
    async def main() -> None:
        timeline = Timeline()
        timeline.change("a", {"x": "1"}, "n1")
        connection = follow(timeline, Selection(VIEW, "", "x=1"))
        timeline.change("a", {"x": "2"}, "n2")
        timeline.change("a", {"x": "1"}, "n3")
        timeline.change("a", None)
        await asyncio.sleep(0)
        (gone, last), (entered, new), (deleted, final) = events(connection)
        assert (gone, last["spec"]["nodeName"], last["metadata"]["resourceVersion"]) == ("DELETED", "n1", "2")
        assert last["metadata"]["labels"] == {"x": "1"}
        assert (entered, new["metadata"]["resourceVersion"]) == ("ADDED", "3")
        assert (deleted, final["spec"]["nodeName"], final["metadata"]["resourceVersion"]) == ("DELETED", "n3", "4")
        assert connection.writes == 1  # all frames of one turn in one write

    run(main)


def test_one_rendering_for_all_watchers(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []
    judged: list[str] = []

    class Counted(Whole):
        def frame(self, event: str, version: Version, *, first: bool) -> bytes:
            rendered.append(event)
            return super().frame(event, version, first=first)

    admits = Selection.admits

    def counting(self: Selection, version: Version) -> bool:
        judged.append(version.key)
        return admits(self, version)

    monkeypatch.setattr(Selection, "admits", counting)

    async def main() -> None:
        timeline = Timeline()
        connections = [follow(timeline, Selection(VIEW, "", "x=1"), Counted(VIEW)) for _ in range(50)]
        connections += [follow(timeline, Selection(VIEW, "", "x"), Counted(VIEW)) for _ in range(50)]
        nodes = [follow(timeline, Selection(VIEW, "", "", f"spec.nodeName=n{i}"), Counted(VIEW)) for i in range(50)]
        timeline.change("a", {"x": "1"}, "n7")
        await asyncio.sleep(0)
        assert rendered == ["ADDED"]
        assert len(judged) == 3  # two label selectors and the one node that it concerns
        assert all(connection.data for connection in connections)
        assert [bool(connection.data) for connection in nodes] == [i == 7 for i in range(50)]

    run(main)


@pytest.mark.parametrize(("count", "pause", "written"), [(16, 3600, 1), (15, 3600, 2), (16, 0, 2)])
def test_a_crowd_is_not_written_to_again_at_once(
    monkeypatch: pytest.MonkeyPatch, count: int, pause: float, written: int
) -> None:
    monkeypatch.setattr(watchers, "_CROWD_PAUSE", pause)

    async def main() -> None:
        timeline = Timeline()
        connections = [follow(timeline, Selection(VIEW)) for _ in range(count)]
        timeline.change("a", {})
        await asyncio.sleep(0)
        assert {connection.writes for connection in connections} == {1}
        timeline.change("b", {})
        await asyncio.sleep(0)
        assert {connection.writes for connection in connections} == {written}

    run(main)


def test_a_crowd_is_told_all_in_order() -> None:
    async def main() -> None:
        timeline = Timeline()
        connections = [follow(timeline, Selection(VIEW)) for _ in range(20)]
        for number in range(100):
            timeline.change(f"p{number}", {})
            await asyncio.sleep(0)
        while any(len(events(connection)) < 100 for connection in connections):
            await asyncio.sleep(0.001)
        for connection in connections:
            assert [obj["metadata"]["name"] for _, obj in events(connection)] == [f"p{n}" for n in range(100)]

    run(main)


def test_a_slow_reader_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "QUEUE_BYTES", 2000)

    async def main() -> None:
        timeline = Timeline()
        selection, form = Selection(VIEW), Whole(VIEW)
        watcher, connection = Watcher(0), Connection()
        timeline.pods.watches.add(selection, form, watcher)
        watcher.attach(connection)
        ended = asyncio.get_running_loop().create_future()
        connection.waiting = 1 << 20
        timeline.change("a", {})
        await watcher.wait(ended, 5)  # congested
        assert connection.data == b""
        await watcher.wait(ended, 5)  # waits for the connection, then writes
        assert connection.data.count(b"ADDED") == 1
        connection.waiting = 1 << 20
        for _ in range(30):
            timeline.change("a", {})
        await watcher.wait(ended, 5)
        assert watcher.lost
        assert connection.data.count(b"\n") == 1

    run(main)


def test_history_ends_by_count_and_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchcache, "HISTORY_CHANGES", 5)
    timeline = Timeline()
    for _ in range(8):
        timeline.change("a", {})
    assert timeline.pods.floor == 3
    assert timeline.pods.changes_since(2) is None
    assert timeline.pods.versions_at(2, "pods/") is None
    since = timeline.pods.changes_since(3)
    assert since is not None
    assert [change.revision for change in since] == [4, 5, 6, 7, 8]
    now = 1e9
    timeline.pods.apply(Event("pods/ns/a", 9, pod(9, "a"), 8), now)
    assert timeline.pods.floor == 8
    timeline.pods.apply(Event("pods/ns/a", 10, pod(10, "a"), 9), now + watchcache.HISTORY_SECONDS)
    assert timeline.pods.floor == 8
    timeline.pods.apply(Event("pods/ns/a", 11, pod(11, "a"), 10), now + watchcache.HISTORY_SECONDS + 1)
    assert timeline.pods.floor == 9


def test_waiting_for_a_revision() -> None:
    async def main() -> None:
        timeline = Timeline()
        assert await timeline.cache.reach(0, 1)
        waiting = asyncio.ensure_future(timeline.cache.reach(2, 5))
        late = asyncio.ensure_future(timeline.cache.reach(9, 0.01))
        await asyncio.sleep(0)
        timeline.change("a", {})
        await asyncio.sleep(0)
        assert not waiting.done()
        timeline.change("a", {})
        assert await waiting
        assert not await late

    run(main)


def test_keys_that_are_no_objects_are_known_and_counted() -> None:
    cache = WatchCache()
    cache.load(Opened(0, [], {}, 0))
    cache.publish([Event("nodeports/30080", 1, b"{}", 0)])
    assert cache.exists("nodeports/30080")
    assert cache.revision == 1
    cache.publish([Event("nodeports/30080", 2, None, 1)])
    assert not cache.exists("nodeports/30080")


def test_after_a_restart_a_watch_resumes_where_nothing_of_its_collection_has_happened_since() -> None:
    cache = WatchCache()
    records = [
        Record("pods/ns/a", 3, pod(3, "a")),
        Record("services/ns/s", 9, b"{}"),
        Record("nodeports/30080", 8, b"{}"),
    ]
    cache.load(Opened(12, records, {"pods/ns/b": 5, "configmaps/ns/c": 12}, 2))
    floors = {"pods": 5, "services": 9, "configmaps": 12, "secrets": 2}
    for plural, floor in floors.items():
        collection = cache.collection(resource("", plural))
        assert collection.floor == floor
        assert collection.changes_since(floor) == []
        assert collection.changes_since(floor - 1) is None


def test_metadata_alone_is_cut_out_of_the_stored_bytes() -> None:
    version = Version("pods/ns/a", 4, pod(4, "a", {"x": "1"}))
    item = msgspec.json.decode(Partial("v1").item(version))
    assert item == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": msgspec.json.decode(version.value)["metadata"],
    }


def test_a_name_and_namespace_in_the_field_selector_narrow_the_scope() -> None:
    assert Selection(VIEW, "ns", "", "metadata.name=a").key == "pods/ns/a"
    assert Selection(VIEW, "", "", "metadata.name=a,metadata.namespace=ns").key == "pods/ns/a"
    assert Selection(VIEW, "", "", "metadata.name=a").key is None
    assert Selection(VIEW, "", "", "metadata.namespace=ns").prefix == "pods/ns/"
    assert Selection(view_of(NODES), "", "", "metadata.name=n").key == "nodes/n"
    assert Selection(VIEW, "ns", "", "metadata.name!=a").key is None
    other = Selection(VIEW, "ns", "", "metadata.namespace=ns2")
    assert not any(other.admits(Version("pods/ns/a", 1, pod(1, "a"))) for _ in range(1))


def test_sequences_of_bytes_join_to_a_list() -> None:
    versions = [Version(f"pods/ns/{name}", i, pod(i, name)) for i, name in enumerate("abc")]
    body: Sequence[bytes] = Whole(VIEW).list_body({"resourceVersion": "7"}, versions)
    decoded = msgspec.json.decode(b"".join(body))
    assert (decoded["kind"], decoded["metadata"]) == ("PodList", {"resourceVersion": "7"})
    assert [item["metadata"]["name"] for item in decoded["items"]] == ["a", "b", "c"]
    empty = msgspec.json.decode(b"".join(Whole(VIEW).list_body({"resourceVersion": "7"}, [])))
    assert empty["items"] == []
