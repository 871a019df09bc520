"""Routes that only some packets see: rules and tables beside the main one (rtnetlink(7), fib_rules.h)."""

from __future__ import annotations

import struct

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux.links import NEWROUTE, STATIC
from twinstack.linux.netlink import CREATE, EXCL, REPLACE, attr, message, text, u32

NEWRULE = 32

_TO_TABLE = 1  # FR_ACT_TO_TBL
_UNIVERSE, _UNICAST, _UNREACHABLE = 0, 1, 7
_MAIN = 254


def own_traffic_rule(family: IPFamily, table: int, priority: int) -> bytes:
    """Packets that are made in this network namespace, and none that are forwarded, see a table first.

    Refused with EEXIST when it is there.
    """
    head = struct.pack("=BBBBBBBBI", family.af, 0, 0, 0, table, 0, 0, _TO_TABLE, 0)
    return message(NEWRULE, CREATE | EXCL, head + text(3, "lo") + u32(6, priority) + u32(15, table))


def table_route(table: int, destination: CIDR, via: Address) -> bytes:
    """A route of one family by way of a neighbour, in a table below 256. Idempotent."""
    head = (destination.family.af, destination.prefix, 0, 0, table, STATIC, _UNIVERSE, _UNICAST, 0)
    body = attr(1, destination.first.packed) + attr(5, via.packed)
    return message(NEWROUTE, CREATE | REPLACE, struct.pack("=BBBBBBBBI", *head) + body)


def unreachable(destination: CIDR) -> bytes:
    """Packets to a block are refused, but for what narrower routes lead to. Idempotent."""
    head = (destination.family.af, destination.prefix, 0, 0, _MAIN, STATIC, _UNIVERSE, _UNREACHABLE, 0)
    body = struct.pack("=BBBBBBBBI", *head) + attr(1, destination.first.packed)
    return message(NEWROUTE, CREATE | REPLACE, body)
