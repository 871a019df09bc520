"""The one allocator: cluster IPs and node ports, node blocks, pod leases, ranges of CNI networks.

Rules of choosing over the same scan, `first_free`:

- `Bands.choose`: random numbers of the dynamic band, then upward from the last of them with a wrap; the static
  band is the last resort (KEP-3070). What is taken lives with the caller, so the choice needs no memory of its own.
- `BlockAllocator`: next-fit blocks of a cluster range, one a node.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from twinstack.ip.addresses import CIDR
from twinstack.ip.families import IPFamily

_STATIC_BAND_OFF = 16  # ranges up to this size have no static band
_SHORTEST_IPV6_PREFIX = 64
_RANDOM_TRIES = 8  # find a place in all but one of 250 searches while the half is free

RandBelow = Callable[[int], int]


class Span(NamedTuple):
    """The numbers `first` … `first + size - 1`. Unlike a range it may hold more than 2^63."""

    first: int
    size: int

    def holds(self, number: int) -> bool:
        return 0 <= number - self.first < self.size


def first_free(span: Span, start: int, taken: Callable[[int], bool]) -> int | None:
    """The first number of `span` that is not taken, from offset `start` upward and once round."""
    first, size = span
    for number in chain(range(first + start, first + size), range(first, first + start)):
        if not taken(number):
            return number
    return None


def without(span: Span, hole: Span) -> list[Span]:
    """What is left of `span` below and above `hole`: none, one or two spans."""
    end, hole_end = span.first + span.size, hole.first + hole.size
    below = Span(span.first, min(end, hole.first) - span.first)
    above = Span(max(span.first, hole_end), end - max(span.first, hole_end))
    if hole_end <= span.first or hole.first >= end:
        return [span]
    return [part for part in (below, above) if part.size > 0]


def _pick(band: Span, taken: Callable[[int], bool], randbelow: RandBelow) -> int | None:
    """Some free number. A few tries at random first: a scan pays for every neighbour in a long run of taken ones."""
    start = 0
    for _ in range(_RANDOM_TRIES):
        start = randbelow(band.size)
        if not taken(band.first + start):
            return band.first + start
    return first_free(band, start, taken)


class Bands(NamedTuple):
    """A pool of numbers in two bands: dynamic requests spare the lower one for static requests (KEP-3070)."""

    static: Span
    dynamic: Span

    @classmethod
    def split(cls, pool: Span, static: int) -> Bands:
        """The first `static` numbers of `pool` and the others."""
        static = min(static, pool.size)
        return cls(Span(pool.first, static), Span(pool.first + static, pool.size - static))

    def choose(self, taken: Callable[[int], bool], randbelow: RandBelow = random.randrange) -> int | None:
        """A free number, or None when the pool is full. `randbelow(n)` gives 0 … n-1."""
        for band in (self.dynamic, self.static):
            if band.size:
                number = _pick(band, taken, randbelow)
                if number is not None:
                    return number
        return None

    def holds(self, number: int) -> bool:
        """Whether `number` may be given at all: a static request is held to the pool, not to a band."""
        return self.static.holds(number) or self.dynamic.holds(number)


def _static_size(size: int, divisor: int, most: int) -> int:
    return 0 if size <= _STATIC_BAND_OFF else min(max(_STATIC_BAND_OFF, size // divisor), most)


def address_bands(cidr: CIDR) -> Bands | None:
    """The cluster IPs of one Service range, as address values.

    The network address is never given, for IPv4 the broadcast address neither. None for IPv6 ranges shorter
    than /64, which the API accepts and no allocator serves (KEP-1880).
    """
    if cidr.family is IPFamily.IPV6 and cidr.prefix < _SHORTEST_IPV6_PREFIX:
        return None
    size = cidr.size if cidr.size > 2 else 0
    last = 1 if cidr.family is IPFamily.IPV4 else 0
    pool = Span(cidr.network + 1, max(0, size - 1 - last))
    return Bands.split(pool, _static_size(size, 16, 256))


def port_bands(ports: range) -> Bands:
    """The node ports of `--service-node-port-range`."""
    return Bands.split(Span(ports.start, len(ports)), _static_size(len(ports), 32, 128))


class _NextFit:
    """Next-fit over a span: the search starts behind the number given last."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._taken: set[int] = set()
        self._offset = 0  # where the next search starts

    def allocate(self) -> int | None:
        if len(self._taken) >= self._span.size:  # the common way to be full costs no scan
            return None
        number = first_free(self._span, self._offset, self._taken.__contains__)
        if number is not None:
            self._taken.add(number)
            self._offset = (number - self._span.first + 1) % self._span.size
        return number

    def occupy(self, numbers: Iterable[int]) -> None:
        self._taken.update(n for n in numbers if self._span.holds(n))

    def release(self, numbers: Iterable[int]) -> None:
        self._taken.difference_update(numbers)

    def __len__(self) -> int:
        return len(self._taken)

    def __iter__(self) -> Iterator[int]:
        return iter(self._taken)

    def __contains__(self, number: int) -> bool:
        return number in self._taken


class BlockAllocator:
    """Blocks of one length out of a larger one: node CIDRs out of a cluster CIDR (next-fit, as upstream)."""

    def __init__(self, cidr: CIDR, block_prefix: int) -> None:
        """Raises ValueError when no block of `block_prefix` fits."""
        if not cidr.prefix <= block_prefix <= cidr.family.bits:
            raise ValueError(f"{cidr} cannot be divided into blocks of /{block_prefix}")
        self.cidr = cidr
        self.block_prefix = block_prefix
        self._blocks = _NextFit(Span(0, 1 << (block_prefix - cidr.prefix)))

    @property
    def size(self) -> int:
        """How many blocks there are, free and taken."""
        return 1 << (self.block_prefix - self.cidr.prefix)

    @property
    def used(self) -> int:
        return len(self._blocks)

    def allocate(self) -> CIDR | None:
        """The next free block, now taken; None when there is none."""
        index = self._blocks.allocate()
        return None if index is None else self.cidr.subnet(self.block_prefix, index)

    def occupy(self, block: CIDR) -> None:
        """Mark every block that `block` touches, whatever its length. Raises ValueError outside the range."""
        self._blocks.occupy(self._touched(block))

    def release(self, block: CIDR) -> None:
        """Give back every block that `block` touches. Raises ValueError outside the range."""
        self._blocks.release(self._touched(block))

    def _touched(self, block: CIDR) -> range:
        if not self.cidr.overlaps(block):
            raise ValueError(f"cidr {block} is out the range of cluster cidr {self.cidr}")
        if block.covers(self.cidr):
            return range(self.size)
        shift = self.cidr.family.bits - self.block_prefix
        first = (block.network - self.cidr.network) >> shift
        last = (block.last.value - self.cidr.network) >> shift
        return range(first, last + 1)
