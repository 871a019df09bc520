"""What every node carries, kept as Pods come and go: a decision costs the nodes, not their Pods. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from twinstack.scheduler.requests import PODS, Footprint, HostPort

HIGHEST = 1 << 31  # above every priority


class Load:
    """The sum of what runs on one node."""

    def __init__(self) -> None:
        self.resources: Counter[str] = Counter()
        self.ports: Counter[HostPort] = Counter()
        self.owners: Counter[str] = Counter()
        self.priorities: Counter[int] = Counter()

    @property
    def pods(self) -> int:
        return self.resources[PODS] // 1000

    @property
    def lowest_priority(self) -> int:
        """That of the least important Pod; above all others when there is none."""
        return min(self.priorities, default=HIGHEST)


EMPTY = Load()


class Loads:
    """Loads by node name. A Pod counts once, on the node it was last said to be on."""

    def __init__(self) -> None:
        self._nodes: dict[str, Load] = {}
        self._placed: dict[str, tuple[str, Footprint]] = {}  # Pod uid → node, footprint
        self._by_namespace: dict[str, set[str]] = {}  # → uids
        self._repelling: set[str] = set()  # uids of Pods with required anti-affinity

    def __getitem__(self, node: str) -> Load:
        """The load of a node; not to be changed."""
        return self._nodes.get(node, EMPTY)

    def node_of(self, uid: str) -> str | None:
        placed = self._placed.get(uid)
        return placed[0] if placed is not None else None

    def namespaces(self) -> Collection[str]:
        """Those that have Pods on nodes."""
        return self._by_namespace.keys()

    def in_namespace(self, namespace: str) -> Iterator[tuple[str, Footprint]]:
        """The Pods of a namespace that are placed, with their nodes."""
        return (self._placed[uid] for uid in self._by_namespace.get(namespace, ()))

    def on(self, node: str) -> Iterator[tuple[str, Footprint]]:
        """The Pods of a node, by uid. Looks at all that are placed: for rare questions."""
        return ((uid, taken) for uid, (where, taken) in self._placed.items() if where == node)

    def repelling(self) -> Iterator[tuple[str, Footprint]]:
        """The Pods that want some others kept away."""
        return (self._placed[uid] for uid in self._repelling)

    def place(self, uid: str, node: str, taken: Footprint) -> None:
        """Count a Pod on a node, wherever it was counted before."""
        self.remove(uid)
        load = self._nodes.setdefault(node, Load())
        load.resources.update(taken.resources)
        load.ports.update(taken.ports)
        load.owners[taken.owner] += 1
        load.priorities[taken.priority] += 1
        self._placed[uid] = (node, taken)
        self._by_namespace.setdefault(taken.namespace, set()).add(uid)
        if taken.repels:
            self._repelling.add(uid)

    def remove(self, uid: str) -> bool:
        """Stop counting a Pod; whether it was counted."""
        placed = self._placed.pop(uid, None)
        if placed is None:
            return False
        node, taken = placed
        load = self._nodes[node]
        load.resources.subtract(taken.resources)
        load.ports.subtract(taken.ports)
        load.owners[taken.owner] -= 1
        load.priorities[taken.priority] -= 1
        # Forget what has come down to nothing.
        load.ports, load.owners, load.priorities = +load.ports, +load.owners, +load.priorities
        if not load.pods:
            del self._nodes[node]
        self._repelling.discard(uid)
        members = self._by_namespace[taken.namespace]
        members.discard(uid)
        if not members:
            del self._by_namespace[taken.namespace]
        return True
