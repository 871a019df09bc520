"""The desired state of a node, read once from the API server: for those who only look."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.rest import Client
from twinstack.dataplane.claims import Claims
from twinstack.dataplane.model import Surroundings
from twinstack.dataplane.tracker import Tracker
from twinstack.ip import IPFamily
from twinstack.proxy.configuration import Configuration
from twinstack.proxy.metrics import ProxyMetrics
from twinstack.proxy.tracker import ClusterTracker

_PATIENCE = 30.0  # seconds for the API server to tell everything


class Snapshot(NamedTuple):
    claims: dict[IPFamily, Claims]
    surroundings: dict[IPFamily, Surroundings]
    desired: Tracker


async def take(access: ClusterAccess, configuration: Configuration, families: list[IPFamily]) -> Snapshot:
    """Raises TimeoutError when the API server does not tell its Services and slices in time."""
    client = Client(access, user_agent="twinstack-proxy")
    tracker = ClusterTracker(client, configuration, families, ProxyMetrics())
    tracker.follow_interfaces()
    watches = [asyncio.create_task(watch.run()) for watch in tracker.watches]
    try:
        async with asyncio.timeout(_PATIENCE):
            await tracker.ready()
        surroundings = {family: tracker.surroundings(family) for family in families}
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        tracker.close()
        await client.close()
    claims = {family: Claims() for family in families}
    changes = tracker.desired.take()
    for family in families:
        claims[family].apply([change for change in changes if change.family is family])
    return Snapshot(claims, surroundings, tracker.desired)
