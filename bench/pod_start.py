"""From a pod's binding to its being Ready, as a watcher of the API sees it, on a running cluster.

Claim: less than 150 ms for one pod. Needs a kubeconfig; makes and deletes pods in the namespace `default`.
Prints a line a measurement and, with `--json FILE`, writes the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

import uvloop

from twinstack.api.core import Pod
from twinstack.api.kinds import PODS
from twinstack.client import kubeconfig
from twinstack.client.informer import Informer
from twinstack.client.rest import Client

PREFIX = f"bench-{time.time_ns() & 0xFFFFFF:x}"


class Watcher:
    """When each of our pods was first seen bound, ready and gone."""

    def __init__(self) -> None:
        self.bound: dict[str, float] = {}
        self.ready: dict[str, float] = {}
        self.gone: set[str] = set()
        self.changed = asyncio.Event()

    def follow(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None or not pod.metadata.name.startswith(PREFIX):
            return
        name, now = pod.metadata.name, time.perf_counter()
        if new is None:
            self.gone.add(name)
        elif new.spec.node_name:
            self.bound.setdefault(name, now)
            if any(c.type == "Ready" and c.status == "True" for c in new.status.conditions):
                self.ready.setdefault(name, now)
        self.changed.set()

    async def until(self, what: dict[str, float] | set[str], count: int) -> None:
        async with asyncio.timeout(60):
            while len(what) < count:
                self.changed.clear()
                await self.changed.wait()


def pod(number: int) -> dict[str, Any]:
    container = {"name": "c", "image": "twinstack.local/host", "command": ["sleep", "1000"]}
    return {"metadata": {"name": f"{PREFIX}-{number}", "namespace": "default"}, "spec": {"containers": [container]}}


async def measure(client: Client, single: int, burst: int) -> dict[str, float]:
    watcher = Watcher()
    informer = Informer(client, PODS, namespace="default")
    informer.subscribe(watcher.follow)
    following = asyncio.create_task(informer.run())
    await informer.synced()
    try:
        for number in range(single):
            await client.create(PODS, pod(number))
            await watcher.until(watcher.ready, number + 1)
        alone = [(watcher.ready[name] - watcher.bound[name]) * 1e3 for name in watcher.ready]
        begin = time.perf_counter()
        await asyncio.gather(*(client.create(PODS, pod(number)) for number in range(single, single + burst)))
        await watcher.until(watcher.ready, single + burst)
        together = time.perf_counter() - begin
    finally:
        names = list(watcher.bound)
        await asyncio.gather(*(client.delete(PODS, name, "default", grace_period=0) for name in names))
        await watcher.until(watcher.gone, len(names))
        following.cancel()
    return {
        "bound_to_ready_ms_p50": statistics.median(alone),
        "bound_to_ready_ms_max": max(alone),
        "burst_pods": burst,
        "burst_s": together,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--pods", type=int, default=15, help="one after the other")
    parser.add_argument("--burst", type=int, default=30, help="created at once")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    async def run() -> dict[str, float]:
        client = Client(kubeconfig.load(args.kubeconfig), user_agent="bench")
        try:
            return await measure(client, args.pods, args.burst)
        finally:
            await client.close()

    figures = uvloop.run(run())
    print(
        f"bound to ready: {figures['bound_to_ready_ms_p50']:.0f} ms (most {figures['bound_to_ready_ms_max']:.0f}); "
        f"{args.burst} pods at once ready after {figures['burst_s']:.2f} s"
    )
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
