"""Which front end has an address and port, when Services are many and changes come in any order.

Two Services claim one slot for a moment while an address passes from one to the other, and for good when
somebody gives two Services the same address. The better rank has it (see FrontEnd.rank); the result never
depends on the order of events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from twinstack.dataplane.model import NOTHING, FrontEnd, Hairpin, ServiceState, Slot
from twinstack.dataplane.tracker import Change
from twinstack.ip import Address

K = TypeVar("K", Address, Hairpin)


class Touched(NamedTuple):
    """What may have changed: compare it with what is laid."""

    slots: set[Slot]
    cluster_ips: set[Address]
    hairpins: set[Hairpin]

    @classmethod
    def by(cls, changes: Iterable[Change]) -> Touched:
        touched = cls(set(), set(), set())
        for change in changes:
            for state in (change.old, change.new):
                touched.slots.update([front_end.slot for front_end in state.front_ends])
                touched.hairpins.update(state.hairpins)
                if state.cluster_ip is not None:
                    touched.cluster_ips.add(state.cluster_ip)
        return touched


class Claims:
    """The desired front ends of one family."""

    def __init__(self) -> None:
        self._front_ends: dict[Slot, FrontEnd] = {}  # whose slot it is
        self._others: dict[Slot, list[FrontEnd]] = {}  # who would like it too: rare
        self.cluster_ips: dict[Address, int] = {}  # and how many ask for it
        self.hairpins: dict[Hairpin, int] = {}

    def __len__(self) -> int:
        return len(self._front_ends)

    def __iter__(self) -> Iterator[FrontEnd]:
        return iter(self._front_ends.values())

    def get(self, slot: Slot) -> FrontEnd | None:
        return self._front_ends.get(slot)

    def losers(self, slot: Slot) -> list[FrontEnd]:
        """The front ends that would have the slot if a better one had not."""
        return self._others.get(slot, [])

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changes of this family in."""
        for change in changes:
            if change.old is not NOTHING:
                self._release(change.old)
            self._claim(change.new)

    def _release(self, state: ServiceState) -> None:
        for front_end in state.front_ends:
            self._give_up(front_end)
        if state.cluster_ip is not None:
            _decrement(self.cluster_ips, state.cluster_ip)
        for hairpin in state.hairpins:
            _decrement(self.hairpins, hairpin)

    def _claim(self, state: ServiceState) -> None:
        for front_end in state.front_ends:
            slot = front_end.slot
            holder = self._front_ends.setdefault(slot, front_end)
            if holder is not front_end:
                better, worse = sorted((holder, front_end), key=lambda f: f.rank)
                self._front_ends[slot] = better
                self._others.setdefault(slot, []).append(worse)
        if state.cluster_ip is not None:
            self.cluster_ips[state.cluster_ip] = self.cluster_ips.get(state.cluster_ip, 0) + 1
        for hairpin in state.hairpins:
            self.hairpins[hairpin] = self.hairpins.get(hairpin, 0) + 1

    def _give_up(self, front_end: FrontEnd) -> None:
        slot = front_end.slot
        others = self._others.get(slot)
        if others is None:
            self._front_ends.pop(slot, None)
            return
        if self._front_ends[slot].rank == front_end.rank:
            self._front_ends[slot] = min(others, key=lambda f: f.rank)
            others.remove(self._front_ends[slot])
        else:
            others.remove(front_end)
        if not others:
            del self._others[slot]


def _decrement(counter: dict[K, int], key: K) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
