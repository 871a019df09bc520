"""The expressions of a rule, as attributes (linux/netfilter/nf_tables.h).

A rule is a list of expressions that read and write sixteen 32-bit registers. A value takes as many
registers in a row as it has words; registers keep nothing from one rule to the next. Addresses and ports
are in network order, marks, priorities and random numbers in the host's.
"""

from __future__ import annotations

import enum
import struct

from twinstack.ip import CIDR, IPFamily
from twinstack.linux.netlink import attr, be32, nest, text, u8

FIRST_REGISTER = 8

_VERDICT_REGISTER = 0
_JUMP, _GOTO = -3, -4

_NETWORK, _TRANSPORT = 1, 2  # payload bases


class Meta(enum.IntEnum):
    """Properties of a packet (enum nft_meta_keys)."""

    PRIORITY = 2
    MARK = 3
    INPUT_INDEX = 4  # of the interface it came in by; 1 is the loopback of every namespace
    INPUT_INTERFACE = 6  # its name in 16 bytes; nothing for what the host itself sends
    OUTPUT_INTERFACE = 7
    PROTOCOL = 16  # of layer 4, whatever extension headers came before it


class Compare(enum.IntEnum):
    """Operators (enum nft_cmp_ops)."""

    EQUAL = 0
    NOT_EQUAL = 1


def expression(name: str, *parts: bytes) -> bytes:
    return nest(1, text(1, name), nest(2, *parts))


