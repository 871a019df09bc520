"""What one family's table holds, as far as we know, and the edits that bring it to what it should hold."""

from __future__ import annotations

from collections.abc import Iterable

from twinstack.dataplane.claims import Claims, Touched
from twinstack.dataplane.model import FrontEnd, Surroundings
from twinstack.linux.netlink import NetlinkSocket
from twinstack.linux.nftables import Collection, dump
from twinstack.proxy.elements import (
    Edits,
    Laid,
    Range,
    arrange,
    hairpin_key,
    index_key,
    merged_ranges,
    read_index,
    slot_key,
)
from twinstack.proxy.layout import DROP, REJECT, Layout, read_class_word


class Picture:
    """The elements of the layout's maps. Methods return messages and take them for done.

    When a commit fails the picture is wrong: read it back from the kernel.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.front_ends: dict[bytes, Laid] = {}
        self.classes: set[bytes] = {REJECT, DROP}
        self.keys: dict[Collection, set[bytes]] = {
            layout.cluster_ips: set(),
            layout.node_ips: set(),
            layout.hairpins: set(),
        }
        self.ranges: dict[Collection, frozenset[Range]] = {
            layout.service_cidrs: frozenset(),
            layout.local_pods: frozenset(),
        }
        self._strays: list[tuple[Collection, bytes]] = []  # elements that belong to no front end as a whole
        self.operations = 0  # element operations of the last messages

    @classmethod
    def read(cls, socket: NetlinkSocket, layout: Layout) -> Picture:
        """Read the maps back. The table and its maps must be there."""
        picture = cls(layout)
        picture.classes = set(dump.elements(socket, layout.classes))
        picture._read_front_ends(socket, layout.services, layout.endpoints)
        picture._read_front_ends(socket, layout.node_ports, layout.node_port_endpoints)
        for collection in picture.keys:
            picture.keys[collection] = set(dump.elements(socket, collection))
        for collection in picture.ranges:
            picture.ranges[collection] = frozenset(dump.ranges(socket, collection))
        return picture

    def _read_front_ends(self, socket: NetlinkSocket, words: Collection, endpoints: Collection) -> None:
        targets: dict[bytes, dict[int, bytes]] = {}
        for element, value in dump.elements(socket, endpoints).items():
            key, index = read_index(element)
            targets.setdefault(key, {})[index] = value
        for key, word in dump.elements(socket, words).items():
            known = read_class_word(word)
            found = targets.get(key, {})
            if known is not None and found.keys() == set(range(known[1])):
                self.front_ends[key] = Laid(word, tuple(found[index] for index in range(known[1])))
                targets.pop(key, None)
            else:
                self._strays.append((words, key))
        for key, found in targets.items():
            self._strays += [(endpoints, index_key(key, index)) for index in found]

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
        for collection, key in self._strays:
            edits.delete(collection, key)
        self._strays = []
        wanted = {slot_key(front_end.slot): front_end for front_end in claims}
        for key in self.front_ends.keys() - wanted.keys():
            self._lay(key, None, edits, created)
        for key, front_end in wanted.items():
            self._lay(key, front_end, edits, created)
        self._set_keys(self.layout.cluster_ips, {address.packed for address in claims.cluster_ips}, edits)
        self._set_keys(self.layout.hairpins, {hairpin_key(hairpin) for hairpin in claims.hairpins}, edits)
        self._surround(surroundings, edits)
        return self._finish(edits, created)

    def _finish(self, edits: Edits, created: list[bytes]) -> list[bytes]:
        self.operations = edits.count
        return created + edits.messages()

    def _lay(self, key: bytes, front_end: FrontEnd | None, edits: Edits, created: list[bytes]) -> None:
        layout = self.layout
        by_port = len(key) == layout.node_ports.key_octets
        words = layout.node_ports if by_port else layout.services
        endpoints = layout.node_port_endpoints if by_port else layout.endpoints
        old = self.front_ends.get(key)
        before = old.targets if old is not None else ()
        if front_end is None:
            new = None
            self.front_ends.pop(key, None)
        else:
            new = self.front_ends[key] = arrange(front_end, before)
            self._need_class(new.word, created)
        after = new.targets if new is not None else ()
        if after != before:
            for index in range(max(len(before), len(after))):
                was = before[index] if index < len(before) else None
                becomes = after[index] if index < len(after) else None
                edits.replace(endpoints, index_key(key, index), was, becomes)
        edits.replace(words, key, old.word if old is not None else None, new.word if new is not None else None)

    def _need_class(self, word: bytes, created: list[bytes]) -> None:
        if word not in self.classes:
            known = read_class_word(word)
            if known is not None:
                created += self.layout.create_class(*known)
                self.classes.add(word)

    def _surround(self, surroundings: Surroundings, edits: Edits) -> None:
        layout = self.layout
        self._set_keys(layout.node_ips, {address.packed for address in surroundings.node_ips}, edits)
        everything = frozenset[Range]([(bytes(layout.family.octets), None)])
        pods = surroundings.local_pods
        self._set_ranges(layout.service_cidrs, merged_ranges(surroundings.service_cidrs), edits)
        self._set_ranges(layout.local_pods, everything if pods is None else merged_ranges(pods), edits)

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
