"""The one connection through which tables are written, and how to find one's way back when they are not as left.

The connection owns its tables where the kernel can do that (Linux 6.9): nobody else changes them, `nft flush
ruleset` passes them by, and when the process ends they stay and keep carrying traffic until the next
process takes them over. Every transaction carries the generation number it was made for.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from twinstack.ip import IPFamily
from twinstack.linux.netlink import NetlinkError
from twinstack.linux.nftables import Nftables, NftablesError, Owned, StaleGeneration, TableFlag, dump
from twinstack.linux.nftables.batch import following
from twinstack.proxy.layout import Layout
from twinstack.proxy.picture import Picture

OWNED = TableFlag.OWNER | TableFlag.PERSIST

_ATTEMPTS = 5  # of a transaction that others' changes overtook

log = logging.getLogger(__name__)


class Changed(Exception):
    """The table is not the one we wrote last: read it again, or lay it anew."""


class Writer:
    """Writes the tables of all families in the network namespace of the thread that makes it."""

    def __init__(self, *, own: bool = True) -> None:
        self._nft = Nftables()
        self._flags = OWNED if own else TableFlag(0)
        self._handles: dict[Layout, int] = {}
        self._generation = self._nft.generation()
        self.transactions = 0

    def close(self) -> None:
        """Give the tables up; they stay."""
        self._nft.close()

    @property
    def owns_tables(self) -> bool:
        return bool(self._flags & TableFlag.OWNER)

    @property
    def _orphan_flags(self) -> TableFlag:
        """The flags of a table that its owner left, with OWNER put back: the kernel takes it away."""
        return self._flags | TableFlag.OWNER

    def commit(self, layout: Layout, messages: list[bytes]) -> None:
        """Write to a table that was converged before.

        Raises Changed when the table is no longer that one, NftablesError when the kernel refuses, OSError
        when it does not answer. Nothing is written then.
        """
        if not messages:
            return
        for _ in range(_ATTEMPTS):
            try:
                self._send(messages)
                return
            except StaleGeneration:
                self._catch_up(layout)
        raise Changed(f"{layout.family}: others change the rule set all the time")

    def clients(self, layout: Layout) -> int | None:
        """How many clients are held to an endpoint; None where the kernel does not say. Raises OSError."""
        found = [dump.count(self._nft.socket, each.clients) for each in (layout.services, layout.node_ports)]
        return sum(each or 0 for each in found) if None not in found else None

    def look(self) -> int | None:
        """The present generation number if it is not the one we made: somebody changed some table."""
        generation = self._nft.generation()
        return generation if generation != self._generation else None

    def accept(self, generation: int) -> None:
        """What others did up to this generation does not concern our tables."""
        self._generation = generation

    def is_same(self, layout: Layout) -> bool:
        """Whether the table is still the one we laid or took over. If we own it, it is as we left it."""
        state = dump.table(self._nft.socket, layout.table)
        return state is not None and state.handle == self._handles.get(layout)

    def converge(self, layout: Layout, difference: Callable[[Picture], list[bytes]]) -> Picture:
        """Bring the table to what it should be, whatever it is now; returns the picture of it.

        `difference` gives the messages that turn a picture into what should be. A table of the same version is
        kept and only corrected; another one is replaced in one transaction. Raises as `commit`; Owned when
        another process has it.
        """
        for _ in range(_ATTEMPTS):
            self._generation = self._nft.generation()
            try:
                picture = self._adopt(layout)
                if picture is not None:
                    self._send(difference(picture))
                else:
                    picture = self._lay_anew(layout, difference)
            except StaleGeneration:
                continue
            self._remember(layout)
            return picture
        raise Changed(f"{layout.family}: others change the rule set all the time")

    def _adopt(self, layout: Layout) -> Picture | None:
        """The picture of the table if it has our version and all its rules."""
        state = dump.table(self._nft.socket, layout.table)
        if state is None or state.comment != layout.version or (state.flags | TableFlag.OWNER) != self._orphan_flags:
            return None
        if state.owner and self._handles.get(layout) != state.handle:
            raise Owned(errno.EPERM, 0, f"table {layout.table.name} belongs to a running process")
        if self.owns_tables and not state.owner:
            self._send([layout.table.create(self._flags)])
        try:
            picture = Picture.read(self._nft.socket, layout)
        except NetlinkError as error:
            if error.errno == errno.ENOENT:  # a map is gone
                return None
            raise
        if dump.rule_counts(self._nft.socket, layout.table) != layout.rule_counts(picture.classes):
            return None
        return picture

    def _lay_anew(self, layout: Layout, difference: Callable[[Picture], list[bytes]]) -> Picture:
        old = dump.table(self._nft.socket, layout.table)
        remove = [layout.table.delete()] if old is not None else []
        picture = Picture(layout)
        content = difference(picture)
        try:
            self._send([*remove, *layout.create(self._flags), *content])
        except NftablesError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL) or not self.owns_tables:
                raise
            log.info("this kernel has no tables that outlive their owner: foreign hands can change ours")
            self._flags = TableFlag(0)
            self._send([*remove, *layout.create(self._flags), *content])
        return picture

    def _send(self, messages: list[bytes]) -> None:
        if not messages:
            return
        self._nft.commit(messages, self._generation)
        self._generation = following(self._generation)
        self.transactions += 1

    def _catch_up(self, layout: Layout) -> None:
        """Somebody changed the rule set: go on if our table cannot have been meant."""
        generation = self._nft.generation()
        if not self.owns_tables or not self.is_same(layout):
            raise Changed(f"{layout.family}: the rule set was changed by others")
        self._generation = generation

    def _remember(self, layout: Layout) -> None:
        state = dump.table(self._nft.socket, layout.table)
        if state is not None:
            self._handles[layout] = state.handle


def foreign_proxies() -> list[str]:
    """Tables of kube-proxy in this namespace: two proxies on one node answer for the same addresses."""
    connection = Nftables()
    try:
        return _foreign_tables(connection)
    finally:
        connection.close()


def _foreign_tables(connection: Nftables) -> list[str]:
    found = []
    for family, shown in ((IPFamily.IPV4, "ip"), (IPFamily.IPV6, "ip6")):
        names = {table.name for table in dump.tables(connection.socket, family)}
        found += [f"{shown} {name}" for name in sorted(names & {"kube-proxy"})]
    return found


def remove_tables(layouts: list[Layout]) -> list[str]:
    """Delete our tables; returns the families that had one. Raises Owned while a proxy runs."""
    connection = Nftables()
    removed = []
    try:
        for layout in layouts:
            if dump.table(connection.socket, layout.table) is not None:
                connection.commit([layout.table.delete()])
                removed.append(str(layout.family))
    finally:
        connection.close()
    return removed