def _load(register: int, base: int, offset: int, octets: int) -> bytes:
    return expression("payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, octets))


def source_address(family: IPFamily, register: int) -> bytes:
    return _load(register, _NETWORK, 12 if family is IPFamily.IPV4 else 8, family.octets)


def destination_address(family: IPFamily, register: int) -> bytes:
    return _load(register, _NETWORK, 16 if family is IPFamily.IPV4 else 24, family.octets)


def destination_port(register: int) -> bytes:
    """Of TCP, UDP and SCTP alike. Unguarded: combine it with the protocol."""
    return _load(register, _TRANSPORT, 2, 2)


def load_meta(key: Meta, register: int) -> bytes:
    return expression("meta", be32(2, key), be32(1, register))


def store_meta(key: Meta, register: int) -> bytes:
    return expression("meta", be32(2, key), be32(3, register))


def load_conntrack_status(register: int) -> bytes:
    """The IPS_ bits of the packet's connection."""
    return expression("ct", be32(2, 2), be32(1, register))


def load_constant(register: int, value: bytes) -> bytes:
    return expression("immediate", be32(1, register), nest(2, attr(1, value)))


def compare(register: int, operator: Compare, value: bytes) -> bytes:
    """End the rule unless the register compares so with `value`."""
    return expression("cmp", be32(1, register), be32(2, operator), nest(3, attr(1, value)))


def mask(register: int, kept: bytes, flipped: bytes) -> bytes:
    """register = (register & kept) ^ flipped, over as many bytes as `kept` has."""
    masks = nest(4, attr(1, kept)), nest(5, attr(1, flipped))
    return expression("bitwise", be32(1, register), be32(2, register), be32(3, len(kept)), be32(6, 0), *masks)


def random_number(register: int, modulus: int) -> bytes:
    return expression("numgen", be32(1, register), be32(2, modulus), be32(3, 1), be32(4, 0))


def member(name: str, register: int, *, negate: bool = False) -> bytes:
    """End the rule unless the key is in the set (or, negated, if it is)."""
    return expression("lookup", text(1, name), be32(2, register), *((be32(5, 1),) if negate else ()))


def look_up(name: str, register: int, into: int) -> bytes:
    """Read a map; end the rule when the key is not there."""
    return expression("lookup", text(1, name), be32(2, register), be32(3, into))


def follow(name: str, register: int) -> bytes:
    """Obey the verdict that a verdict map holds; end the rule when the key is not there."""
    return look_up(name, register, _VERDICT_REGISTER)


def verdict(code: int, chain: str = "") -> bytes:
    """The data attribute of a verdict: what rules and elements of verdict maps carry."""
    return nest(2, nest(2, be32(1, code), *((text(2, chain),) if chain else ())))


def goto_verdict(chain: str) -> bytes:
    return verdict(_GOTO, chain)


def jump(chain: str) -> bytes:
    return expression("immediate", be32(1, _VERDICT_REGISTER), verdict(_JUMP, chain))


def goto(chain: str) -> bytes:
    return expression("immediate", be32(1, _VERDICT_REGISTER), goto_verdict(chain))


def drop() -> bytes:
    return expression("immediate", be32(1, _VERDICT_REGISTER), verdict(0))


def reject_with_reset() -> bytes:
    return expression("reject", be32(1, 1), u8(2, 0))


def reject_port_unreachable(family: IPFamily) -> bytes:
    """ICMP destination unreachable, port: RFC 792 code 3, RFC 4443 code 4."""
    return expression("reject", be32(1, 0), u8(2, 3 if family is IPFamily.IPV4 else 4))


def destination_nat(family: IPFamily, address: int, port: int) -> bytes:
    """Send the connection to the address and port in these registers."""
    return expression("nat", be32(1, 1), be32(2, family.af), be32(3, address), be32(5, port), be32(7, 2))


def masquerade() -> bytes:
    """Take the outgoing interface's address as source, and a random port."""
    return expression("masq", be32(1, 1 << 4))


def source_is_local() -> bytes:
    """End the rule unless the source address is one of this host's (RTN_LOCAL)."""
    return _is_local(1)


def destination_is_local() -> bytes:
    """End the rule unless the destination address is one of this host's (RTN_LOCAL)."""
    return _is_local(2)


def _is_local(which: int) -> bytes:
    look = expression("fib", be32(1, FIRST_REGISTER), be32(2, 3), be32(3, which))
    return look + compare(FIRST_REGISTER, Compare.EQUAL, struct.pack("=I", 2))


def update(name: str, key: int, value: int, timeout: int) -> bytes:
    """Put an element that lasts `timeout` seconds into a dynamic map, or renew it; its value stays as it is.

    Ends the rule when the map is full.
    """
    lasting = attr(6, struct.pack(">Q", timeout * 1000))
    return expression("dynset", text(1, name), be32(3, 1), be32(4, key), be32(5, value), lasting)


def delete(name: str, key: int, value: int) -> bytes:
    """Take an element from a dynamic map, if it is there. The kernel wants a value's register, too."""
    return expression("dynset", text(1, name), be32(3, 2), be32(4, key), be32(5, value))


def counter() -> bytes:
    return expression("counter", attr(1, bytes(8)), attr(2, bytes(8)))


def source_in(block: CIDR, *, negate: bool = False) -> bytes:
    """End the rule unless the source address is in the block (or, negated, if it is)."""
    return source_address(block.family, FIRST_REGISTER) + _within(block, negate)


def destination_in(block: CIDR, *, negate: bool = False) -> bytes:
    """End the rule unless the destination address is in the block (or, negated, if it is)."""
    return destination_address(block.family, FIRST_REGISTER) + _within(block, negate)


def _within(block: CIDR, negate: bool) -> bytes:
    operator = Compare.NOT_EQUAL if negate else Compare.EQUAL
    comparison = compare(FIRST_REGISTER, operator, block.first.packed)
    if block.prefix == block.family.bits:
        return comparison
    return mask(FIRST_REGISTER, block.mask, bytes(block.family.octets)) + comparison


def protocol_is(number: int) -> bytes:
    """End the rule unless the packet's layer 4 protocol has this number (IANA)."""
    return load_meta(Meta.PROTOCOL, FIRST_REGISTER) + compare(FIRST_REGISTER, Compare.EQUAL, struct.pack("B", number))
