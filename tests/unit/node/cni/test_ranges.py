"""Range sets: what is given, in which order, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.ip.allocator import Span, without
from twinstack.node.cni.ranges import Range, RangeSet, parse_sets

V4 = Address.parse


def given_by(ranges: RangeSet, taken: set[Address] | None = None) -> list[str]:
    """All addresses, in the order in which they are given."""
    held = {address.value for address in taken or set()}
    found: list[str] = []
    last: Address | None = None
    while (chosen := ranges.choose(held.__contains__, last)) is not None:
        held.add(chosen.value)
        last = chosen
        found.append(str(chosen))
    return found


def test_neither_network_nor_gateway_nor_broadcast() -> None:
    assert given_by(RangeSet.parse([{"subnet": "10.1.0.0/29"}])) == [f"10.1.0.{n}" for n in range(2, 7)]
    assert given_by(RangeSet.parse([{"subnet": "fd00::/125"}])) == [f"fd00::{n}" for n in range(2, 8)]
    moved = RangeSet.parse([{"subnet": "10.1.0.0/29", "gateway": "10.1.0.6"}])
    assert given_by(moved) == [f"10.1.0.{n}" for n in range(1, 6)]


def test_all_of_a_small_subnet() -> None:
    for subnet, expected in (
        ("10.1.0.0/30", ["10.1.0.2"]),
        ("fd00::/126", ["fd00::2", "fd00::3"]),
        ("10.1.0.0/31", []),
    ):
        assert given_by(RangeSet.whole(CIDR.parse(subnet))) == expected


def test_several_ranges_and_exclusions() -> None:
    ranges = RangeSet.parse(
        [
            {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.15", "exclude": ["10.1.0.12/31"]},
            {"subnet": "10.2.0.0/30", "exclude": ["10.9.9.9"]},
        ]
    )
    assert given_by(ranges) == ["10.1.0.10", "10.1.0.11", "10.1.0.14", "10.1.0.15", "10.2.0.2"]
    assert given_by(ranges, {V4("10.1.0.11"), V4("10.2.0.2")}) == ["10.1.0.10", "10.1.0.14", "10.1.0.15"]
    assert str(ranges.range_of(V4("10.1.0.14"))) != "None"
    assert ranges.range_of(V4("10.1.0.12")) is None
    assert ranges.range_of(Address.parse("fd00::2")) is None


def test_a_freed_address_rests() -> None:
    ranges = RangeSet.parse([{"subnet": "10.1.0.0/29"}, {"subnet": "10.2.0.0/30"}])
    nothing: set[int] = set()
    for last, following in (
        ("10.1.0.2", "10.1.0.3"),
        ("10.1.0.6", "10.2.0.2"),
        ("10.2.0.2", "10.1.0.2"),
        ("10.7.0.1", "10.1.0.2"),
    ):
        assert ranges.choose(nothing.__contains__, V4(last)) == V4(following)


def test_most_of_a_large_range_may_be_excluded() -> None:
    ranges = RangeSet.parse([{"subnet": "fd00::/64", "exclude": ["fd00::/65"]}])
    assert str(ranges.choose(lambda _: False)) == "fd00::8000:0:0:0"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({}, "a range must have a subnet"),
        ({"subnet": "10.0.0.0/31"}, "network 10.0.0.0/31 too small to allocate from"),
        ({"subnet": "fd00::/127"}, "too small"),
        ({"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"}, "gateway 10.0.1.1 is not in 10.0.0.0/24"),
        ({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"}, "is behind rangeEnd"),
        ({"subnet": "10.0.0.0/24", "exclude": ["fd00::1"]}, "not of the family"),
        ({"subnet": "10.0.0.0"}, "not a CIDR block"),
    ],
)
def test_refused(entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Range.parse(entry)


def test_sets_of_sets() -> None:
    v4, v6 = [{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]
    assert [each.family for each in parse_sets([v6, v4])] == [IPFamily.IPV6, IPFamily.IPV4]
    for wrong, problem in (([v4, v4], "more than one set"), ([v4 + v6], "one family"), ([v4 + v4], "overlap")):
        with pytest.raises(ValueError, match=problem):
            parse_sets(wrong)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 100), st.integers(0, 50))
def test_what_is_left_without_a_hole(first: int, size: int, hole: int, hole_size: int) -> None:
    parts = without(Span(first, size), Span(hole, hole_size))
    left = [number for part in parts for number in range(part.first, part.first + part.size)]
    assert left == [n for n in range(first, first + size) if not hole <= n < hole + hole_size]
    assert all(part.size > 0 for part in parts)
