"""Reading tables, chains and elements back."""

from __future__ import annotations

import errno
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from twinstack.ip import IPFamily
from twinstack.linux.netlink import NESTED, DumpInterrupted, NetlinkError, NetlinkSocket, attributes, text
from twinstack.linux.nftables.objects import (
    GETCHAIN,
    GETELEMENT,
    GETRULE,
    GETSET,
    GETTABLE,
    Collection,
    Table,
    TableFlag,
    read_comment,
)

T = TypeVar("T")

_ATTEMPTS = 20
_HEADER = struct.Struct("=HH")  # of an attribute: its length, that of the header among it, and kind
_HEADERS = 8  # bytes around a value: "data", and what it is
_ELEMENT_HEADERS = 12  # bytes before a key: those of the element, and around the key
_RANGE_END = 1
_SET_COUNT = 20


class TableState(NamedTuple):
    """What the kernel says of a table."""

    name: str
    handle: int  # never used twice in a namespace
    flags: TableFlag
    comment: str
    owner: int  # netlink port of the socket that owns it, or 0


def _repeat(dump: Callable[[], T]) -> T:
    """Repeat a dump that others' changes interrupted; gives up after twenty."""
    for _ in range(_ATTEMPTS):
        try:
            return dump()
        except DumpInterrupted:
            continue
    raise DumpInterrupted


def _header(family: IPFamily) -> bytes:
    return bytes((family.af, 0, 0, 0))


def tables(socket: NetlinkSocket, family: IPFamily) -> list[TableState]:
    """All tables of the family, whoever made them."""
    replies = _repeat(lambda: socket.dump(GETTABLE, _header(family)))
    return [_table(reply.body) for reply in replies]


def table(socket: NetlinkSocket, wanted: Table) -> TableState | None:
    try:
        return _table(socket.get(GETTABLE, _header(wanted.family) + text(1, wanted.name)).body)
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def _table(body: bytes) -> TableState:
    found = dict(attributes(body, 4))
    number = {kind: int.from_bytes(found.get(kind, b""), "big") for kind in (2, 4, 7)}
    return TableState(_name(found[1]), number[4], TableFlag(number[2]), read_comment(found.get(6, b"")), number[7])


