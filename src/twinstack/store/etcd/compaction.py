"""Old revisions are dropped every few minutes, by one server at a time.

The servers agree as kube-apiserver's do, and with them if there are any: each tries to raise the version of one key
from the one it saw last. Who succeeds compacts at the revision that it saw then, one interval ago, so everybody has
an interval to read what is to go.
"""

from __future__ import annotations

import asyncio
import logging

from twinstack.store.etcd import messages
from twinstack.store.etcd.channel import Channel, RPCError

log = logging.getLogger(__name__)

KEY = b"compact_rev_key"
_SECONDS = 10.0


async def compact_now_and_then(channel: Channel, interval: float) -> None:
    """Every `interval` seconds; cancel to stop. What fails is logged and tried again the next time."""
    version = revision = 0
    while True:
        await asyncio.sleep(interval)
        try:
            version, revision = await compact(channel, version, revision)
        except RPCError as error:
            log.warning("cannot compact etcd: %s", error)


async def compact(channel: Channel, version: int, revision: int) -> tuple[int, int]:
    """One turn. `version` and `revision` are what the last one returned, at first zeros. Raises RPCError."""
    request = messages.txn_request(
        [messages.version_is(KEY, version)],
        [messages.put_operation(KEY, b"%d" % revision)],
        [messages.range_operation(messages.range_request(KEY))],
    )
    outcome = messages.read_txn(await channel.call(messages.TXN, request, seconds=_SECONDS, repeat=False))
    if not outcome.succeeded:
        found = outcome.found[0]
        return (found[0].version if found else 0), outcome.revision
    if revision:
        await channel.call(messages.COMPACT, messages.compaction_request(revision), seconds=_SECONDS, repeat=True)
        log.debug("etcd has dropped what was before revision %d", revision)
    return version + 1, outcome.revision
