"""What every node carries, kept as Pods come and go: a decision costs the nodes, not their Pods. Pure."""

from __future__ import annotations

from collections import Counter

from twinstack.scheduler.requests import PODS, Footprint, HostPort


class Load:
    """The sum of what runs on one node."""

    def __init__(self) -> None:
        self.resources: Counter[str] = Counter()
        self.ports: Counter[HostPort] = Counter()
        self.owners: Counter[str] = Counter()

    @property
    def pods(self) -> int:
        return self.resources[PODS] // 1000


EMPTY = Load()


class Loads:
    """Loads by node name. A Pod counts once, on the node it was last said to be on."""

    def __init__(self) -> None:
        self._nodes: dict[str, Load] = {}
        self._placed: dict[str, tuple[str, Footprint]] = {}  # Pod uid → node, footprint

    def __getitem__(self, node: str) -> Load:
        """The load of a node; not to be changed."""
        return self._nodes.get(node, EMPTY)

    def node_of(self, uid: str) -> str | None:
        placed = self._placed.get(uid)
        return placed[0] if placed is not None else None

    def place(self, uid: str, node: str, taken: Footprint) -> None:
        """Count a Pod on a node, wherever it was counted before."""
        self.remove(uid)
        load = self._nodes.setdefault(node, Load())
        load.resources.update(taken.resources)
        load.ports.update(taken.ports)
        load.owners[taken.owner] += 1
        self._placed[uid] = (node, taken)

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
        load.ports, load.owners = +load.ports, +load.owners  # forget what has come down to nothing
        if not load.pods:
            del self._nodes[node]
        return True
