"""The tables, chains, rules and maps that all Services of a node share, for one family.

Data lives in maps of bytes and rules are constant: no Service has a chain of its own, so a change costs the
same whether there are ten Services or ten thousand. A new flow's address, protocol and port give a class
word in `services` (or its port alone, at a node's address, in `node-ports`); the word names a chain by kind
and number of endpoints, and that chain picks a random index below this number in `endpoints`. The word
travels in the packet's priority, because `nft` cannot list a rule that looks up the result of a look-up,
and because an element whose verdict is a goto makes the kernel check the whole table at every commit.

Everything happens in the nat hooks, which only the first packet of a flow visits.
"""

from __future__ import annotations

import enum
import struct
from collections import Counter
from collections.abc import Iterator
from functools import cache

from twinstack.dataplane.model import Protocol
from twinstack.ip import IPFamily
from twinstack.linux.nftables import ChainType, Collection, DataType, Hook, Priority, Table, TableFlag
from twinstack.linux.nftables import expressions as ex

TABLE_NAME = "twinstack-proxy"
LAYOUT = 1  # raise it with every change of chains, rules or maps: tables of other layouts are laid anew

MOST_TARGETS = 0xFFF  # endpoints of a front end that a class word can count
DEFAULT_MARK_BIT = 14

_MAGIC = 0x7A << 24  # far from any priority that applications and queueing disciplines use
_DNAT = 1 << 5  # IPS_DST_NAT


class Kind(enum.IntEnum):
    """What a class chain does before it picks an endpoint."""

    CLUSTER = 0  # masquerade sources that are not local pods
    NODE_PORT = 2  # masquerade every source
    DROP = 14
    REJECT = 15

    def chain(self, count: int) -> str:
        """The chain's name, none of them a word of nft's own language."""
        name = {Kind.CLUSTER: "cluster", Kind.NODE_PORT: "node-port", Kind.DROP: "discard", Kind.REJECT: "refuse"}[self]
        return f"{name}-{count}" if count else name


@cache
def class_word(kind: Kind, count: int = 0) -> bytes:
    """Magic, kind, count; the lowest four bits stay 0, which priority bands read as best effort."""
    return struct.pack("=I", _MAGIC | kind << 16 | count << 4)


def read_class_word(word: bytes) -> tuple[Kind, int] | None:
    """Kind and count, or None for a word this layout does not know."""
    (number,) = struct.unpack("=I", word)
    if number & 0xFF00000F != _MAGIC:
        return None
    try:
        return Kind(number >> 16 & 0xFF), number >> 4 & 0xFFF
    except ValueError:
        return None


REJECT, DROP = class_word(Kind.REJECT), class_word(Kind.DROP)


