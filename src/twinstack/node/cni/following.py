"""Keeps the agent's network what --cni-conf-dir says, and the Node's readiness what the plugins say."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from twinstack.node.cni import lists
from twinstack.node.cni.network import PluginNetwork

LOOK_EVERY = 1.0
ASK_EVERY = 10.0  # the plugins' STATUS
NOT_INITIALIZED = "Network plugin returns error: cni plugin not initialized"

log = logging.getLogger(__name__)


async def follow(network: PluginNetwork, directory: Path, tell: Callable[[str], None]) -> None:
    """For ever; cancel to stop. `tell` is called with why no pod can run, or with "", whenever that changes."""
    seen: object = None
    told: str | None = None
    asked = 0.0
    began = True
    while True:
        found = await asyncio.to_thread(lists.signature, directory)
        if found != seen:
            seen, asked = found, 0.0
            wanted = await asyncio.to_thread(lists.first, directory)
            if wanted is None:
                network.close()
            else:
                network.open(wanted)
                log.info("network %s: %s", wanted.name, ", ".join(plugin["type"] for plugin in wanted.plugins))
        if time.monotonic() - asked > ASK_EVERY:
            problem = await asyncio.to_thread(network.look) if network.is_open else NOT_INITIALIZED
            asked = time.monotonic()
            if problem != told:
                told = problem
                tell(problem)
        if began and network.is_open:
            began = False
            await asyncio.to_thread(network.clear_up)
        await asyncio.sleep(LOOK_EVERY)
