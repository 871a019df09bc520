from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.meta import ObjectMeta
from twinstack.api.networking import ServiceCIDR, ServiceCIDRSpec
from twinstack.controllers.serviceranges import is_covered, stranded
from twinstack.ip import Address


def cidr(name: str, *blocks: str, going: bool = False) -> ServiceCIDR:
    meta = ObjectMeta(name=name, deletion_timestamp="2026-01-01T00:00:00Z" if going else None)
    return ServiceCIDR(metadata=meta, spec=ServiceCIDRSpec(cidrs=list(blocks)))


DUAL = cidr("x", "10.96.0.0/24", "fd00:96::/120", going=True)


@pytest.mark.parametrize(
    ("others", "covered"),
    [
        ([], False),
        ([DUAL], False),
        ([cidr("a", "10.96.0.0/24", "fd00:96::/120")], True),
        ([cidr("a", "10.96.0.0/16", "fd00:96::/112")], True),
        ([cidr("a", "10.96.0.0/16")], False),
        ([cidr("a", "10.96.0.0/16"), cidr("b", "fd00:96::/120")], True),
        ([cidr("a", "10.96.0.0/25", "fd00:96::/120"), cidr("b", "10.96.0.128/25")], False),
        ([cidr("a", "10.96.0.0/16", "fd00:96::/112", going=True)], False),
    ],
)
def test_every_block_must_lie_in_one_that_stays(others: list[ServiceCIDR], covered: bool) -> None:
    assert is_covered(DUAL, others) == covered


@pytest.mark.parametrize(
    ("address", "others", "held"),
    [
        ("10.96.0.5", [], True),
        ("fd00:96::5", [], True),
        ("10.97.0.5", [], False),
        ("10.96.0.0", [], False),
        ("10.96.0.255", [], False),
        ("fd00:96::", [], False),
        ("fd00:96::ff", [], True),
        ("10.96.0.5", [cidr("a", "10.96.0.0/28")], False),
        ("10.96.0.15", [cidr("a", "10.96.0.0/28")], True),
        ("10.96.0.5", [cidr("a", "10.96.0.0/28", going=True)], True),
        ("fd00:96::5", [cidr("a", "10.96.0.0/16")], True),
        ("10.96.0.5", [DUAL], True),
    ],
)
def test_an_address_holds_the_only_range_it_is_in(address: str, others: list[ServiceCIDR], held: bool) -> None:
    parsed = Address.parse(address)
    assert stranded(DUAL, others, [parsed]) == ([parsed] if held else [])


@given(st.integers(0, 1023), st.lists(st.tuples(st.integers(22, 30), st.integers(0, 1023)), max_size=4))
def test_covered_ranges_strand_nobody(offset: int, drawn: list[tuple[int, int]]) -> None:
    base = int(ipaddress.IPv4Address("10.96.0.0"))
    others = [
        cidr(f"o{n}", str(ipaddress.IPv4Network((base + at >> (32 - length) << (32 - length), length))))
        for n, (length, at) in enumerate(drawn)
    ]
    going = cidr("x", "10.96.1.0/24", going=True)
    address = Address.parse(str(ipaddress.IPv4Address(base + offset)))
    inside = offset >> 8 == 1 and offset & 255 not in (0, 255)
    elsewhere = any(
        ipaddress.IPv4Address(base + offset) in list(ipaddress.IPv4Network(o.spec.cidrs[0]).hosts()) for o in others
    )
    assert bool(stranded(going, others, [address])) == (inside and not elsewhere)
