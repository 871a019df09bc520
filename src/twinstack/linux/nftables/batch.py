"""Transactions on the rule set of a network namespace, and the errors they end in.

A transaction is all or nothing and bumps the namespace's generation number by one. Carrying the number it
was computed for, it is refused when anybody changed any table since.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

from twinstack.linux.netlink import NETFILTER, NetlinkError, NetlinkSocket, attributes, be32, message
from twinstack.linux.nftables.objects import GETGENERATION

_BEGIN, _END = 0x10, 0x11


class NftablesError(NetlinkError):
    """A transaction was refused; nothing of it was done."""


class StaleGeneration(NftablesError):
    """Somebody else changed the rule set: look again, then try again."""


class AlreadyExists(NftablesError):
    """An element is there with another value, or an object where a new one was asked for."""


class Missing(NftablesError):
    """A table, chain, set or element that the transaction names is not there."""


class Owned(NftablesError):
    """The table belongs to another process's socket."""


_KINDS: dict[int, type[NftablesError]] = {
    errno.ERESTART: StaleGeneration,
    errno.EEXIST: AlreadyExists,
    errno.ENOENT: Missing,
    errno.EPERM: Owned,
}


def following(generation: int) -> int:
    """The generation after this one; zero is never used."""
    return (generation + 1) & 0xFFFFFFFF or 1


class Nftables:
    """A connection to nf_tables in the network namespace of the thread that makes it.

    It owns the tables it creates with TableFlag.OWNER as long as it is open.
    """

    def __init__(self) -> None:
        self.socket = NetlinkSocket(NETFILTER)

    def close(self) -> None:
        self.socket.close()

    def generation(self) -> int:
        """The current generation number: three microseconds, so poll it rather than subscribe to changes."""
        reply = self.socket.get(GETGENERATION, bytes(4))
        found = dict(attributes(reply.body, 4))
        return int.from_bytes(found[1], "big")

    def commit(self, messages: Sequence[bytes], generation: int | None = None) -> None:
        """Run a transaction. Raises NftablesError (StaleGeneration, AlreadyExists, Missing, Owned)."""
        if not messages:
            return
        guard = b"" if generation is None else be32(1, generation)
        begin = message(_BEGIN, 0, _resource() + guard)
        try:
            self.socket.transaction(begin, messages, message(_END, 0, _resource()))
        except NetlinkError as error:
            kind = _KINDS.get(error.errno or 0, NftablesError)
            raise kind(error.errno or 0, error.index, error.detail) from None


def _resource() -> bytes:
    return bytes((0, 0)) + struct.pack(">H", 10)
