"""Element operations applied to dictionaries end in the maps that are wanted, and are as few as can be."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.dataplane.claims import Claims, Touched
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
from twinstack.proxy.classes import (
    DROP,
    GUARD,
    MOST_EXACT,
    REJECT,
    Class,
    Kind,
    Words,
    numbered_word,
    plain_word,
    size_for,
)
from twinstack.proxy.elements import (
    Edits,
    Laid,
    arrange,
    index_key,
    merged_ranges,
    place,
    slot_key,
    slot_value,
    target_value,
)
from twinstack.proxy.layout import Layout
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


SLOTS = map(slot_value, itertools.count(1))


def class_of(front_end: FrontEnd) -> Class:
    return arrange(front_end, None, SLOTS).main.class_


def test_classes_of_front_ends() -> None:
    slot = Slot(Address.parse("10.96.0.1"), 80, Protocol.TCP)
    target = Target(Address.parse("10.0.0.1"), 8080)
    assert class_of(front_end(slot, Action.REJECT)) == REJECT
    assert class_of(front_end(slot, Action.DROP)) == DROP
    assert class_of(front_end(slot, Action.FORWARD, target)) == Class(Kind.CLUSTER, 1)
    node_port = front_end(Slot(None, 30080, Protocol.TCP), Action.FORWARD, target)
    assert class_of(node_port) == Class(Kind.NODE_PORT, 1)
    assert class_of(msgspec.structs.replace(node_port, affinity=60)) == Class(Kind.NODE_PORT, 1, 60)
    outside = msgspec.structs.replace(front_end(slot, Action.FORWARD, target), via=Via.EXTERNAL_IP)
    assert class_of(outside) == Class(Kind.EXTERNAL, 1)
    local = arrange(msgspec.structs.replace(outside, action=Action.DROP, targets=(), near=(target,)), None, SLOTS)
    assert local.main == Laid(Class(Kind.EXTERNAL_LOCAL, 0))
    assert local.near == Laid(Class(Kind.NEAR, 1), (target_value(target),))
    many = [Target(Address(V4, n), 80) for n in range(MOST_EXACT + 5)]
    laid = arrange(front_end(slot, Action.FORWARD, *many), None, SLOTS).main
    assert (len(laid.targets), laid.class_.size) == (MOST_EXACT + 5, 8192)


@given(st.sampled_from(Kind), st.integers(0, 1 << 20), st.integers(0, 86400))
def test_the_name_of_a_chain_tells_its_class(kind: Kind, size: int, affinity: int) -> None:
    class_ = Class(kind, size, affinity)
    assert Class.parse(class_.chain) == class_


def test_words_are_unlike_each_other() -> None:
    words = Words()
    classes = [Class(kind, size, affinity) for kind in Kind for size in (1, 2, 8192) for affinity in (0, 60)]
    assert len({words.of(class_) for class_ in classes}) == len(classes)
    assert all(words.read(words.of(class_)) == class_ for class_ in classes)
    again = Words()
    again.learn(numbered_word(1), Class(Kind.CLUSTER, 2, 60))
    assert again.of(Class(Kind.CLUSTER, 3, 60)) != numbered_word(1)
    assert Class.parse("dispatch") is None


def test_sizes() -> None:
    assert [size_for(n) for n in (0, 1, MOST_EXACT, MOST_EXACT + 1, 4097, 5000)] == [0, 1, 4095, 4096, 8192, 8192]


def test_a_target_keeps_its_slot_and_a_new_one_gets_a_new_one() -> None:
    slot = Slot(Address.parse("10.96.0.1"), 80, Protocol.TCP)
    a, b, c = (Target(Address(V4, n), 80) for n in (1, 2, 3))
    slots = map(slot_value, itertools.count(1))
    first = arrange(msgspec.structs.replace(front_end(slot, Action.FORWARD, a, b), affinity=60), None, slots)
    second = arrange(msgspec.structs.replace(front_end(slot, Action.FORWARD, b, c), affinity=60), first, slots)
    third = arrange(msgspec.structs.replace(front_end(slot, Action.FORWARD, a, b), affinity=60), second, slots)
    assert dict(zip(second.main.targets, second.main.slots, strict=True))[target_value(b)] == first.main.slots[1]
    assert set(third.main.slots) - set(second.main.slots) == {slot_value(4)}


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


places = st.builds(
    Slot,
    st.sampled_from([None, Address.parse("fd00::1"), Address.parse("fd00::2")]),
    st.sampled_from([80, 30080]),
    st.sampled_from(Protocol),
)
targets = st.lists(
    st.integers(1, 6).map(lambda n: Target(Address.parse(f"fd00:1::{n}"), 8080)), unique=True, max_size=5
).map(lambda found: tuple(sorted(found)))
ranges = st.sampled_from([None, (CIDR.parse("fd00:5::/64"),), (CIDR.parse("fd00:5::/63"), CIDR.parse("fd00:9::1/128"))])


@st.composite
def states(draw: st.DrawFn) -> list[FrontEnd]:
    found = []
    for slot in draw(st.lists(places, unique=True, max_size=6)):
        behind = draw(targets)
        action = Action.FORWARD if behind else draw(st.sampled_from([Action.REJECT, Action.DROP]))
        one = msgspec.structs.replace(front_end(slot, action, *behind), affinity=draw(st.sampled_from([0, 60])))
        if action is not Action.REJECT and draw(st.booleans()):
            one = msgspec.structs.replace(one, near=draw(targets.filter(bool)))
        if slot.address is not None:
            one = msgspec.structs.replace(one, sources=draw(ranges))
        found.append(one)
    return found


def _follow(picture: Picture, claims: Claims, change: Change) -> None:
    claims.apply([change])
    picture.follow(claims, Touched.by([change]))


def check(maps: Maps, layout: Layout, claims: Claims) -> None:
    """The maps hold the claims and nothing else: words, targets by index, slots, and what the near stage has."""
    held = {name: dict(elements) for name, elements in maps.maps.items()}
    classes = {word: name for name in ("classes", "guarded-classes", "near-classes") for word in held.get(name, {})}
    for f in claims:
        key, by_port = slot_key(f.slot), f.slot.address is None
        stages = [(layout.node_ports, f.targets) if by_port else (layout.services, f.targets)]
        if f.near is not None:
            stages.append((layout.near_ports if by_port else layout.near, f.near))
        for stage, behind in stages:
            word = held[stage.words.name].pop(key)
            assert word in classes
            if f.sources is not None and stage is layout.services:
                assert word == plain_word(GUARD)
                assert held["guarded-services"].pop(key) in held["guarded-classes"]
            values = {held[stage.endpoints.name].pop(index_key(key, n)) for n in range(len(behind))}
            assert values == {target_value(t) for t in behind}
            if f.affinity:
                for n in range(len(behind)):
                    slot = held[stage.picks.name].pop(index_key(key, n))
                    values.remove(held[stage.slots.name].pop(key + slot))
                assert not values
    maps_of_verdicts = {collection.name for collection in layout.verdict_maps}
    others = {name for name in held if name not in maps_of_verdicts} - {"kept-sources", "source-ranges"}
    assert not any(held[name] for name in others)
    assert sum(len(merged_ranges(f.sources or ())) for f in claims) == len(held.get("source-ranges", {}))


@given(st.lists(states(), min_size=1, max_size=5))
def test_edits_lead_from_any_state_to_any_other(history: list[list[FrontEnd]]) -> None:
    layout = Layout(V6)
    picture, claims, maps = Picture(layout), Claims(), Maps()
    for verdicts, fixed in layout.fixed_classes.items():
        maps.maps[verdicts.name] = {plain_word(class_) or b"": b"" for class_ in fixed}
    laid: dict[Slot, ServiceState] = {}
    for state in history:
        wanted = {f.slot: ServiceState(None, (f,)) for f in state}
        changes = [
            Change(str(slot), V6, laid.get(slot, ServiceState()), wanted.get(slot, ServiceState()))
            for slot in laid.keys() | wanted.keys()
            if laid.get(slot) != wanted.get(slot)
        ]
        claims.apply(changes)
        maps.operations = 0
        maps.obey(picture.follow(claims, Touched.by(changes)))
        classes = sum(len(maps.maps[verdicts.name]) for verdicts in layout.verdict_maps)
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
    _follow(picture, claims, Change("ns/a", V6, ServiceState(), old))
    _follow(picture, claims, Change("ns/a", V6, old, new))
    assert picture.operations == operations


@pytest.mark.parametrize(
    ("spec", "operations"),
    [
        ({"affinity": 60}, 5),  # target, pick, slot; the word deleted and added
        ({"sources": (CIDR.parse("fd00:5::/64"),)}, 3),  # the word in the guarded map
        ({"near": (Target(Address.parse("fd00:1::1"), 80),)}, 3),  # the near stage stays
        ({"via": Via.EXTERNAL_IP}, 3),
    ],
)
@pytest.mark.parametrize("size", [2, 4000])
def test_one_more_endpoint_costs_the_same_among_few_and_many(spec: dict[str, Any], operations: int, size: int) -> None:
    slot = Slot(Address.parse("fd00::1"), 80, Protocol.TCP)
    behind = [Target(Address(V6, n), 80) for n in range(1, size + 2)]
    old, new = (
        ServiceState(None, (msgspec.structs.replace(front_end(slot, Action.FORWARD, *targets), **spec),))
        for targets in (behind[:-1], behind)
    )
    picture, claims = Picture(Layout(V6)), Claims()
    _follow(picture, claims, Change("ns/a", V6, ServiceState(), old))
    _follow(picture, claims, Change("ns/a", V6, old, new))
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
    edits.replace(layout.node_ports.words, bytes(8), b"1234", b"5678")
    edits.replace(layout.node_ports.words, b"\1" * 8, None, None)
    messages = edits.messages()
    assert [struct.unpack_from("=H", message, 4)[0] for message in messages] == [DELELEMENT, NEWELEMENT]
    assert edits.count == 2
