"""The allocator: bands, scans, next-fit blocks and leases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.ip import CIDR, Address
from twinstack.ip.allocator import Bands, BlockAllocator, Span, address_bands, first_free, port_bands


@given(st.data(), st.integers(1, 40), st.integers(0, 1 << 100))
def test_first_free_is_the_nearest_upward_with_wrap(data: st.DataObject, count: int, first: int) -> None:
    start = data.draw(st.integers(0, count - 1))
    taken = data.draw(st.sets(st.integers(first, first + count - 1)))
    found = first_free(Span(first, count), start, taken.__contains__)
    order = [first + (start + step) % count for step in range(count)]
    assert found == next((number for number in order if number not in taken), None)


@pytest.mark.parametrize(
    ("cidr", "static", "dynamic"),
    [
        ("10.96.0.0/16", ("10.96.0.1", "10.96.1.0"), ("10.96.1.1", "10.96.255.254")),
        ("10.0.0.0/24", ("10.0.0.1", "10.0.0.16"), ("10.0.0.17", "10.0.0.254")),
        ("10.0.0.0/27", ("10.0.0.1", "10.0.0.16"), ("10.0.0.17", "10.0.0.30")),
        ("10.0.0.0/28", None, ("10.0.0.1", "10.0.0.14")),
        ("10.0.0.0/30", None, ("10.0.0.1", "10.0.0.2")),
        ("10.0.0.0/31", None, None),
        ("10.0.0.0/32", None, None),
        ("fd00:96::/112", ("fd00:96::1", "fd00:96::100"), ("fd00:96::101", "fd00:96::ffff")),
        ("fd00:96::/64", ("fd00:96::1", "fd00:96::100"), ("fd00:96::101", "fd00:96::ffff:ffff:ffff:ffff")),
        ("fd00:96::/124", None, ("fd00:96::1", "fd00:96::f")),
        ("fd00:96::/127", None, None),
        ("fd00:96::/128", None, None),
    ],
)
def test_address_bands(cidr: str, static: tuple[str, str] | None, dynamic: tuple[str, str] | None) -> None:
    bands = address_bands(CIDR.parse(cidr))
    assert bands is not None
    for band, ends in ((bands.static, static), (bands.dynamic, dynamic)):
        if ends is None:
            assert band.size == 0
        else:
            first, last = (Address.parse(text).value for text in ends)
            assert band == Span(first, last - first + 1)


def test_no_allocator_for_ipv6_ranges_shorter_than_64() -> None:
    assert address_bands(CIDR.parse("fd00::/63")) is None


@pytest.mark.parametrize(
    ("ports", "static"),
    [(range(30000, 32768), 86), (range(30000, 30016), 0), (range(30000, 30017), 16), (range(1, 65536), 128)],
)
def test_port_bands(ports: range, static: int) -> None:
    bands = port_bands(ports)
    assert bands.static == Span(ports.start, static)
    assert bands.dynamic == Span(ports.start + static, len(ports) - static)


@given(st.data(), st.integers(0, 20), st.integers(0, 20))
def test_choice_prefers_the_dynamic_band_and_never_gives_what_is_taken(
    data: st.DataObject, static: int, dynamic: int
) -> None:
    bands = Bands(Span(100, static), Span(100 + static, dynamic))
    taken = data.draw(st.sets(st.integers(100, 140)))
    number = bands.choose(taken.__contains__, lambda n: data.draw(st.integers(0, n - 1)))
    free = [n for n in range(100, 100 + static + dynamic) if n not in taken]
    if number is None:
        assert not free
    else:
        assert number in free
        assert bands.holds(number)
        assert bands.dynamic.holds(number) or all(bands.static.holds(n) for n in free)


def test_a_large_range_costs_no_memory() -> None:
    bands = address_bands(CIDR.parse("fd00:96::/64"))
    assert bands is not None
    chosen = {bands.choose(lambda _: False) for _ in range(100)}
    assert len(chosen) == 100


@given(st.lists(st.integers(0, 7), max_size=60))
def test_blocks_are_next_fit(releases: list[int]) -> None:
    """Against a plain model: a released block is given again only after the pointer has come round."""
    cidr = CIDR.parse("10.244.0.0/21")
    blocks = BlockAllocator(cidr, 24)
    taken: set[int] = set()
    pointer = 0
    for release in releases:
        block = blocks.allocate()
        expected = next((i % 8 for i in range(pointer, pointer + 8) if i % 8 not in taken), None)
        assert block == (None if expected is None else cidr.subnet(24, expected))
        if expected is not None:
            taken.add(expected)
            pointer = expected + 1
        blocks.release(cidr.subnet(24, release))
        taken.discard(release)
        assert blocks.used == len(taken)


def test_a_foreign_block_marks_all_that_it_touches() -> None:
    blocks = BlockAllocator(CIDR.parse("fd00:10:244::/56"), 64)
    blocks.occupy(CIDR.parse("fd00:10:244:0::/63"))  # larger than a node's block
    blocks.occupy(CIDR.parse("fd00:10:244:3:8000::/65"))  # smaller
    given = [str(blocks.allocate()) for _ in range(3)]
    assert given == ["fd00:10:244:2::/64", "fd00:10:244:4::/64", "fd00:10:244:5::/64"]
    blocks.occupy(CIDR.parse("fd00:10::/32"))  # larger than the cluster's range
    assert blocks.allocate() is None
    assert blocks.used == blocks.size == 256


@pytest.mark.parametrize("block", ["10.245.0.0/24", "fd00::/64"])
def test_blocks_outside_the_range_are_refused(block: str) -> None:
    blocks = BlockAllocator(CIDR.parse("10.244.0.0/16"), 24)
    with pytest.raises(ValueError, match="is out the range of cluster cidr"):
        blocks.occupy(CIDR.parse(block))


def test_a_block_cannot_be_larger_than_its_range() -> None:
    with pytest.raises(ValueError, match="cannot be divided"):
        BlockAllocator(CIDR.parse("10.244.0.0/16"), 15)
