"""What one family's table holds, as far as we know, and the edits that bring it to what it should hold."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable

from twinstack.dataplane.claims import Claims, Touched
from twinstack.dataplane.model import FrontEnd, Surroundings
from twinstack.linux.netlink import NetlinkSocket
from twinstack.linux.nftables import Collection, dump
from twinstack.linux.nftables.expressions import goto_verdict
from twinstack.proxy.classes import GUARD, Class, Words, size_for
from twinstack.proxy.elements import (
    Arranged,
    Edits,
    Laid,
    Range,
    Span,
    arrange,
    hairpin_key,
    index_key,
    merged_ranges,
    read_index,
    slot_key,
    slot_value,
)
from twinstack.proxy.layout import Layout, Stage


class Picture:
    """The elements of the layout's maps. Methods return messages and take them for done.

    When a commit fails the picture is wrong: read it back from the kernel.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.front_ends: dict[bytes, Arranged] = {}
        self.words = Words()
        self.verdicts: dict[Collection, set[Class]] = {}  # the classes that each verdict map leads to
        for verdicts, classes in layout.fixed_classes.items():
            self.verdicts[verdicts] = set(classes)
        self.keys: dict[Collection, set[bytes]] = {
            layout.cluster_ips: set(),
            layout.node_ips: set(),
            layout.hairpins: set(),
        }
        self.ranges: dict[Collection, frozenset[Range]] = {
            layout.service_cidrs: frozenset(),
            layout.local_pods: frozenset(),
            layout.kept_sources: frozenset(),
        }
        self._slots = map(slot_value, itertools.count(1))
        self._unread: dict[Collection, dict[bytes, bytes]] = {}  # elements that no front end has taken yet
        self._strays: list[tuple[Collection, bytes]] = []  # elements that belong to no front end as a whole
        self._stray_spans: frozenset[Span] = frozenset()
        self.operations = 0  # element operations of the last messages

    @property
    def classes(self) -> set[Class]:
        """Those that have a chain."""
        return set[Class]().union(*self.verdicts.values())

    @classmethod
    def read(cls, socket: NetlinkSocket, layout: Layout) -> Picture:
        """Read the maps back. The table and its maps must be there. `front_ends` waits for `assemble` or `converge`."""
        picture = cls(layout)
        for verdicts in picture.verdicts:
            picture._read_classes(socket, verdicts)
        for collection in (layout.guarded, *(each for stage in layout.stages for each in stage[:4])):
            picture._unread[collection] = dump.elements(socket, collection)
        picture._stray_spans = frozenset(dump.spans(socket, layout.source_ranges))
        picture._read_slots(socket)
        for collection in picture.keys:
            picture.keys[collection] = set(dump.elements(socket, collection))
        for collection in picture.ranges:
            picture.ranges[collection] = frozenset(dump.ranges(socket, collection))
        return picture

    def _read_classes(self, socket: NetlinkSocket, verdicts: Collection) -> None:
        found = self.verdicts[verdicts] = set()
        for word, chain in dump.elements(socket, verdicts).items():
            class_ = Class.parse(chain.decode())
            if class_ is None:
                self._strays.append((verdicts, word))
                continue
            self.words.learn(word, class_)
            found.add(class_)

    def _read_slots(self, socket: NetlinkSocket) -> None:
        """Go on after the highest slot that a client may still hold."""
        highest = 0
        for stage in (self.layout.services, self.layout.node_ports):
            for value in dump.elements(socket, stage.clients).values():
                highest = max(highest, read_index(value)[1])
        for stage in self.layout.stages:
            for slot in self._unread[stage.picks].values():
                highest = max(highest, read_index(slot)[1])
        self._slots = map(slot_value, itertools.count(highest + 1))

    def assemble(self) -> None:
        """Make front ends of the elements that were read. What belongs to none as a whole is remembered as stray."""
        layout, main, near = self.layout, dict[bytes, Laid](), dict[bytes, Laid]()
        if not self._unread:
            return
        guarded = self._unread.pop(layout.guarded)
        for stage in (layout.services, layout.node_ports):
            main |= self._assemble_stage(stage, guarded)
        for stage in (layout.near, layout.near_ports):
            near |= self._assemble_stage(stage, {})
        self._strays += [(layout.guarded, key) for key in guarded]
        self._join(main, near)

    def _assemble_stage(self, stage: Stage, guarded: dict[bytes, bytes]) -> dict[bytes, Laid]:
        words, endpoints, picks, slots = (self._unread.pop(each) for each in stage[:4])
        found: dict[bytes, Laid] = {}
        for key, word in words.items():
            class_ = self.words.read(word)
            if class_ == GUARD:
                class_ = self.words.read(guarded.get(key, b""))
            laid = _take_whole(key, class_, endpoints, picks, slots) if class_ is not None else None
            if laid is None:
                self._strays.append((stage.words, key))
                continue
            found[key] = laid
            guarded.pop(key, None)
        for collection, left in ((stage.endpoints, endpoints), (stage.picks, picks), (stage.slots, slots)):
            self._strays += [(collection, key) for key in left]
        return found

    def _join(self, main: dict[bytes, Laid], near: dict[bytes, Laid]) -> None:
        """Front ends of their stages and of their source ranges."""
        octets = self.layout.services.words.key_octets
        sources = defaultdict[bytes, set[Span]](set)
        for first, last in self._stray_spans:
            sources[first[:octets]].add((first, last))
        for key, laid in main.items():
            self.front_ends[key] = Arranged(laid, near.pop(key, None), frozenset(sources.pop(key, ())))
        for key, laid in near.items():  # their front end is not whole
            stage = self.layout.stage_of(laid.class_.kind)
            self._strays.append((stage.words, key))
            self._strays += [(stage.endpoints, index_key(key, index)) for index in range(len(laid.targets))]
            self._strays += [(stage.picks, index_key(key, index)) for index in range(len(laid.slots))]
            self._strays += [(stage.slots, key + slot) for slot in laid.slots]
        self._stray_spans = frozenset(span for found in sources.values() for span in found)

    def follow(self, claims: Claims, touched: Touched) -> list[bytes]:
        """Lay what has changed, and nothing else."""
        edits, created = Edits(), list[bytes]()
        for slot in touched.slots:
            self._lay(slot_key(slot), claims.get(slot), edits, created)
        layout = self.layout
        for address in touched.cluster_ips:
            self._set_key(layout.cluster_ips, address.packed, address in claims.cluster_ips, edits)
        for hairpin in touched.hairpins:
            self._set_key(layout.hairpins, hairpin_key(hairpin), hairpin in claims.hairpins, edits)
        return self._finish(edits, created)

    def surround(self, surroundings: Surroundings) -> list[bytes]:
        """Lay what has changed about the node and the cluster."""
        edits = Edits()
        self._surround(surroundings, edits)
        return self._finish(edits, [])

    def converge(self, claims: Claims, surroundings: Surroundings) -> list[bytes]:
        """Compare everything, and lay the difference."""
        edits, created = Edits(), list[bytes]()
        wanted = self._recognise(claims)
        right = set(self.front_ends) if self._unread else set[bytes]()
        self.assemble()
        for collection, key in self._strays:
            edits.delete(collection, key)
        edits.set_spans(self.layout.source_ranges, self._stray_spans, frozenset())
        self._strays, self._stray_spans = [], frozenset()
        for key in self.front_ends.keys() - wanted.keys() - right:
            self._lay(key, None, edits, created)
        for key, front_end in wanted.items():
            self._lay(key, front_end, edits, created)
        octets = self.layout.family.octets
        addresses = {value.to_bytes(octets, "big") for _, value in claims.cluster_ips}
        self._set_keys(self.layout.cluster_ips, addresses, edits)
        self._set_keys(self.layout.hairpins, {hairpin_key(hairpin) for hairpin in claims.hairpins}, edits)
        self._surround(surroundings, edits)
        return self._finish(edits, created)

    def _recognise(self, claims: Claims) -> dict[bytes, FrontEnd]:
        """Take the elements of front ends that are laid as they should be; returns the other front ends.

        At a restart that is nearly all of them, and comparing bytes costs a fraction of assembling and laying.
        Those with parts beside `words` and `endpoints` are few, and left to that.
        """
        stages = [
            (self._unread.get(stage.words, {}), self._unread.get(stage.endpoints, {}))
            for stage in self.layout.stages[:2]
        ]
        wanted: dict[bytes, FrontEnd] = {}
        for front_end in claims:
            key = slot_key(front_end.slot)
            words, endpoints = stages[front_end.slot.address is None]
            arranged = self._take_right(key, front_end, words, endpoints) if words else None
            if arranged is None:
                wanted[key] = front_end
            else:
                self.front_ends[key] = arranged
        return wanted

    def _take_right(
        self, key: bytes, front_end: FrontEnd, words: dict[bytes, bytes], endpoints: dict[bytes, bytes]
    ) -> Arranged | None:
        if front_end.affinity or front_end.near is not None or front_end.sources is not None:
            return None
        arranged = arrange(front_end, None, self._slots)
        laid, word = arranged.main, words.get(key)
        if word is None or word != self.words.known(laid.class_):
            return None
        keys = [index_key(key, index) for index in range(len(laid.targets))]
        found = tuple([endpoints.get(each, b"") for each in keys])
        if found != laid.targets:
            if set(found) != set(laid.targets):
                return None
            arranged = Arranged(Laid(laid.class_, found))  # in another order
        del words[key]
        for each in keys:
            del endpoints[each]
        return arranged

    def _finish(self, edits: Edits, created: list[bytes]) -> list[bytes]:
        self.operations = edits.count
        return created + edits.messages()

    def _lay(self, key: bytes, front_end: FrontEnd | None, edits: Edits, created: list[bytes]) -> None:
        layout = self.layout
        old = self.front_ends.get(key)
        if front_end is None:
            new = None
            self.front_ends.pop(key, None)
        else:
            new = self.front_ends[key] = arrange(front_end, old, self._slots)
            if new == old:
                return
        by_port = len(key) == layout.node_ports.words.key_octets
        stage, near = (layout.node_ports, layout.near_ports) if by_port else (layout.services, layout.near)
        main_before, main = old.main if old is not None else None, new.main if new is not None else None
        self._lay_targets(key, stage, main_before, main, edits)
        was, was_guarded = self._words(old, created)
        becomes, becomes_guarded = self._words(new, created)
        edits.replace(stage.words, key, was, becomes)
        edits.replace(layout.guarded, key, was_guarded, becomes_guarded)
        before, after = old.near if old is not None else None, new.near if new is not None else None
        if before is not None or after is not None:
            self._lay_targets(key, near, before, after, edits)
            word = self._word(before, layout.near_classes, created), self._word(after, layout.near_classes, created)
            edits.replace(near.words, key, *word)
        before_ranges = old.sources if old is not None else frozenset()
        ranges = new.sources if new is not None else frozenset()
        if ranges != before_ranges:
            edits.set_spans(layout.source_ranges, before_ranges, ranges)

    def _words(self, arranged: Arranged | None, created: list[bytes]) -> tuple[bytes | None, bytes | None]:
        """What `services` or `node-ports` has of a front end, and what `guarded-services`."""
        layout = self.layout
        if arranged is None:
            return None, None
        if arranged.sources:
            return self.words.of(GUARD), self._word(arranged.main, layout.guarded_classes, created)
        return self._word(arranged.main, layout.classes, created), None

    def _word(self, laid: Laid | None, verdicts: Collection, created: list[bytes]) -> bytes | None:
        """The word of a class, which is made when it is not there yet."""
        if laid is None:
            return None
        class_ = laid.class_
        word = self.words.of(class_)
        if class_ not in self.verdicts[verdicts]:
            if all(class_ not in classes for classes in self.verdicts.values()):
                created += self.layout.create_chain(class_)
            created += verdicts.add_verdicts([(word, goto_verdict(class_.chain))])
            self.verdicts[verdicts].add(class_)
        return word

    def _lay_targets(self, key: bytes, stage: Stage, old: Laid | None, new: Laid | None, edits: Edits) -> None:
        before, after = old.targets if old is not None else (), new.targets if new is not None else ()
        _replace_by_index(stage.endpoints, key, before, after, edits)
        slots, kept = old.slots if old is not None else (), new.slots if new is not None else ()
        if not slots and not kept:
            return
        _replace_by_index(stage.picks, key, slots, kept, edits)
        was, becomes = dict(zip(slots, before, strict=False)), dict(zip(kept, after, strict=False))
        for slot in was.keys() | becomes.keys():
            edits.replace(stage.slots, key + slot, was.get(slot), becomes.get(slot))

    def _surround(self, surroundings: Surroundings, edits: Edits) -> None:
        layout = self.layout
        self._set_keys(layout.node_ips, {address.packed for address in surroundings.node_ips}, edits)
        everything = frozenset[Range]([(bytes(layout.family.octets), None)])
        pods = merged_ranges(surroundings.local_pods or ())
        self._set_ranges(layout.service_cidrs, merged_ranges(surroundings.service_cidrs), edits)
        self._set_ranges(layout.local_pods, pods, edits)
        self._set_ranges(layout.kept_sources, everything if surroundings.local_pods is None else pods, edits)

    def _set_ranges(self, collection: Collection, wanted: frozenset[Range], edits: Edits) -> None:
        edits.set_ranges(collection, self.ranges[collection], wanted)
        self.ranges[collection] = wanted

    def _set_keys(self, collection: Collection, wanted: Iterable[bytes], edits: Edits) -> None:
        wanted = set(wanted)
        for key in self.keys[collection] - wanted:
            edits.delete(collection, key)
        for key in wanted - self.keys[collection]:
            edits.add(collection, key)
        self.keys[collection] = wanted

    def _set_key(self, collection: Collection, key: bytes, wanted: bool, edits: Edits) -> None:
        keys = self.keys[collection]
        if wanted and key not in keys:
            edits.add(collection, key)
            keys.add(key)
        elif not wanted and key in keys:
            edits.delete(collection, key)
            keys.discard(key)


