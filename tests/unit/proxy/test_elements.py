"""Element operations applied to dictionaries end in the maps that are wanted, and are as few as can be."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.dataplane.claims import Claims
from twinstack.dataplane.model import (
    Action,
    FrontEnd,
    Protocol,
    ServicePortName,
    ServiceState,
    Slot,
    Surroundings,
    Target,
    Via,
)
from twinstack.dataplane.tracker import Change
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux.netlink import attributes
from twinstack.linux.nftables.objects import DELELEMENT, NEWELEMENT
from twinstack.proxy.elements import Edits, arrange, index_key, merged_ranges, place, slot_key, target_value
from twinstack.proxy.layout import DROP, MOST_TARGETS, REJECT, Kind, Layout, class_word, read_class_word
from twinstack.proxy.picture import Picture

V4, V6 = IPFamily
names = st.lists(st.sampled_from("abcdefghij").map(str.encode), unique=True, max_size=8)


@given(names, names)
def test_place_moves_as_few_as_possible(before: list[bytes], wanted: list[bytes]) -> None:
    after = place(tuple(before), wanted)
    assert sorted(after) == sorted(wanted)
    stay = set(before) & set(wanted)
    moved = [t for t in stay if before.index(t) != after.index(t)]
    beyond = [t for t in stay if before.index(t) >= len(wanted)]
    assert sorted(moved) == sorted(beyond)  # only those whose index is no longer there


def test_place_of_each_kind_of_change() -> None:
    assert place((), [b"a", b"b"]) == (b"a", b"b")
    assert place((b"a", b"b"), [b"a", b"b", b"c"]) == (b"a", b"b", b"c")
    assert place((b"a", b"b", b"c"), [b"b", b"c"]) == (b"c", b"b")
    assert place((b"a", b"b", b"c"), [b"a", b"x", b"c"]) == (b"a", b"x", b"c")
    assert place((b"a", b"b"), []) == ()


def front_end(slot: Slot, action: Action, *targets: Target) -> FrontEnd:
    via = Via.NODE_PORT if slot.address is None else Via.CLUSTER_IP
    return FrontEnd(slot, via, ServicePortName("ns", str(slot), "", slot.protocol), action, targets)


def test_class_words() -> None:
    slot = Slot(Address.parse("10.96.0.1"), 80, Protocol.TCP)
    target = Target(Address.parse("10.0.0.1"), 8080)
    assert arrange(front_end(slot, Action.REJECT), ()).word == REJECT
    assert arrange(front_end(slot, Action.DROP), ()).word == DROP
    assert read_class_word(arrange(front_end(slot, Action.FORWARD, target), ()).word) == (Kind.CLUSTER, 1)
    node_port = front_end(Slot(None, 30080, Protocol.TCP), Action.FORWARD, target)
    assert read_class_word(arrange(node_port, ()).word) == (Kind.NODE_PORT, 1)
    assert read_class_word(struct.pack("=I", 6)) is None
    assert read_class_word(class_word(Kind.CLUSTER, MOST_TARGETS)) == (Kind.CLUSTER, MOST_TARGETS)
    many = [Target(Address(V4, n), 80) for n in range(MOST_TARGETS + 5)]
    assert len(arrange(front_end(slot, Action.FORWARD, *many), ()).targets) == MOST_TARGETS


class Maps:
    """The kernel's maps as dictionaries: obeys messages, and is as strict."""

    def __init__(self) -> None:
        self.maps: dict[str, dict[bytes, bytes]] = {}
        self.operations = 0

    def obey(self, messages: list[bytes]) -> None:
        for message in messages:
            (kind,) = struct.unpack_from("=H", message, 4)
            if kind not in (NEWELEMENT, DELELEMENT):
                continue
            found = dict(attributes(message, 20))
            elements = self.maps.setdefault(found[2].rstrip(b"\0").decode(), {})
            for _, element in attributes(found[3]):
                parts = dict(attributes(element))
                key, value = parts[1][4:], parts.get(2, b"\0\0\0\0")[4:]
                self.operations += 1
                if kind == DELELEMENT:
                    del elements[key]
                else:
                    assert elements.get(key, value) == value
                    elements[key] = value


slots = st.builds(
    Slot,
    st.sampled_from([None, Address.parse("fd00::1"), Address.parse("fd00::2")]),
    st.sampled_from([80, 30080]),
    st.sampled_from(Protocol),
)
targets = st.lists(
    st.integers(1, 6).map(lambda n: Target(Address.parse(f"fd00:1::{n}"), 8080)), unique=True, max_size=5
)


