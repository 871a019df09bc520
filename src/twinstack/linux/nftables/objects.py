"""Tables, chains, rules, sets and maps, and their elements, as nfnetlink messages (linux/netfilter/nf_tables.h)."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from twinstack.ip import IPFamily
from twinstack.linux.netlink import APPEND, CREATE, attr, be32, message, nest, text

NEWTABLE, GETTABLE, DELTABLE = 0xA00, 0xA01, 0xA02
NEWCHAIN, GETCHAIN, DELCHAIN = 0xA03, 0xA04, 0xA05
NEWRULE, GETRULE, DELRULE = 0xA06, 0xA07, 0xA08
NEWSET, GETSET, DELSET = 0xA09, 0xA0A, 0xA0B
NEWELEMENT, GETELEMENT, DELELEMENT = 0xA0C, 0xA0D, 0xA0E
GETGENERATION = 0xA10

# A list of elements is one attribute, whose length has 16 bits.
_LIST_LIMIT = 60_000


class TableFlag(enum.IntFlag):
    """Who may change a table (enum nft_table_flags)."""

    OWNER = 2  # only the socket that made it (Linux 5.12)
    PERSIST = 4  # it outlives that socket, and another may take it over (Linux 6.9)


class SetFlag(enum.IntFlag):
    """What a set can hold (enum nft_set_flags)."""

    INTERVAL = 4
    MAP = 8
    TIMEOUT = 16
    DYNAMIC = 32  # rules write it
    CONCATENATION = 128  # of intervals, one a field


class Hook(enum.IntEnum):
    """Where a base chain is called from (enum nf_inet_hooks)."""

    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


class ChainType(enum.StrEnum):
    FILTER = "filter"
    NAT = "nat"


class Priority(enum.IntEnum):
    """The usual order of base chains on a hook: NAT of destinations before, of sources after filters."""

    DESTINATION_NAT = -100
    FILTER = 0
    SOURCE_NAT = 100


class DataType(enum.Enum):
    """How `nft list` shows a part of a key or of a value: its number there, its bytes in a packet.

    The kernel ignores the number. The plain integer type is left out on purpose: `nft` 1.0.6 aborts on it.
    """

    IPV4_ADDRESS = (7, 4)
    IPV6_ADDRESS = (8, 16)
    PROTOCOL = (12, 1)
    PORT = (13, 2)
    MARK = (19, 4)
    CLASS = (23, 4)
    VERDICT = (0xFFFFFF00, 16)

    @property
    def number(self) -> int:
        return self.value[0]

    @property
    def octets(self) -> int:
        return self.value[1]

    @classmethod
    def address(cls, family: IPFamily) -> DataType:
        return cls.IPV4_ADDRESS if family is IPFamily.IPV4 else cls.IPV6_ADDRESS


def _padded(octets: int) -> int:
    return (octets + 3) & ~3


def _type_of(parts: Sequence[DataType]) -> tuple[int, int]:
    """Type number and length in bytes; the fields of a concatenation are padded to registers."""
    if len(parts) == 1:
        return parts[0].number, parts[0].octets
    number = 0
    for part in parts:
        number = number << 6 | part.number
    return number, sum(_padded(part.octets) for part in parts)


def _byte_order(kind: int, parts: Sequence[DataType]) -> bytes:
    """User data that tells `nft list` of a lone field in the host's order; all others are in network order."""
    if len(parts) == 1 and parts[0] in (DataType.MARK, DataType.CLASS):
        return struct.pack("=BBI", kind, 4, 1)
    return b""


class Table(NamedTuple):
    """A table of one family; its methods make the messages that lay it."""

    family: IPFamily
    name: str

    def message(self, kind: int, flags: int, *parts: bytes) -> bytes:
        return message(kind, flags, bytes((self.family.af, 0, 0, 0)) + text(1, self.name) + b"".join(parts))

    def create(self, flags: int = 0, comment: str = "") -> bytes:
        """Idempotent; with OWNER it takes over a table that its last owner left (PERSIST)."""
        user_data = attr(6, comment_data(comment)) if comment else b""
        return self.message(NEWTABLE, CREATE, be32(2, flags), user_data)

    def delete(self) -> bytes:
        """With everything in it. Refused with ENOENT when there is none."""
        return self.message(DELTABLE, 0)

    def chain(self, name: str) -> bytes:
        return self.message(NEWCHAIN, CREATE, text(3, name))

    def base_chain(self, name: str, type_: ChainType, hook: Hook, priority: int) -> bytes:
        """A chain that the kernel calls; packets no rule decides are accepted."""
        place = nest(4, be32(1, hook), be32(2, priority))
        return self.message(NEWCHAIN, CREATE, text(3, name), place, be32(5, 1), text(7, type_))

    def rule(self, chain: str, *expressions: bytes) -> bytes:
        """At the end of the chain."""
        return self.message(NEWRULE, CREATE | APPEND, text(2, chain), nest(4, *expressions))


def comment_data(comment: str) -> bytes:
    """User data that `nft list` shows as the object's comment; at most 253 bytes of text."""
    value = comment.encode() + b"\0"
    return bytes((0, len(value))) + value


