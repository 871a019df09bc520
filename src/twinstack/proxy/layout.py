"""The tables, chains, rules and maps that all Services of a node share, for one family.

Data lives in maps of bytes and rules are constant: no Service has a chain of its own, so a change costs the
same whether there are ten Services or ten thousand. A new flow's address, protocol and port give a class
word in `services` (or its port alone, at a node's address, in `node-ports`); the word names a chain, and that
chain picks a random index in `endpoints`. The word travels in the packet's priority, because `nft` cannot list
a rule that looks up the result of a look-up, and because an element whose verdict is a goto makes the kernel
check the whole table at every commit.

A flow that a Local policy does not bind goes on from its class to the near stage, one to a front end with source
ranges begins at the guard. Each has class words in maps of its own and a verdict map of its own, so that the
kernel sees no circle.

Everything happens in the nat hooks, which only the first packet of a flow visits.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from twinstack.dataplane.model import Protocol
from twinstack.ip import IPFamily
from twinstack.linux.nftables import ChainType, Collection, DataType, Hook, Priority, Table, TableFlag
from twinstack.linux.nftables import expressions as ex
from twinstack.proxy.classes import DROP, GUARD, MOST_EXACT, REJECT, Class, Kind, plain_word

TABLE_NAME = "twinstack-proxy"
LAYOUT = 2  # raise it with every change of chains, rules or maps: tables of other layouts are laid anew

DEFAULT_MARK_BIT = 14
MOST_CLIENTS = 65_535  # a family and stage: clients beyond are spread anew with each connection

_DNAT = 1 << 5  # IPS_DST_NAT
_ATTEMPTS = 20  # to draw an index that has an endpoint: each fails at most every second time
_INTERFACE_NAME = 16  # bytes, padded with zeros


class PodInterface(NamedTuple):
    """What tells local pods from others by the interface they come in through."""

    name: str
    is_prefix: bool = False

    def __str__(self) -> str:
        return self.name + ("*" if self.is_prefix else "")


class Stage(NamedTuple):
    """Maps that hold front ends of one sort."""

    words: Collection  # front end → class
    endpoints: Collection  # front end, index → endpoint
    picks: Collection  # with affinity: front end, index → slot
    slots: Collection  # front end, slot → endpoint
    clients: Collection  # front end, client → slot; written by rules
    by_port: bool


class Layout:
    """One family's table. Methods make messages; sending is the writer's."""

    def __init__(
        self,
        family: IPFamily,
        *,
        mark_bit: int = DEFAULT_MARK_BIT,
        masquerade_all: bool = False,
        pod_interface: PodInterface | None = None,
    ) -> None:
        self.family = family
        self.table = Table(family, TABLE_NAME)
        self._mark = 1 << mark_bit
        self._masquerade_all = masquerade_all
        self._pod_interface = pod_interface
        address = DataType.address(family)
        port = (DataType.PROTOCOL, DataType.PORT)
        clients = self._clients("clients", (address, *port))
        port_clients = self._clients("node-port-clients", port)
        self.services = self._stage("services", "", (address, *port), clients)
        self.node_ports = self._stage("node-ports", "node-port-", port, port_clients)
        self.near = self._stage("near-services", "near-", (address, *port), clients)
        self.near_ports = self._stage("near-node-ports", "near-node-port-", port, port_clients)
        self.guarded = Collection(self.table, "guarded-services", (address, *port), [DataType.CLASS])
        self.classes = self._verdicts("classes")
        self.guarded_classes = self._verdicts("guarded-classes")
        self.near_classes = self._verdicts("near-classes")
        self.source_ranges = Collection(self.table, "source-ranges", (address, *port, address), interval=True)
        self.cluster_ips = Collection(self.table, "cluster-ips", [address])
        self.node_ips = Collection(self.table, "node-ips", [address])
        self.hairpins = Collection(self.table, "hairpins", (address, address, *port))
        self.service_cidrs = Collection(self.table, "service-cidrs", [address], interval=True)
        self.local_pods = Collection(self.table, "local-pods", [address], interval=True)
        self.kept_sources = Collection(self.table, "kept-sources", [address], interval=True)
        self._words = family.octets // 4  # registers that an address takes

    def _stage(self, words: str, prefix: str, key: tuple[DataType, ...], clients: Collection) -> Stage:
        address = DataType.address(self.family)
        endpoint = (address, DataType.PORT)
        return Stage(
            Collection(self.table, words, key, [DataType.CLASS]),
            Collection(self.table, f"{prefix}endpoints", (*key, DataType.MARK), endpoint),
            Collection(self.table, f"{prefix}picks", (*key, DataType.MARK), [DataType.CLASS]),
            Collection(self.table, f"{prefix}slots", (*key, DataType.CLASS), endpoint),
            clients,
            by_port=DataType.PROTOCOL is key[0],
        )

    def _clients(self, name: str, key: tuple[DataType, ...]) -> Collection:
        parts = (*key, DataType.address(self.family))
        return Collection(self.table, name, parts, [DataType.CLASS], dynamic=MOST_CLIENTS)

    def _verdicts(self, name: str) -> Collection:
        return Collection(self.table, name, [DataType.CLASS], [DataType.VERDICT])

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.services, self.node_ports, self.near, self.near_ports

    @property
    def verdict_maps(self) -> tuple[Collection, ...]:
        return self.classes, self.guarded_classes, self.near_classes

    @property
    def collections(self) -> tuple[Collection, ...]:
        stages = [collection for stage in self.stages for collection in stage[:4]]
        return (
            *stages,
            self.services.clients,
            self.node_ports.clients,
            self.guarded,
            *self.verdict_maps,
            self.source_ranges,
            self.cluster_ips,
            self.node_ips,
            self.hairpins,
            self.service_cidrs,
            self.local_pods,
            self.kept_sources,
        )

    @property
    def version(self) -> str:
        """The table's comment: what the rules in it were made for."""
        masquerade = "all" if self._masquerade_all else "not local pods"
        pods = f", pods on {self._pod_interface}" if self._pod_interface is not None else ""
        return f"Twinstack service proxy, layout {LAYOUT}, mark {self._mark:#x}, masquerade {masquerade}{pods}"

    def stage_of(self, kind: Kind) -> Stage:
        """Where a class of this kind finds its endpoints."""
        if kind.near:
            return self.near_ports if kind.by_port else self.near
        return self.node_ports if kind.by_port else self.services

    def create(self, flags: TableFlag) -> Iterator[bytes]:
        """The empty table with its fixed classes; others come on first use."""
        yield self.table.create(flags, self.version)
        for number, collection in enumerate(self.collections, 1):
            yield collection.create(number)
        yield self.table.base_chain("nat-prerouting", ChainType.NAT, Hook.PREROUTING, Priority.DESTINATION_NAT)
        yield self.table.base_chain("nat-output", ChainType.NAT, Hook.OUTPUT, Priority.DESTINATION_NAT)
        yield self.table.base_chain("nat-postrouting", ChainType.NAT, Hook.POSTROUTING, Priority.SOURCE_NAT)
        base = self._base_rules()
        for chain in base:
            if not chain.startswith("nat-"):
                yield self.table.chain(chain)
        for class_ in (REJECT, DROP, GUARD):
            yield from self.create_chain(class_)
        for verdicts, classes in self.fixed_classes.items():
            yield from verdicts.add_verdicts((plain_word(c) or b"", ex.goto_verdict(c.chain)) for c in classes)
        for chain, rules in base.items():
            for rule in rules:
                yield self.table.rule(chain, *rule)

    @property
    def fixed_classes(self) -> dict[Collection, tuple[Class, ...]]:
        """The classes that every table has, by verdict map."""
        return {self.classes: (REJECT, DROP, GUARD), self.guarded_classes: (REJECT, DROP), self.near_classes: ()}

    def create_chain(self, class_: Class) -> Iterator[bytes]:
        yield self.table.chain(class_.chain)
        for rule in self._class_rules(class_):
            yield self.table.rule(class_.chain, *rule)

    def rule_counts(self, classes: Iterable[Class]) -> Counter[str]:
        """How many rules each chain must have when these classes exist."""
        counts = Counter({chain: len(rules) for chain, rules in self._base_rules().items()})
        counts.update({class_.chain: len(self._class_rules(class_)) for class_ in classes})
        return counts

    def _base_rules(self) -> dict[str, list[list[bytes]]]:
        key = ex.FIRST_REGISTER
        dispatch = [ex.jump("dispatch")]
        destination = ex.destination_address(self.family, key)
        return {
            "nat-prerouting": [dispatch],
            "nat-output": [dispatch],
            "nat-postrouting": [self._masquerade_marked(), self._masquerade_hairpins()],
            "dispatch": [
                [*self._key(self.services), *self._read_word(self.services.words)],
                self._follow(self.classes),
                [
                    destination,
                    ex.member(self.node_ips.name, key),
                    *self._key(self.node_ports),
                    *self._read_word(self.node_ports.words),
                ],
                self._follow(self.classes),
                [destination, ex.member(self.cluster_ips.name, key), ex.goto(REJECT.chain)],
                [destination, ex.member(self.service_cidrs.name, key), ex.drop()],
            ],
            "to-near": self._to_near(self.near),
            "to-near-port": self._to_near(self.near_ports),
        }

    def _to_near(self, stage: Stage) -> list[list[bytes]]:
        read = [*self._key(stage), *self._read_word(stage.words)]
        return [read, self._follow(self.near_classes), [ex.drop()]]

    def _class_rules(self, class_: Class) -> list[list[bytes]]:
        kind = class_.kind
        if kind is Kind.DROP:
            return [[ex.drop()]]
        if kind is Kind.REJECT:
            # A reset reaches the client at once; an ICMPv6 error counts only after it has sent again, a second later.
            reset = [ex.protocol_is(Protocol.TCP), ex.reject_with_reset()]
            return [reset, [ex.reject_port_unreachable(self.family)]]
        if kind is Kind.GUARD:
            return self._guard()
        return [*self._prepare(kind), *self._choose(self.stage_of(kind), class_)]

    def _guard(self) -> list[list[bytes]]:
        key = ex.FIRST_REGISTER
        source = ex.source_address(self.family, key + self._words + 2)
        flow = [*self._key(self.services), source, ex.member(self.source_ranges.name, key, negate=True), ex.drop()]
        return [flow, [*self._key(self.services), *self._read_word(self.guarded)], self._follow(self.guarded_classes)]

    def _prepare(self, kind: Kind) -> list[list[bytes]]:
        """What comes before the choice: the mark for masquerading, and the way out to the near endpoints."""
        if kind.near:
            return []
        if kind.is_local:
            near = ex.goto("to-near-port" if kind.by_port else "to-near")
            return [[*self._from_local_pod(), near], [ex.source_is_local(), *self._set_mark(), near]]
        if kind is Kind.CLUSTER and not self._masquerade_all:
            return [self._mark_foreign()]
        return [self._set_mark()]

    def _choose(self, stage: Stage, class_: Class) -> list[list[bytes]]:
        """Send the flow to an endpoint; from the second rule on, for those whose first look-up missed."""
        size = class_.size
        if not size:
            return [[ex.drop()]]
        attempts = _ATTEMPTS if size > MOST_EXACT else 1
        rules = self._stick(stage, class_, attempts) if class_.affinity else []
        rules.append([*self._reset_priority(), *self._pick(stage, size)])
        rules += [self._pick(stage, size)] * (attempts - 1)
        if size > 1:
            # Between two look-ups of one packet a commit may take the last index away: the first is always there.
            rules.append(self._pick(stage, 1))
        return rules

    def _stick(self, stage: Stage, class_: Class, attempts: int) -> list[list[bytes]]:
        """To the endpoint this client had last, or else to one that it keeps from now on.

        A client's element holds a slot, which stands for an endpoint and is never used for another one: an
        endpoint that goes takes its slot along, and its clients choose again. In IPv6 `use` needs all registers.
        """
        key = ex.FIRST_REGISTER
        part = key + (2 if stage.by_port else self._words + 2)
        value = part + self._words
        out = value + 1
        client = [*self._key(stage), ex.source_address(self.family, part)]
        slot = ex.load_meta(ex.Meta.PRIORITY, value)
        find = [*self._key(stage), ex.load_meta(ex.Meta.PRIORITY, part), ex.look_up(stage.slots.name, key, out)]
        keep = [ex.source_address(self.family, part), slot, ex.update(stage.clients.name, key, value, class_.affinity)]
        use = [*find, *keep, *self._reset_priority(), ex.destination_nat(self.family, out, out + self._words)]
        draw = [*self._key(stage), ex.random_number(part, class_.size), *self._read_word(stage.picks)]
        return [
            [*client, *self._read_word(stage.clients)],
            use,
            [*client, slot, ex.delete(stage.clients.name, key, value)],
            *[draw] * attempts,
            use,
        ]

    def _key(self, stage: Stage) -> list[bytes]:
        """Load what names a front end."""
        key = ex.FIRST_REGISTER
        if stage.by_port:
            return self._port_key(key)
        return [ex.destination_address(self.family, key), *self._port_key(key + self._words)]

    def _port_key(self, register: int) -> list[bytes]:
        return [ex.load_meta(ex.Meta.PROTOCOL, register), ex.destination_port(register + 1)]

    def _read_word(self, collection: Collection) -> list[bytes]:
        key = ex.FIRST_REGISTER
        return [ex.look_up(collection.name, key, key), ex.store_meta(ex.Meta.PRIORITY, key)]

    def _follow(self, verdicts: Collection) -> list[bytes]:
        key = ex.FIRST_REGISTER
        return [ex.load_meta(ex.Meta.PRIORITY, key), ex.follow(verdicts.name, key)]

    def _pick(self, stage: Stage, size: int) -> list[bytes]:
        key = ex.FIRST_REGISTER
        index = key + (2 if stage.by_port else self._words + 2)
        choose = [ex.random_number(index, size), ex.look_up(stage.endpoints.name, key, key)]
        return [*self._key(stage), *choose, ex.destination_nat(self.family, key, key + self._words)]

    def _reset_priority(self) -> list[bytes]:
        key = ex.FIRST_REGISTER
        return [ex.load_constant(key, bytes(4)), ex.store_meta(ex.Meta.PRIORITY, key)]

    def _from_local_pod(self) -> list[bytes]:
        if self._pod_interface is not None:
            return self._through(self._pod_interface, ex.Compare.EQUAL)
        return [ex.source_address(self.family, ex.FIRST_REGISTER), ex.member(self.local_pods.name, ex.FIRST_REGISTER)]

    def _mark_foreign(self) -> list[bytes]:
        key = ex.FIRST_REGISTER
        if self._pod_interface is not None:
            return [*self._through(self._pod_interface, ex.Compare.NOT_EQUAL), *self._set_mark()]
        source = ex.source_address(self.family, key)
        return [source, ex.member(self.kept_sources.name, key, negate=True), *self._set_mark()]

    def _through(self, interface: PodInterface, operator: ex.Compare) -> list[bytes]:
        name = interface.name.encode()
        shown = name if interface.is_prefix else name.ljust(_INTERFACE_NAME, b"\0")
        key = ex.FIRST_REGISTER
        return [ex.load_meta(ex.Meta.INPUT_INTERFACE, key), ex.compare(key, operator, shown)]

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