@st.composite
def states(draw: st.DrawFn) -> list[FrontEnd]:
    found = []
    for slot in draw(st.lists(slots, unique=True, max_size=6)):
        behind = draw(targets)
        action = Action.FORWARD if behind else draw(st.sampled_from([Action.REJECT, Action.DROP]))
        found.append(front_end(slot, action, *sorted(behind)))
    return found


def check(maps: Maps, layout: Layout, claims: Claims) -> None:
    """The maps hold the claims: for every front end a word, and a target at each index below its count."""
    words, ends = dict[bytes, bytes](), dict[bytes, set[bytes]]()
    for name, ends_name in (("services", "endpoints"), ("node-ports", "node-port-endpoints")):
        words |= maps.maps.get(name, {})
        for key, value in maps.maps.get(ends_name, {}).items():
            ends.setdefault(key[:-4], set()).add(value)
    assert words.keys() == {slot_key(f.slot) for f in claims}
    for f in claims:
        key = slot_key(f.slot)
        known = read_class_word(words[key])
        assert known is not None
        assert ends.get(key, set()) == {target_value(t) for t in f.targets}
        assert known[1] == len(f.targets)
        behind = maps.maps.get("endpoints" if f.slot.address is not None else "node-port-endpoints", {})
        assert all(index_key(key, index) in behind for index in range(known[1]))
        assert words[key] in {REJECT, DROP, *maps.maps.get("classes", {})}


@given(st.lists(states(), min_size=1, max_size=5))
def test_edits_lead_from_any_state_to_any_other(history: list[list[FrontEnd]]) -> None:
    layout = Layout(V6)
    picture, claims, maps = Picture(layout), Claims(), Maps()
    laid: dict[Slot, ServiceState] = {}
    for state in history:
        wanted = {f.slot: ServiceState(None, (f,)) for f in state}
        changes = [
            Change(str(slot), V6, laid.get(slot, ServiceState()), wanted.get(slot, ServiceState()))
            for slot in laid.keys() | wanted.keys()
            if laid.get(slot) != wanted.get(slot)
        ]
        touched = claims.apply(changes)
        maps.operations = 0
        maps.obey(picture.follow(claims, touched))
        classes = len(maps.maps.get("classes", {}))
        assert maps.operations <= picture.operations + classes
        check(maps, layout, claims)
        assert picture.converge(claims, Surroundings(local_pods=frozenset())) == []
        laid = wanted


@pytest.mark.parametrize(
    ("before", "after", "operations"),
    [
        (range(2), range(3), 3),  # one more target; the word deleted and added
        (range(3), range(2), 3),  # the last one goes
        (range(3), range(1, 3), 5),  # the first one goes: the last takes its place
        (range(3), [0, 1, 9], 2),  # one replaced
        (range(3), range(3), 0),
        ([], range(2), 4),  # reject → two targets
        (range(2), [], 4),
    ],
)
def test_cost_of_a_change(before: list[int], after: list[int], operations: int) -> None:
    slot = Slot(Address.parse("fd00::1"), 80, Protocol.TCP)

    def state(numbers: list[int]) -> ServiceState:
        behind = [Target(Address.parse(f"fd00:1::{n}"), 80) for n in numbers]
        return ServiceState(None, (front_end(slot, Action.FORWARD if behind else Action.REJECT, *behind),))

    picture, claims = Picture(Layout(V6)), Claims()
    old, new = state(before), state(after)
    picture.follow(claims, claims.apply([Change("ns/a", V6, ServiceState(), old)]))
    picture.follow(claims, claims.apply([Change("ns/a", V6, old, new)]))
    assert picture.operations == operations


def test_blocks_are_merged_into_ranges() -> None:
    assert merged_ranges([]) == frozenset()
    blocks = [CIDR.parse(text) for text in ("10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25", "10.9.0.0/16")]
    assert merged_ranges(blocks) == {
        (bytes((10, 0, 0, 0)), bytes((10, 0, 2, 0))),
        (bytes((10, 9, 0, 0)), bytes((10, 10, 0, 0))),
    }
    assert merged_ranges([CIDR.parse("ff00::/8")]) == {(b"\xff" + bytes(15), None)}
    assert merged_ranges([CIDR.parse("0.0.0.0/0")]) == {(bytes(4), None)}


def test_a_value_is_replaced_by_deleting_first() -> None:
    layout, edits = Layout(V4), Edits()
    edits.replace(layout.node_ports, bytes(8), REJECT, DROP)
    edits.replace(layout.node_ports, b"\1" * 8, None, None)
    messages = edits.messages()
    assert [struct.unpack_from("=H", message, 4)[0] for message in messages] == [DELELEMENT, NEWELEMENT]
    assert edits.count == 2