def read_comment(user_data: bytes) -> str:
    """The comment in user data, or nothing."""
    if len(user_data) >= 2 and user_data[0] == 0:
        return user_data[2 : 2 + user_data[1]].rstrip(b"\0").decode(errors="replace")
    return ""


class Collection:
    """A set, or a map when it has data. Elements are bytes: a key, and a value of fixed length.

    A single-field key has its natural length, the fields of a concatenation are padded to four bytes each.
    Encoding an element joins constant heads with the key and the value: 0.3 microseconds.
    """

    def __init__(
        self,
        table: Table,
        name: str,
        key: Sequence[DataType],
        data: Sequence[DataType] = (),
        *,
        interval: bool = False,
        dynamic: int = 0,
    ) -> None:
        """`dynamic` is the most elements that rules may put into it."""
        self.table = table
        self.name = name
        self.key_type, self.key_octets = _type_of(key)
        self.data_type, self.data_octets = _type_of(data) if data else (0, 0)
        self._user_data = _byte_order(0, key) + _byte_order(1, data)
        self._flags = (SetFlag.MAP if data else SetFlag(0)) | (SetFlag.INTERVAL if interval else SetFlag(0))
        self._description = b""
        if dynamic:
            self._flags |= SetFlag.TIMEOUT | SetFlag.DYNAMIC
            self._description = nest(9, be32(1, dynamic))
        elif interval and len(key) > 1:
            self._flags |= SetFlag.CONCATENATION
            self._description = nest(9, nest(2, *(nest(1, be32(1, part.octets)) for part in key)))

    def __repr__(self) -> str:
        return f"Collection({self.table.family} {self.name})"

    def create(self, number: int) -> bytes:
        """`number` tells sets of one transaction apart."""
        parts = [text(2, self.name), be32(3, self._flags), be32(4, self.key_type), be32(5, self.key_octets)]
        if self.data_type:
            parts += [be32(6, self.data_type), be32(7, self.data_octets)]
        if self._user_data:
            parts.append(attr(13, self._user_data))
        return self.table.message(NEWSET, CREATE, *parts, self._description, be32(10, number))

    @cached_property
    def _frame(self) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        """What stands before and after the key of a bare element, and before, between and after key and value."""
        key, data = b"\xaa" * self.key_octets, b"\xbb" * self.data_octets
        bare_head, bare_tail = nest(1, nest(1, attr(1, key))).split(key)
        if not data:
            return bare_head, bare_tail, bare_head, bare_tail, b""
        head, rest = nest(1, nest(1, attr(1, key)), nest(2, attr(1, data))).split(key)
        middle, tail = rest.split(data)
        return bare_head, bare_tail, head, middle, tail

    def add(self, elements: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
        """Messages that add (key, value) pairs; the value of a set's element is empty.

        An element that is there already is fine, unless it has another value.
        """
        _, _, head, middle, tail = self._frame
        return self._chunks(NEWELEMENT, CREATE, (head + key + middle + data + tail for key, data in elements))

    def delete(self, keys: Iterable[bytes]) -> Iterator[bytes]:
        """Messages that delete; a missing key refuses the whole transaction with ENOENT."""
        head, tail, *_ = self._frame
        return self._chunks(DELELEMENT, 0, (head + key + tail for key in keys))

    def add_verdicts(self, elements: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
        """Messages that add (key, verdict) pairs to a verdict map."""
        return self._chunks(NEWELEMENT, CREATE, (nest(1, nest(1, attr(1, key)), verdict) for key, verdict in elements))

    def add_ranges(self, ranges: Iterable[tuple[bytes, bytes | None]]) -> Iterator[bytes]:
        """Messages that add [first, end) to an interval set; no end reaches to the last key there is."""
        return self._chunks(NEWELEMENT, CREATE, _bounds(ranges))

    def delete_ranges(self, ranges: Iterable[tuple[bytes, bytes | None]]) -> Iterator[bytes]:
        return self._chunks(DELELEMENT, 0, _bounds(ranges))

    def add_spans(self, spans: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
        """Messages that add (first, last) keys, both inclusive, to a set of concatenated intervals."""
        return self._chunks(NEWELEMENT, CREATE, _spans(spans))

    def delete_spans(self, spans: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
        return self._chunks(DELELEMENT, 0, _spans(spans))

    def flush(self) -> bytes:
        """Delete every element."""
        return self.table.message(DELELEMENT, 0, text(2, self.name))

    def _chunks(self, kind: int, flags: int, elements: Iterable[bytes]) -> Iterator[bytes]:
        name = text(2, self.name)
        chunk: list[bytes] = []
        size = 0
        for element in elements:
            if size + len(element) > _LIST_LIMIT:
                yield self.table.message(kind, flags, name, nest(3, *chunk))
                chunk, size = [], 0
            chunk.append(element)
            size += len(element)
        if chunk:
            yield self.table.message(kind, flags, name, nest(3, *chunk))


def _spans(spans: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    return (nest(1, nest(1, attr(1, first)), nest(10, attr(1, last))) for first, last in spans)


def _bounds(ranges: Iterable[tuple[bytes, bytes | None]]) -> Iterator[bytes]:
    for first, end in ranges:
        yield nest(1, nest(1, attr(1, first)))
        if end is not None:
            yield nest(1, nest(1, attr(1, end)), be32(3, 1))
