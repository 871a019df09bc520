"""Address ranges of a network: for each family one set of ranges, out of which one address is given. Pure.

The form is that of the IPAM plugin host-local, and `exclude`, a list of addresses and blocks, beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.ip.allocator import Span, first_free, without

_RESERVED = 2  # the network address and the gateway


class Range(NamedTuple):
    """A part of a subnet; `spans` are the numbers of the addresses that may be given."""

    subnet: CIDR
    gateway: Address
    spans: tuple[Span, ...]

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Range:
        """Read `{"subnet", "rangeStart", "rangeEnd", "gateway", "exclude"}`. Raises ValueError."""
        if not isinstance(data.get("subnet"), str):
            raise ValueError("a range must have a subnet")
        subnet = CIDR.parse(data["subnet"])
        if subnet.size < 4:
            raise ValueError(f"network {subnet} too small to allocate from")
        last = -2 if subnet.family is IPFamily.IPV4 else -1  # not the broadcast address
        gateway = _inside(subnet, data.get("gateway") or str(subnet.address(1)), "gateway")
        begin = _inside(subnet, data.get("rangeStart") or str(subnet.address(1)), "rangeStart")
        end = _inside(subnet, data.get("rangeEnd") or str(subnet.address(last)), "rangeEnd")
        if end < begin:
            raise ValueError(f"rangeStart {begin} is behind rangeEnd {end}")
        spans = [Span(begin.value, end.value - begin.value + 1)]
        for hole in (*_blocks(data.get("exclude") or (), subnet), Span(gateway.value, 1), Span(subnet.network, 1)):
            spans = [part for span in spans for part in without(span, hole)]
        return cls(subnet, gateway, tuple(spans))

    @classmethod
    def whole(cls, subnet: CIDR) -> Range:
        """All of a subnet, however small."""
        last = 1 if subnet.family is IPFamily.IPV4 else 0  # the broadcast address
        size = subnet.size - _RESERVED - last
        return cls(subnet, subnet.address(1), (Span(subnet.network + _RESERVED, size),) if size > 0 else ())

    def gives(self, address: Address) -> bool:
        return address.family is self.subnet.family and any(span.holds(address.value) for span in self.spans)


class RangeSet(NamedTuple):
    """Ranges of one family."""

    family: IPFamily
    ranges: tuple[Range, ...]

    @classmethod
    def parse(cls, data: Sequence[dict[str, Any]]) -> RangeSet:
        """Raises ValueError."""
        ranges = tuple(Range.parse(entry) for entry in data)
        families = {entry.subnet.family for entry in ranges}
        if len(families) != 1:
            raise ValueError("a set of ranges must be of one family")
        spans = sorted((span for entry in ranges for span in entry.spans), key=lambda span: span.first)
        for left, right in pairwise(spans):
            if left.first + left.size > right.first:
                raise ValueError("ranges of a set overlap")
        return cls(families.pop(), ranges)

    @classmethod
    def whole(cls, subnet: CIDR) -> RangeSet:
        """One subnet."""
        return cls(subnet.family, (Range.whole(subnet),))

    def choose(self, taken: Callable[[int], bool], after: Address | None = None) -> Address | None:
        """The first free address behind `after`, once round; None when all are taken."""
        for span in self._from(after):
            number = first_free(span, 0, taken)
            if number is not None:
                return Address(self.family, number)
        return None

    def choose_free(self, taken: Container[Address], last: Iterable[Address]) -> Address | None:
        """`choose`, among addresses of several families: behind the one of this family that was given last."""
        after = next((address for address in last if address.family is self.family), None)
        return self.choose(lambda number: Address(self.family, number) in taken, after)

    def range_of(self, address: Address) -> Range | None:
        """The range that gives this address; None when none does."""
        return next((entry for entry in self.ranges if entry.gives(address)), None)

    def __str__(self) -> str:
        return ", ".join(str(entry.subnet) for entry in self.ranges)

    def _from(self, after: Address | None) -> Iterator[Span]:
        spans = [span for entry in self.ranges for span in entry.spans]
        for index, (first, size) in enumerate(spans):
            if after is not None and spans[index].holds(after.value):
                done = after.value + 1 - first
                yield Span(after.value + 1, size - done)
                yield from (*spans[index + 1 :], *spans[:index], Span(first, done))
                return
        yield from spans


def parse_sets(data: Sequence[Sequence[dict[str, Any]]]) -> tuple[RangeSet, ...]:
    """The sets of a network, one a family, in the order given. Raises ValueError."""
    sets = tuple(RangeSet.parse(entry) for entry in data)
    if len({entry.family for entry in sets}) != len(sets):
        raise ValueError("more than one set of ranges of one family")
    return sets


def _inside(subnet: CIDR, text: str, what: str) -> Address:
    address = Address.parse(text)
    if not subnet.contains(address):
        raise ValueError(f"{what} {text} is not in {subnet}")
    return address


def _blocks(texts: Sequence[str], subnet: CIDR) -> Iterator[Span]:
    for text in texts:
        block = CIDR.parse(text if "/" in text else f"{text}/{subnet.family.bits}")
        if block.family is not subnet.family:
            raise ValueError(f"exclude {text} is not of the family of {subnet}")
        yield Span(block.network, block.size)
