"""nf_tables by netlink: expressions make rules, objects make messages, batches send them, dumps read back.

The `nft` program is for people; nothing here runs it, but everything laid from here it can list.
"""

from twinstack.linux.nftables.batch import AlreadyExists, Missing, Nftables, NftablesError, Owned, StaleGeneration
from twinstack.linux.nftables.objects import ChainType, Collection, DataType, Hook, Priority, Table, TableFlag

__all__ = [
    "AlreadyExists",
    "ChainType",
    "Collection",
    "DataType",
    "Hook",
    "Missing",
    "Nftables",
    "NftablesError",
    "Owned",
    "Priority",
    "StaleGeneration",
    "Table",
    "TableFlag",
]
