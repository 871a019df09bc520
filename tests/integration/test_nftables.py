"""Every nf_tables construct that Twinstack lays, in the real kernel, listed by the real nft."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twinstack.ip import CIDR, IPFamily
from twinstack.linux import namespaces
from twinstack.linux.nftables import (
    AlreadyExists,
    ChainType,
    Collection,
    DataType,
    Hook,
    Missing,
    Nftables,
    Owned,
    Priority,
    StaleGeneration,
    Table,
    TableFlag,
    dump,
)
from twinstack.linux.nftables import expressions as ex

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FAMILIES = [IPFamily.IPV4, IPFamily.IPV6]
BLOCKS = {IPFamily.IPV4: CIDR.parse("10.244.1.0/24"), IPFamily.IPV6: CIDR.parse("fd00:10:244:1::/64")}


class Space:
    """A throw-away network namespace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, work: Callable[[], None]) -> None:
        namespaces.inside(self.path, work)

    def nft(self, *arguments: str) -> str:
        command = ["nsenter", f"--net={self.path}", "nft", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def listed(self) -> str:
        json.loads(self.nft("-j", "list", "ruleset"))
        return self.nft("list", "ruleset")


@pytest.fixture
def space() -> Iterator[Space]:
    path = namespaces.RUN_DIRECTORY / f"tt-G-{os.getpid()}-nft"
    namespaces.create(path, lambda: None)
    try:
        yield Space(path)
    finally:
        namespaces.remove(path)


def connected(work: Callable[[Nftables], None]) -> Callable[[], None]:
    def run() -> None:
        connection = Nftables()
        try:
            work(connection)
        finally:
            connection.close()

    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_rules_are_listed_as_they_were_meant(space: Space, family: IPFamily) -> None:
    table = Table(family, "mine")
    inside = BLOCKS[family]
    key = ex.FIRST_REGISTER
    rule = table.rule
    bit, keep = struct.pack("=I", 0x4000), struct.pack("=I", 0xFFFFBFFF)
    rules = [
        rule("post", ex.source_in(inside), ex.destination_in(inside, negate=True), ex.masquerade()),
        rule("post", ex.source_in(CIDR(family, inside.network, family.bits)), ex.counter()),
        rule("post", ex.load_conntrack_status(key), ex.mask(key, struct.pack("=I", 32), bytes(4)), ex.drop()),
        rule("pre", ex.jump("refuse")),
        rule("refuse", ex.protocol_is(6), ex.reject_with_reset()),
        rule("refuse", ex.load_meta(ex.Meta.MARK, key), ex.mask(key, keep, bit), ex.store_meta(ex.Meta.MARK, key)),
        rule("refuse", ex.load_constant(key, bytes(4)), ex.store_meta(ex.Meta.PRIORITY, key)),
        rule("refuse", ex.reject_port_unreachable(family)),
    ]

    def lay(connection: Nftables) -> None:
        base = [
            table.create(comment="made by a test"),
            table.base_chain("pre", ChainType.NAT, Hook.PREROUTING, Priority.DESTINATION_NAT),
            table.base_chain("post", ChainType.NAT, Hook.POSTROUTING, Priority.SOURCE_NAT),
            table.chain("refuse"),
        ]
        connection.commit(base + rules)
        assert dump.chains(connection.socket, table) == {"pre", "post", "refuse"}
        assert dump.rule_counts(connection.socket, table) == {"pre": 1, "post": 3, "refuse": 4}
        assert [t.comment for t in dump.tables(connection.socket, family)] == ["made by a test"]

    space.run(connected(lay))
    listed = space.listed()
    print(listed)
    name = "ip" if family is IPFamily.IPV4 else "ip6"
    assert f"{name} saddr {inside} {name} daddr != {inside} masquerade fully-random" in listed
    assert "reject with tcp reset" in listed
    assert "meta mark set meta mark | 0x00004000" in listed


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_choose_the_destination(space: Space, family: IPFamily) -> None:
    """A class by address, protocol and port; then an endpoint by the same and a random index."""
    table = Table(family, "mine")
    address = DataType.address(family)
    front = (address, DataType.PROTOCOL, DataType.PORT)
    classes = Collection(table, "front", front, [DataType.CLASS])
    endpoints = Collection(table, "ends", (*front, DataType.MARK), (address, DataType.PORT))
    chains = Collection(table, "chains", [DataType.CLASS], [DataType.VERDICT])
    blocks = Collection(table, "blocks", [address], interval=True)
    words = family.octets // 4
    key, index = ex.FIRST_REGISTER, ex.FIRST_REGISTER + words + 2
    load_key = (
        ex.destination_address(family, key),
        ex.load_meta(ex.Meta.PROTOCOL, key + words),
        ex.destination_port(key + words + 1),
    )
    first = BLOCKS[family].address(1).packed
    front_key = first + struct.pack("=B3x", 6) + struct.pack(">H2x", 80)
    word = struct.pack("=I", 0x7A000030)
    block = BLOCKS[family]

    def lay(connection: Nftables) -> None:
        connection.commit(
            [
                table.create(),
                *(c.create(n) for n, c in enumerate((classes, endpoints, chains, blocks))),
                table.base_chain("pre", ChainType.NAT, Hook.PREROUTING, Priority.DESTINATION_NAT),
                table.chain("c3"),
                table.rule("pre", *load_key, ex.look_up("front", key, key), ex.store_meta(ex.Meta.PRIORITY, key)),
                table.rule("pre", ex.load_meta(ex.Meta.PRIORITY, key), ex.follow("chains", key)),
                table.rule("pre", ex.destination_address(family, key), ex.member("blocks", key), ex.drop()),
                table.rule("pre", ex.source_address(family, key), ex.member("blocks", key, negate=True), ex.drop()),
                table.rule(
                    "c3",
                    *load_key,
                    ex.random_number(index, 3),
                    ex.look_up("ends", key, key),
                    ex.destination_nat(family, key, key + words),
                ),
                *classes.add([(front_key, word)]),
                *endpoints.add(
                    (front_key + struct.pack("=I", i), first + struct.pack(">H2x", 8080 + i)) for i in range(3)
                ),
                *chains.add_verdicts([(word, ex.goto_verdict("c3"))]),
                *blocks.add_ranges([(block.first.packed, (block.last + 1).packed), (bytes(family.octets), None)][:1]),
            ]
        )
        assert dump.elements(connection.socket, classes) == {front_key: word}
        assert dump.elements(connection.socket, chains) == {word: b"c3"}
        assert len(dump.elements(connection.socket, endpoints)) == 3
        assert dump.ranges(connection.socket, blocks) == {(block.first.packed, (block.last + 1).packed)}

    space.run(connected(lay))
    listed = space.listed()
    print(listed)
    assert f"{BLOCKS[family].address(1)} . tcp . 80" in listed
    assert "goto c3" in listed
    assert str(block) in listed


@pytest.mark.parametrize("family", FAMILIES)
def test_interval_sets_reach_both_ends(space: Space, family: IPFamily) -> None:
    table = Table(family, "mine")
    blocks = Collection(table, "blocks", [DataType.address(family)], interval=True)
    whole: list[tuple[bytes, bytes | None]] = [(bytes(family.octets), None)]
    halves: list[tuple[bytes, bytes | None]] = [
        (bytes(family.octets), b"\x10" + bytes(family.octets - 1)),
        (b"\x10" + bytes(family.octets - 1), b"\x20" + bytes(family.octets - 1)),
        (b"\x80" + bytes(family.octets - 1), None),
    ]

    def lay(connection: Nftables) -> None:
        connection.commit([table.create(), blocks.create(1), *blocks.add_ranges(whole)])
        assert dump.ranges(connection.socket, blocks) == set(whole)
        space.listed()
        connection.commit([*blocks.delete_ranges(whole), *blocks.add_ranges(halves)])
        assert dump.ranges(connection.socket, blocks) == set(halves)

    space.run(connected(lay))
    space.listed()


def test_errors_are_typed_and_refuse_everything(space: Space) -> None:
    table = Table(IPFamily.IPV4, "mine")
    numbers = Collection(table, "numbers", [DataType.MARK], [DataType.MARK])
    one, two = struct.pack("=I", 1), struct.pack("=I", 2)

    def break_rules(connection: Nftables) -> None:
        connection.commit([table.create(), numbers.create(1), *numbers.add([(one, one)])])
        now = connection.generation()
        with pytest.raises(AlreadyExists) as exists:
            connection.commit([*numbers.add([(two, two)]), *numbers.add([(one, two)])])
        assert exists.value.index == 1
        with pytest.raises(Missing):
            connection.commit([*numbers.add([(two, two)]), *numbers.delete([struct.pack("=I", 9)])])
        with pytest.raises(StaleGeneration):
            connection.commit([*numbers.add([(two, two)])], now - 1)
        assert connection.generation() == now
        connection.commit([*numbers.delete([one]), *numbers.add([(one, two)])], now)  # how a value is replaced
        assert dump.elements(connection.socket, numbers) == {one: two}
        connection.commit([*numbers.add([(one, two)])])  # the same again is fine
        assert dump.table(connection.socket, Table(IPFamily.IPV4, "other")) is None

    space.run(connected(break_rules))


def test_long_lists_are_cut_into_messages(space: Space) -> None:
    table = Table(IPFamily.IPV6, "mine")
    numbers = Collection(table, "numbers", [DataType.IPV6_ADDRESS, DataType.MARK], [DataType.MARK])
    wanted = {i.to_bytes(20, "big"): struct.pack("=I", i) for i in range(5000)}

    def lay(connection: Nftables) -> None:
        messages = list(numbers.add(wanted.items()))
        assert len(messages) > 1
        assert max(map(len, messages)) < 1 << 16
        connection.commit([table.create(), numbers.create(1), *messages])
        assert dump.elements(connection.socket, numbers) == wanted
        connection.commit([*numbers.delete(wanted)])
        assert dump.elements(connection.socket, numbers) == {}

    space.run(connected(lay))


def test_an_owned_table_survives_foreign_hands_and_its_owner(space: Space) -> None:
    table = Table(IPFamily.IPV4, "mine")
    owned = TableFlag.OWNER | TableFlag.PERSIST

    def own(connection: Nftables) -> None:
        connection.commit([table.create(owned), table.chain("kept")])
        space.nft("flush", "ruleset")
        assert dump.chains(connection.socket, table) == {"kept"}
        other = Nftables()
        try:
            with pytest.raises(Owned):
                other.commit([table.delete()])
        finally:
            other.close()

    def adopt(connection: Nftables) -> None:
        before = dump.table(connection.socket, table)
        assert before is not None
        assert before.owner == 0
        connection.commit([table.create(owned)])
        after = dump.table(connection.socket, table)
        assert after is not None
        assert after.owner != 0
        assert after.handle == before.handle
        connection.commit([table.delete()])

    space.run(connected(own))
    assert "kept" in space.listed()
    space.run(connected(adopt))
    assert space.listed() == ""
