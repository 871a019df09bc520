"""Front ends as elements of the layout's maps, and the fewest element operations from one state to another."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from twinstack.dataplane.model import Action, FrontEnd, Hairpin, Slot, Target, Via
from twinstack.ip import CIDR, Address
from twinstack.linux.nftables import Collection
from twinstack.proxy.layout import DROP, MOST_TARGETS, REJECT, Kind, class_word

Range = tuple[bytes, bytes | None]  # [first, end); no end: up to the last address

_PORT_KEY = struct.Struct(">B3xH2x")  # protocol, port: one register each
_INDEX = struct.Struct("=I")

_KINDS = {Via.CLUSTER_IP: Kind.CLUSTER, Via.NODE_PORT: Kind.NODE_PORT}


class Laid(NamedTuple):
    """A front end as it is in the maps: its class word, and its targets by index."""

    word: bytes
    targets: tuple[bytes, ...] = ()


def slot_key(slot: Slot) -> bytes:
    """The key of a front end: in `node-ports` when it has no address, else in `services`."""
    key = _PORT_KEY.pack(slot.protocol, slot.port)
    return key if slot.address is None else slot.address.packed + key


def target_value(target: Target) -> bytes:
    return target.address.packed + struct.pack(">H2x", target.port)


def hairpin_key(hairpin: Hairpin) -> bytes:
    address = hairpin.target.address.packed
    return address + address + _PORT_KEY.pack(hairpin.protocol, hairpin.target.port)


def index_key(key: bytes, index: int) -> bytes:
    """The key of one target of a front end."""
    return key + _INDEX.pack(index)


def read_index(key: bytes) -> tuple[bytes, int]:
    """A target's key → the front end's key, and the index."""
    return key[:-4], _INDEX.unpack(key[-4:])[0]


def arrange(front_end: FrontEnd, before: tuple[bytes, ...]) -> Laid:
    """How to lay a front end that has these targets in the maps now.

    More targets than a class word counts are left out; whoever wants to know compares the lengths.
    """
    if front_end.action is Action.REJECT:
        return Laid(REJECT)
    if front_end.action is Action.DROP:
        return Laid(DROP)
    targets = place(before, [target_value(target) for target in front_end.targets[:MOST_TARGETS]])
    return Laid(class_word(_KINDS[front_end.via], len(targets)), targets)


def place(before: tuple[bytes, ...], wanted: list[bytes]) -> tuple[bytes, ...]:
    """Give every wanted target an index, moving as few as possible of those that have one.

    Newcomers take the places of those who leave; when more leave than come, the last ones fill the gaps.
    """
    known = set(before)
    leaving = known.difference(wanted)
    joining = [target for target in wanted if target not in known]
    if not leaving and not joining:
        return before
    positions: list[bytes | None] = [None if target in leaving else target for target in before]
    newcomers = iter(joining)
    for index, target in enumerate(positions):
        if target is None:
            positions[index] = next(newcomers, None)
    positions.extend(newcomers)
    return tuple(_close_gaps(positions))


def _close_gaps(positions: list[bytes | None]) -> list[bytes]:
    index = 0
    while index < len(positions):
        while positions and positions[-1] is None:
            positions.pop()
        if index < len(positions) and positions[index] is None:
            positions[index] = positions.pop()
        index += 1
    return [target for target in positions if target is not None]


class Edits:
    """Operations on elements, collected for one transaction."""

    def __init__(self) -> None:
        self._deletes: dict[Collection, list[bytes]] = {}
        self._adds: dict[Collection, list[tuple[bytes, bytes]]] = {}
        self._ranges: list[bytes] = []
        self.count = 0  # element operations

    def delete(self, collection: Collection, key: bytes) -> None:
        self._deletes.setdefault(collection, []).append(key)
        self.count += 1

    def add(self, collection: Collection, key: bytes, value: bytes = b"") -> None:
        self._adds.setdefault(collection, []).append((key, value))
        self.count += 1

    def replace(self, collection: Collection, key: bytes, old: bytes | None, new: bytes | None) -> None:
        """The kernel refuses to change a value: out with the old, in with the new, in one transaction."""
        if old == new:
            return
        if old is not None:
            self.delete(collection, key)
        if new is not None:
            self.add(collection, key, new)

    def set_ranges(self, collection: Collection, old: frozenset[Range], new: frozenset[Range]) -> None:
        self._ranges += collection.delete_ranges(sorted(old - new))
        self._ranges += collection.add_ranges(sorted(new - old))
        self.count += len(old ^ new)

    def messages(self) -> list[bytes]:
        """Deletions come first, so that a key may be deleted and added."""
        found = [message for collection, keys in self._deletes.items() for message in collection.delete(keys)]
        for collection, elements in self._adds.items():
            found += collection.add(elements)
        return found + self._ranges


def merged_ranges(blocks: Iterable[CIDR]) -> frozenset[Range]:
    """The addresses of the blocks as ranges that neither overlap nor touch."""
    spans: list[list[int]] = []
    family = None
    for block in sorted(blocks, key=lambda b: b.network):
        family = block.family
        end = block.network + block.size
        if spans and block.network <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([block.network, end])
    if family is None:
        return frozenset()
    limit = 1 << family.bits
    return frozenset(
        (Address(family, first).packed, None if end == limit else Address(family, end).packed) for first, end in spans
    )
