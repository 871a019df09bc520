"""Packets of this node's pods that leave the cluster take the node's address: an nf_tables table a family.

```
table ip twinstack-node {
    chain postrouting {
        type nat hook postrouting priority srcnat
        ip saddr 10.244.1.0/24 ip daddr != 10.244.0.0/16 masquerade
    }
}
```
"""

from __future__ import annotations

from collections.abc import Sequence

from twinstack.ip import CIDR, IPFamily
from twinstack.linux.nftables.batch import Missing, Nftables
from twinstack.linux.nftables.expressions import destination_in, masquerade, source_in
from twinstack.linux.nftables.objects import ChainType, Hook, Priority, Table

TABLE = "twinstack-node"
COMMENT = "masquerading of pods by twinstack node"
_CHAIN = "postrouting"


def lay(
    pod_cidrs: Sequence[CIDR], spared: Sequence[CIDR], table_name: str = TABLE, comment: str = COMMENT
) -> list[bytes]:
    """The messages that replace the tables: sources in `pod_cidrs` are hidden except towards `spared` blocks."""
    messages: list[bytes] = []
    for family in set(IPFamily) - {cidr.family for cidr in pod_cidrs}:
        messages += [Table(family, table_name).create(), Table(family, table_name).delete()]
    for cidr in pod_cidrs:
        table = Table(cidr.family, table_name)
        inside = [destination_in(block, negate=True) for block in spared if block.family is cidr.family]
        messages += [
            table.create(),  # so that there is one to delete
            table.delete(),
            table.create(comment=comment),
            table.base_chain(_CHAIN, ChainType.NAT, Hook.POSTROUTING, Priority.SOURCE_NAT),
            table.rule(_CHAIN, source_in(cidr), *inside, masquerade()),
        ]
    return messages


def apply(pod_cidrs: Sequence[CIDR], spared: Sequence[CIDR], table_name: str = TABLE, comment: str = COMMENT) -> None:
    """Set it up in the calling thread's network namespace. Raises NftablesError."""
    connection = Nftables()
    try:
        connection.commit(lay(pod_cidrs, spared, table_name, comment))
    finally:
        connection.close()


def remove(table_name: str = TABLE) -> None:
    """Remove both tables from the calling thread's network namespace. Idempotent."""
    connection = Nftables()
    try:
        for family in IPFamily:
            try:
                connection.commit([Table(family, table_name).delete()])
            except Missing:
                continue
    finally:
        connection.close()