class Layout:
    """One family's table. Methods make messages; sending is the writer's."""

    def __init__(self, family: IPFamily, *, mark_bit: int = DEFAULT_MARK_BIT, masquerade_all: bool = False) -> None:
        self.family = family
        self.table = Table(family, TABLE_NAME)
        self._mark = 1 << mark_bit
        self._masquerade_all = masquerade_all
        address = DataType.address(family)
        port = (DataType.PROTOCOL, DataType.PORT)
        self.services = Collection(self.table, "services", (address, *port), [DataType.CLASS])
        self.endpoints = Collection(self.table, "endpoints", (address, *port, DataType.MARK), (address, DataType.PORT))
        self.node_ports = Collection(self.table, "node-ports", port, [DataType.CLASS])
        self.node_port_endpoints = Collection(
            self.table, "node-port-endpoints", (*port, DataType.MARK), (address, DataType.PORT)
        )
        self.classes = Collection(self.table, "classes", [DataType.CLASS], [DataType.VERDICT])
        self.cluster_ips = Collection(self.table, "cluster-ips", [address])
        self.node_ips = Collection(self.table, "node-ips", [address])
        self.hairpins = Collection(self.table, "hairpins", (address, address, *port))
        self.service_cidrs = Collection(self.table, "service-cidrs", [address], interval=True)
        self.local_pods = Collection(self.table, "local-pods", [address], interval=True)
        self._words = family.octets // 4  # registers that an address takes

    @property
    def collections(self) -> tuple[Collection, ...]:
        return (
            self.services,
            self.endpoints,
            self.node_ports,
            self.node_port_endpoints,
            self.classes,
            self.cluster_ips,
            self.node_ips,
            self.hairpins,
            self.service_cidrs,
            self.local_pods,
        )

    @property
    def version(self) -> str:
        """The table's comment: what the rules in it were made for."""
        masquerade = "all" if self._masquerade_all else "not local pods"
        return f"Twinstack service proxy, layout {LAYOUT}, mark {self._mark:#x}, masquerade {masquerade}"

    def create(self, flags: TableFlag) -> Iterator[bytes]:
        """The empty table: reject and drop are its only classes, others come on first use."""
        yield self.table.create(flags, self.version)
        for number, collection in enumerate(self.collections, 1):
            yield collection.create(number)
        yield self.table.base_chain("nat-prerouting", ChainType.NAT, Hook.PREROUTING, Priority.DESTINATION_NAT)
        yield self.table.base_chain("nat-output", ChainType.NAT, Hook.OUTPUT, Priority.DESTINATION_NAT)
        yield self.table.base_chain("nat-postrouting", ChainType.NAT, Hook.POSTROUTING, Priority.SOURCE_NAT)
        yield self.table.chain("dispatch")
        yield from self.create_class(Kind.REJECT)
        yield from self.create_class(Kind.DROP)
        for chain, rules in self._base_rules().items():
            for rule in rules:
                yield self.table.rule(chain, *rule)

    def create_class(self, kind: Kind, count: int = 0) -> Iterator[bytes]:
        """The chain of a class and the element that leads to it."""
        chain = kind.chain(count)
        yield self.table.chain(chain)
        for rule in self._class_rules(kind, count):
            yield self.table.rule(chain, *rule)
        yield from self.classes.add_verdicts([(class_word(kind, count), ex.goto_verdict(chain))])

    def rule_counts(self, words: set[bytes]) -> Counter[str]:
        """How many rules each chain must have when these classes exist."""
        counts = Counter({chain: len(rules) for chain, rules in self._base_rules().items()})
        for word in words:
            known = read_class_word(word)
            if known is not None:
                counts[known[0].chain(known[1])] = len(self._class_rules(*known))
        return counts

    def _base_rules(self) -> dict[str, list[list[bytes]]]:
        key = ex.FIRST_REGISTER
        dispatch = [ex.jump("dispatch")]
        destination = ex.destination_address(self.family, key)
        follow_class = [ex.load_meta(ex.Meta.PRIORITY, key), ex.follow(self.classes.name, key)]
        return {
            "nat-prerouting": [dispatch],
            "nat-output": [dispatch],
            "nat-postrouting": [self._masquerade_marked(), self._masquerade_hairpins()],
            "dispatch": [
                [*self._service_key(), *self._read_class(self.services)],
                follow_class,
                [
                    destination,
                    ex.member(self.node_ips.name, key),
                    *self._port_key(key),
                    *self._read_class(self.node_ports),
                ],
                follow_class,
                [destination, ex.member(self.cluster_ips.name, key), ex.goto(Kind.REJECT.chain(0))],
                [destination, ex.member(self.service_cidrs.name, key), ex.drop()],
            ],
        }

    def _class_rules(self, kind: Kind, count: int) -> list[list[bytes]]:
        if kind is Kind.DROP:
            return [[ex.drop()]]
        if kind is Kind.REJECT:
            # A reset reaches the client at once; an ICMPv6 error counts only after it has sent again, a second later.
            reset = [ex.protocol_is(Protocol.TCP), ex.reject_with_reset()]
            return [reset, [ex.reject_port_unreachable(self.family)]]
        by_port = kind is Kind.NODE_PORT
        always = by_port or self._masquerade_all
        rules = [] if always else [self._mark_foreign()]
        rules.append([*(self._set_mark() if always else ()), *self._reset_priority(), *self._pick(by_port, count)])
        if count > 1:
            # Between two look-ups of one packet a commit may take the last index away: the first is always there.
            rules.append(self._pick(by_port, 1))
        return rules

    def _service_key(self) -> list[bytes]:
        key = ex.FIRST_REGISTER
        return [ex.destination_address(self.family, key), *self._port_key(key + self._words)]

    def _port_key(self, register: int) -> list[bytes]:
        return [ex.load_meta(ex.Meta.PROTOCOL, register), ex.destination_port(register + 1)]

    def _read_class(self, collection: Collection) -> list[bytes]:
        key = ex.FIRST_REGISTER
        return [ex.look_up(collection.name, key, key), ex.store_meta(ex.Meta.PRIORITY, key)]

    def _pick(self, by_port: bool, count: int) -> list[bytes]:
        key = ex.FIRST_REGISTER
        collection = self.node_port_endpoints if by_port else self.endpoints
        load = self._port_key(key) if by_port else self._service_key()
        index = key + (2 if by_port else self._words + 2)
        choose = [ex.random_number(index, count), ex.look_up(collection.name, key, key)]
        return [*load, *choose, ex.destination_nat(self.family, key, key + self._words)]

    def _reset_priority(self) -> list[bytes]:
        key = ex.FIRST_REGISTER
        return [ex.load_constant(key, bytes(4)), ex.store_meta(ex.Meta.PRIORITY, key)]

    def _mark_foreign(self) -> list[bytes]:
        source = ex.source_address(self.family, ex.FIRST_REGISTER)
        return [source, ex.member(self.local_pods.name, ex.FIRST_REGISTER, negate=True), *self._set_mark()]

    def _set_mark(self) -> list[bytes]:
        key = ex.FIRST_REGISTER
        kept, bit = struct.pack("=I", ~self._mark & 0xFFFFFFFF), struct.pack("=I", self._mark)
        return [ex.load_meta(ex.Meta.MARK, key), ex.mask(key, kept, bit), ex.store_meta(ex.Meta.MARK, key)]

    def _masquerade_marked(self) -> list[bytes]:
        key = ex.FIRST_REGISTER
        bit = struct.pack("=I", self._mark)
        load = ex.load_meta(ex.Meta.MARK, key)
        marked = [load, ex.mask(key, bit, bytes(4)), ex.compare(key, ex.Compare.NOT_EQUAL, bytes(4))]
        cleared = [load, ex.mask(key, b"\xff" * 4, bit), ex.store_meta(ex.Meta.MARK, key)]
        return [*marked, *cleared, ex.masquerade()]

    def _masquerade_hairpins(self) -> list[bytes]:
        key, words = ex.FIRST_REGISTER, self._words
        load = ex.load_conntrack_status(key)
        redirected = [
            load,
            ex.mask(key, struct.pack("=I", _DNAT), bytes(4)),
            ex.compare(key, ex.Compare.NOT_EQUAL, bytes(4)),
        ]
        ends = [ex.source_address(self.family, key), ex.destination_address(self.family, key + words)]
        flow = [*ends, *self._port_key(key + 2 * words), ex.member(self.hairpins.name, key)]
        return [*redirected, *flow, ex.masquerade()]
