from __future__ import annotations

import uvloop
from tests.unit.controllers.test_ownership import obj

from twinstack.api.kinds import CONFIG_MAPS, Kind
from twinstack.api.meta import Object
from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.rest import Client
from twinstack.controllers.ownerwatch import OwnerWatch


def told(old: Object | None, new: Object | None) -> tuple[str | None, str | None]:
    return old.metadata.uid if old else None, new.metadata.uid if new else None


async def watching() -> tuple[OwnerWatch, list[tuple[str | None, str | None]], list[None]]:
    changes: list[tuple[str | None, str | None]] = []
    missed: list[None] = []
    client = Client(ClusterAccess(server="https://127.0.0.1:1"), user_agent="test")
    kind = Kind(CONFIG_MAPS.resource, Object)
    watch = OwnerWatch(client, kind, lambda old, new: changes.append(told(old, new)), lambda: missed.append(None))
    return watch, changes, missed


async def _owned_and_free() -> None:
    watch, changes, missed = await watching()
    owned, free = obj("d", "o"), obj("f")
    owned.metadata.labels, owned.metadata.annotations = {"a": "b"}, {"big": "x" * 1000}
    watch.put(owned)
    watch.put(free)
    assert changes == [(None, "d"), (None, "f")]
    assert owned.metadata.labels == owned.metadata.annotations == {}, "what is kept is kept small"
    watch.put(obj("d"))  # it has lost its owner
    watch.put(obj("d"))
    assert changes[2:] == [("d", "d"), (None, "d")]
    watch.gone(obj("f"))
    assert changes[4:] == [("f", None)]
    assert not missed


async def _after_a_gap() -> None:
    watch, changes, missed = await watching()
    for uid in "ab":
        watch.put(obj(uid, "o"))
    watch.complete({"default/a", "default/b"}, 7)
    watch._synced.set()
    assert not missed, "at the start nothing can have been missed"
    watch.put(obj("a", "o"))
    other = obj("b2", "o")
    other.metadata.name = "b"
    watch.put(other)
    assert changes[2:] == [("a", "a"), ("b", None), (None, "b2")], "another of the same name"
    watch.complete({"default/b"}, 9)
    assert changes[5:] == [("a", None)]
    assert missed == [None]
    watch.forget()
    assert changes[6:] == [("b2", None)]


def test_only_what_has_owners_is_kept() -> None:
    uvloop.run(_owned_and_free())


def test_what_went_during_a_gap_is_found_missing() -> None:
    uvloop.run(_after_a_gap())
