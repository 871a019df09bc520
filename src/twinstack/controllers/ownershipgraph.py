"""Who depends on whom, of all kinds: only objects that have owners, or wait for their dependents, are kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from twinstack.api.kinds import Kind
from twinstack.api.meta import Object, OwnerReference
from twinstack.controllers.ownership import blocks, is_waiting


class Node(NamedTuple):
    """An object as it was last told, and where it lives."""

    kind: Kind[Any]
    obj: Object


def matters(obj: Object) -> bool:
    """Whether an object has a place in the graph."""
    return bool(obj.metadata.owner_references) or is_waiting(obj)


class Graph:
    """Follows changes; each tells the uids of the objects that must be looked at for it."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}  # by uid
        self._dependents: dict[str, set[str]] = {}  # owner's uid → uids

    def put(self, kind: Kind[Any], obj: Object) -> set[str]:
        """An object is there, new or changed: itself if its owners or its deletion are news, and who waited for it."""
        uid = obj.metadata.uid
        before = self.nodes.get(uid)
        known = before.obj.metadata.owner_references if before is not None else []
        if matters(obj):
            self.nodes[uid] = Node(kind, obj)
        elif before is not None:
            del self.nodes[uid]
        references = obj.metadata.owner_references
        self._link(uid, known, references)
        concerned = self._unblocked(before.obj, obj) if before is not None else set()
        if is_waiting(obj) or references != known:
            concerned.add(uid)
        return concerned

    def remove(self, uid: str, references: Iterable[OwnerReference]) -> set[str]:
        """An object has gone: its dependents, and the owners that waited for it."""
        self.nodes.pop(uid, None)
        self._link(uid, references, ())
        return self._dependents.get(uid, set()) | {ref.uid for ref in references if self._waits(ref.uid)}

    def dependents(self, uid: str) -> Iterator[Node]:
        """The objects that name `uid` as an owner."""
        return (self.nodes[dependent] for dependent in self._dependents.get(uid, ()))

    def has_dependents(self, uid: str) -> bool:
        return uid in self._dependents

    def owned_by(self, group: str, kind: str) -> list[str]:
        """The uids of all objects that have an owner of a kind."""
        return [
            uid
            for uid, node in self.nodes.items()
            if any(ref.kind == kind and _group(ref) == group for ref in node.obj.metadata.owner_references)
        ]

    def _link(self, uid: str, before: Iterable[OwnerReference], after: Iterable[OwnerReference]) -> None:
        now = {reference.uid for reference in after}
        for owner in {reference.uid for reference in before} - now:
            members = self._dependents.get(owner)
            if members is not None:
                members.discard(uid)
                if not members:
                    del self._dependents[owner]
        for owner in now:
            self._dependents.setdefault(owner, set()).add(uid)

    def _unblocked(self, before: Object, after: Object) -> set[str]:
        """Owners that waited for an object and need no longer."""
        return {
            ref.uid
            for ref in before.metadata.owner_references
            if blocks(before, ref.uid) and not blocks(after, ref.uid) and self._waits(ref.uid)
        }

    def _waits(self, uid: str) -> bool:
        node = self.nodes.get(uid)
        return node is not None and is_waiting(node.obj)


def _group(reference: OwnerReference) -> str:
    group, _, _ = reference.api_version.rpartition("/")
    return group
