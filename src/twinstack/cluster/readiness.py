"""Waits until every node of a cluster is ready, by watching the API, and explains why one is not."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Protocol

from twinstack.api.core import Node
from twinstack.api.kinds import NODES
from twinstack.client import kubeconfig
from twinstack.client.informer import Informer
from twinstack.client.rest import Client
from twinstack.cluster import changes, rollout, watcher
from twinstack.cluster.configuration import ClusterConfiguration
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.outcome import REFUSED, ROLLING, Outcome
from twinstack.cluster.state import ClusterPaths, name_flag

_LOOK_AFTER_PARTS = 0.5  # seconds between looks at what the supervisor says while waiting
_LOOK_AFTER_CHANGE = 0.1  # seconds between looks at how far a change has come
_HOPELESS = 4  # starts of a part that all failed
_LOG_LINES = 12


class Progress(Protocol):
    """Who is told about a step that is done."""

    def done(self, step: str) -> None: ...


def is_ready(node: Node) -> bool:
    """Whether the condition Ready is True."""
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)


def wait(cluster: ClusterConfiguration, paths: ClusterPaths, timeout: float, progress: Progress) -> None:
    """Block until all nodes are ready; raises ClusterError with the reason and the log to read."""
    try:
        asyncio.run(_wait(cluster, paths, timeout, progress))
    except TimeoutError:
        raise ClusterError(
            f"the cluster is not ready after {timeout:g} s: {'; '.join(_open_ends(cluster, paths))}",
            f"logs are in {paths.logs}; `twinstack status{name_flag(cluster.name)}` shows every part",
        ) from None


def change(
    cluster: ClusterConfiguration, wanted: ClusterConfiguration, paths: ClusterPaths, timeout: float, progress: Progress
) -> str:
    """Edit the cluster's configuration object and block until the cluster has become that.

    Returns what is left for people to do. Raises ClusterError when it was refused or did not come to an end.
    """
    try:
        outcome = asyncio.run(_change(wanted, paths, timeout))
    except TimeoutError:
        raise ClusterError(
            f"the change is not made after {timeout:g} s: {Outcome.load(paths).message or 'it has not begun'}",
            f"it goes on; `twinstack status{name_flag(cluster.name)}` shows how far it is",
        ) from None
    if outcome.state == REFUSED:
        raise ClusterError(outcome.message)
    for text in changes.differences(cluster, wanted):
        progress.done(text)
    return outcome.message


async def _change(wanted: ClusterConfiguration, paths: ClusterPaths, timeout: float) -> Outcome:
    client = Client(kubeconfig.load(str(paths.kubeconfigs / "admin.json")), user_agent="twinstack-up")
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    version = int(await rollout.edit(client, wanted))
                    break
                except OSError:
                    await asyncio.sleep(_LOOK_AFTER_PARTS)
            while True:
                outcome = Outcome.load(paths)
                if int(outcome.version) >= version and outcome.state != ROLLING:
                    return outcome
                await asyncio.sleep(_LOOK_AFTER_CHANGE)
    finally:
        await client.close()


async def _wait(cluster: ClusterConfiguration, paths: ClusterPaths, timeout: float, progress: Progress) -> None:
    access = kubeconfig.load(str(paths.kubeconfigs / "admin.json"))
    client = Client(access, user_agent="twinstack-up")
    missing = {cluster.node_name(index) for index in cluster.node_indexes}
    told: set[str] = set()
    all_ready = asyncio.Event()

    async def ready() -> None:
        await nodes.synced()
        api_answers()
        await all_ready.wait()

    def api_answers() -> None:
        if "API server" not in told:
            told.add("API server")
            progress.done("API server")

    def follow(_: Node | None, node: Node | None) -> None:
        api_answers()
        if node is not None and node.metadata.name in missing and is_ready(node):
            missing.discard(node.metadata.name)
            progress.done(f"node {node.metadata.name}")
            if not missing:
                all_ready.set()

    nodes = Informer(client, NODES)
    nodes.subscribe(follow)
    tasks = [asyncio.ensure_future(work) for work in (ready(), _look_after_parts(paths), nodes.run())]
    try:
        async with asyncio.timeout(timeout):
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
        await rollout.publish(client, cluster)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()


async def _look_after_parts(paths: ClusterPaths) -> None:
    """Ends with ClusterError once a part has failed so often that waiting is in vain."""
    while True:
        await asyncio.sleep(_LOOK_AFTER_PARTS)
        for part in watcher.parts_running(paths) or ():
            if part.restarts >= _HOPELESS and part.state != "running":
                log = paths.logs / f"{part.name}.log"
                raise ClusterError(
                    f"{part.name} does not stay up ({part.last_exit}); the end of {log}:\n{tail(log)}",
                    f"`twinstack down{name_flag(paths.name)}` removes the cluster",
                )


def tail(log: Path) -> str:
    """The last lines of a log, indented."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except FileNotFoundError:
        lines = []
    return "\n".join(f"    {line}" for line in lines) or "    (empty)"


def _open_ends(cluster: ClusterConfiguration, paths: ClusterPaths) -> list[str]:
    """What is missing, for people."""
    parts = watcher.parts_running(paths)
    if parts is None:
        return ["its supervisor is not running"]
    found = [f"{p.name} {p.state} ({p.last_exit})" for p in parts if p.state != "running"]
    try:
        nodes = asyncio.run(list_nodes(paths, 2.0))
    except OSError as error:
        return [*found, f"the API server does not answer ({error})"]
    for index in cluster.node_indexes:
        name = cluster.node_name(index)
        node = nodes.get(name)
        if node is None:
            found.append(f"node {name} is not registered")
        elif not is_ready(node):
            reasons = [c.message or c.reason for c in node.status.conditions if c.type == "Ready"]
            found.append(f"node {name} is not ready: {reasons[0] if reasons else 'no status yet'}")
    return found or ["it became ready only now"]


async def list_nodes(paths: ClusterPaths, timeout: float) -> dict[str, Node]:
    """The nodes of the cluster by name. Raises OSError when the API server does not answer."""
    client = Client(kubeconfig.load(str(paths.kubeconfigs / "admin.json")), user_agent="twinstack-status")
    try:
        async with asyncio.timeout(timeout):
            nodes, _ = await client.list(NODES)
            return {node.metadata.name: node for node in nodes}
    finally:
        await client.close()


def age(since: float) -> str:
    """How long ago, in the largest two units: `3m12s`."""
    seconds = max(int(time.time() - since), 0)
    for unit, size, below in (("d", 86400, "h"), ("h", 3600, "m"), ("m", 60, "s")):
        if seconds >= size:
            rest = seconds % size // (size // 24 if unit == "d" else size // 60)
            return f"{seconds // size}{unit}{f'{rest}{below}' if rest else ''}"
    return f"{seconds}s"