def _name(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def chains(socket: NetlinkSocket, wanted: Table) -> set[str]:
    """The names of the table's chains."""
    replies = _repeat(lambda: socket.dump(GETCHAIN, _header(wanted.family)))
    found = (dict(attributes(reply.body, 4)) for reply in replies)
    return {_name(chain[3]) for chain in found if _name(chain[1]) == wanted.name}


def rule_counts(socket: NetlinkSocket, wanted: Table) -> Counter[str]:
    """How many rules each chain of the table has; chains without rules are left out."""
    replies = _repeat(lambda: socket.dump(GETRULE, _header(wanted.family) + text(1, wanted.name)))
    found = (dict(attributes(reply.body, 4)) for reply in replies)
    return Counter(_name(rule[2]) for rule in found if _name(rule[1]) == wanted.name)


def count(socket: NetlinkSocket, collection: Collection) -> int | None:
    """How many elements there are, without reading them; None where the kernel does not say (before 6.16).

    Those that have just gone may still be counted.
    """
    owner = collection.table
    body = socket.get(GETSET, _header(owner.family) + text(1, owner.name) + text(2, collection.name)).body
    found = dict(attributes(body, 4)).get(_SET_COUNT)
    return int.from_bytes(found, "big") if found is not None else None


def elements(socket: NetlinkSocket, collection: Collection) -> dict[bytes, bytes]:
    """Key to value of a map; every key to nothing of a set. Raises NetlinkError ENOENT when it is not there.

    The value of a verdict map's element is the chain's name.
    """
    return _repeat(lambda: _read_elements(socket, collection))


def _read_elements(socket: NetlinkSocket, collection: Collection) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for block in _blocks(socket, collection):
        alike = _alike(block, collection.key_octets, collection.data_octets)
        if alike is None:
            alike = {key: data for key, data, _ in map(_element, _members(block))}
        found |= alike
    return found


def _alike(block: bytes, key_octets: int, data_octets: int) -> dict[bytes, bytes] | None:
    """The elements of a block when all are framed as the first one, which is ten times faster to see; else None."""
    between = _HEADERS if data_octets else 0
    length = _ELEMENT_HEADERS + key_octets + between + data_octets
    if len(block) % length:
        return None
    first = block[:length]
    end = _ELEMENT_HEADERS + key_octets
    head, middle = first[:_ELEMENT_HEADERS], first[end : end + between]
    rows = struct.iter_unpack(f"{_ELEMENT_HEADERS}s{key_octets}s{between}s{data_octets}s", block)
    found = {key: data for head_, key, middle_, data in rows if head_ == head and middle_ == middle}
    framed = _framed(first, key_octets, data_octets)
    return found if framed and len(found) == len(block) // length else None


def _framed(element: bytes, key_octets: int, data_octets: int) -> bool:
    """Whether an element has a key and a value of these lengths where they are looked for, and nothing else."""
    headers = element[:_ELEMENT_HEADERS]
    wanted = [(len(element), 1), (key_octets + 8, 1), (key_octets + 4, 1)]
    if data_octets:
        start = _ELEMENT_HEADERS + key_octets
        headers += element[start : start + _HEADERS]
        wanted += [(data_octets + 8, 2), (data_octets + 4, 1)]
    return [(length, kind & ~NESTED) for length, kind in _HEADER.iter_unpack(headers)] == wanted


def ranges(socket: NetlinkSocket, collection: Collection) -> set[tuple[bytes, bytes | None]]:
    """The [first, end) ranges of an interval set; no end reaches to the last key there is."""
    bounds = sorted((key, not is_end) for key, _, is_end in _repeat(lambda: list(_elements(socket, collection))))
    found: set[tuple[bytes, bytes | None]] = set()
    first: bytes | None = None
    for key, is_first in bounds:  # at one key, an end sorts before the next range's start
        if is_first:
            first = key
        elif first is not None:
            found.add((first, key))
            first = None
    if first is not None:
        found.add((first, None))
    return found


def spans(socket: NetlinkSocket, collection: Collection) -> set[tuple[bytes, bytes]]:
    """The (first, last) keys of a set of concatenated intervals, both inclusive."""
    return {(key, last or key) for key, last in _repeat(lambda: list(_spans(socket, collection)))}


def _spans(socket: NetlinkSocket, collection: Collection) -> Iterator[tuple[bytes, bytes]]:
    for element in _dump(socket, collection):
        found = dict(attributes(element))
        yield found[1][4:], found.get(10, b"")[4:]


def _elements(socket: NetlinkSocket, collection: Collection) -> Iterator[tuple[bytes, bytes, bool]]:
    return map(_element, _dump(socket, collection))


def _dump(socket: NetlinkSocket, collection: Collection) -> Iterator[bytes]:
    for block in _blocks(socket, collection):
        yield from _members(block)


def _members(block: bytes) -> Iterator[bytes]:
    return (element for _, element in attributes(block))


def _blocks(socket: NetlinkSocket, collection: Collection) -> Iterator[bytes]:
    """Elements as the kernel sends them, many together."""
    owner = collection.table
    header = _header(owner.family) + text(1, owner.name) + text(2, collection.name)
    for reply in socket.dump(GETELEMENT, header):
        for kind, value in attributes(reply.body, 4):
            if kind == 3:
                yield value


def _element(element: bytes) -> tuple[bytes, bytes, bool]:
    key = data = b""
    flags = 0
    for kind, value in attributes(element):
        if kind == 1:
            key = value[4:]  # one attribute inside: its header, then the bytes
        elif kind == 2:
            data = _value(value)
        elif kind == 3:
            flags = int.from_bytes(value, "big")
    return key, data, bool(flags & _RANGE_END)


def _value(value: bytes) -> bytes:
    kind, inner = next(attributes(value))
    if kind == 1:
        return inner
    return dict(attributes(inner)).get(2, b"").rstrip(b"\0")
