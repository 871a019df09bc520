"""Front ends as elements of the layout's maps, and the fewest element operations from one state to another."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from twinstack.dataplane.model import Action, FrontEnd, Hairpin, Slot, Target, Value, Via
from twinstack.ip import CIDR, Address
from twinstack.linux.nftables import Collection
from twinstack.proxy.classes import DROP, REJECT, Class, Kind, class_for, size_for

Range = tuple[bytes, bytes | None]  # [first, end); no end: up to the last address
Span = tuple[bytes, bytes]  # first and last

_PORT_KEY = 8  # bytes: protocol and port have four each, and begin them
_INDEX = struct.Struct("=I")
_FEW = tuple(map(_INDEX.pack, range(16)))

_KINDS = {Via.CLUSTER_IP: Kind.CLUSTER, Via.NODE_PORT: Kind.NODE_PORT}
_NO_SPANS: frozenset[Span] = frozenset()


class Laid(Value, frozen=True):
    """A front end as it is in the maps of a stage: its class, and by index its targets and their slots."""

    class_: Class
    targets: tuple[bytes, ...] = ()
    slots: tuple[bytes, ...] = ()  # with affinity only


class Arranged(Value, frozen=True):
    """A front end in all stages. The near one, and the source addresses that its guard lets in, are rare."""

    main: Laid
    near: Laid | None = None
    sources: frozenset[Span] = _NO_SPANS


def slot_key(slot: Slot) -> bytes:
    """The key of a front end: in `node-ports` when it has no address, else in `services`."""
    address, key = slot.address, slot.protocol << 56 | slot.port << 16
    if address is None:
        return key.to_bytes(_PORT_KEY, "big")
    return (address.value << 64 | key).to_bytes(address.family.octets + _PORT_KEY, "big")


def target_value(target: Target) -> bytes:
    family, value = target.address
    return (value << 32 | target.port << 16).to_bytes(family.octets + 4, "big")


def hairpin_key(hairpin: Hairpin) -> bytes:
    family, value = hairpin.target.address
    key = (value << family.bits | value) << 64 | hairpin.protocol << 56 | hairpin.target.port << 16
    return key.to_bytes(2 * family.octets + _PORT_KEY, "big")


def index_key(key: bytes, index: int) -> bytes:
    """The key of one target of a front end."""
    return key + (_FEW[index] if index < len(_FEW) else _INDEX.pack(index))


def read_index(key: bytes) -> tuple[bytes, int]:
    """A target's key → the front end's key, and the index. Slots are numbers like indexes."""
    return key[:-4], _INDEX.unpack(key[-4:])[0]


def slot_value(number: int) -> bytes:
    return _INDEX.pack(number)


def arrange(front_end: FrontEnd, before: Arranged | None, slots: Iterator[bytes]) -> Arranged:
    """How to lay a front end that is in the maps like `before` now. `slots` gives ones that were never used."""
    old = before.main if before is not None else None
    if front_end.action is Action.REJECT:
        main = Laid(REJECT)
    elif front_end.near is not None:
        kind = Kind.NODE_PORT_LOCAL if front_end.via is Via.NODE_PORT else Kind.EXTERNAL_LOCAL
        main = _lay(kind, front_end.targets, front_end.affinity, old, slots)
        near_kind = Kind.NEAR_PORT if kind.by_port else Kind.NEAR
        near = _lay(near_kind, front_end.near, front_end.affinity, before.near if before is not None else None, slots)
        return Arranged(main, near, _spans(front_end))
    elif front_end.action is Action.DROP:
        main = Laid(DROP)
    else:
        kind = _KINDS.get(front_end.via, Kind.EXTERNAL)
        main = _lay(kind, front_end.targets, front_end.affinity, old, slots)
    return Arranged(main, None, _spans(front_end) if front_end.sources is not None else _NO_SPANS)


def _lay(kind: Kind, wanted: tuple[Target, ...], affinity: int, old: Laid | None, slots: Iterator[bytes]) -> Laid:
    before = old.targets if old is not None else ()
    targets = place(before, [target_value(target) for target in wanted])
    if not affinity or not targets:
        return Laid(class_for(kind, len(targets)), targets)
    known = dict(zip(before, old.slots, strict=True)) if old is not None and old.slots else {}
    kept = tuple(known.get(target) or next(slots) for target in targets)
    return Laid(Class(kind, size_for(len(targets)), affinity), targets, kept)


def _spans(front_end: FrontEnd) -> frozenset[Span]:
    """Keys of `source-ranges`: the front end's, and each range of addresses that may come in."""
    if front_end.sources is None:
        return _NO_SPANS
    key = slot_key(front_end.slot)
    found = set()
    for first, end in merged_ranges(front_end.sources):
        octets = len(first)
        number = int.from_bytes(end, "big") - 1 if end is not None else (1 << 8 * octets) - 1
        found.add((key + first, key + number.to_bytes(octets, "big")))
    return frozenset(found)


def place(before: tuple[bytes, ...], wanted: list[bytes]) -> tuple[bytes, ...]:
    """Give every wanted target an index, moving as few as possible of those that have one.

    Newcomers take the places of those who leave; when more leave than come, the last ones fill the gaps.
    """
    if not before:
        return tuple(wanted)
    if len(wanted) == len(before) and tuple(wanted) == before:
        return before
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

    def set_spans(self, collection: Collection, old: frozenset[Span], new: frozenset[Span]) -> None:
        self._ranges += collection.delete_spans(sorted(old - new))
        self._ranges += collection.add_spans(sorted(new - old))
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