def _take_whole(
    key: bytes, class_: Class, endpoints: dict[bytes, bytes], picks: dict[bytes, bytes], slots: dict[bytes, bytes]
) -> Laid | None:
    """A front end whose elements are all there; they are taken away then, so that strays are left."""
    targets = _by_index(key, class_.size, endpoints)
    if size_for(len(targets)) != class_.size:
        return None
    found = _by_index(key, len(targets), picks) if class_.affinity else ()
    if class_.affinity and tuple(slots.get(key + slot) for slot in found) != targets:
        return None
    for index in range(len(targets)):
        del endpoints[index_key(key, index)]
    for index, slot in enumerate(found):
        del picks[index_key(key, index)], slots[key + slot]
    return Laid(class_, targets, found)


def _by_index(key: bytes, most: int, elements: dict[bytes, bytes]) -> tuple[bytes, ...]:
    """The values of a front end's elements, from the first on without a gap."""
    values = []
    for index in range(most):
        value = elements.get(index_key(key, index))
        if value is None:
            break
        values.append(value)
    return tuple(values)


def _replace_by_index(
    collection: Collection, key: bytes, before: tuple[bytes, ...], after: tuple[bytes, ...], edits: Edits
) -> None:
    if before == after:
        return
    for index in range(max(len(before), len(after))):
        was = before[index] if index < len(before) else None
        becomes = after[index] if index < len(after) else None
        edits.replace(collection, index_key(key, index), was, becomes)
