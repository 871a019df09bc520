"""Brings a running cluster to what its configuration object says, step by step.

Each step looks at what is there, so a rollout that was cut off is finished by the next one.
"""

from __future__ import annotations

import asyncio
import logging

from twinstack.api.core import ConfigMap, Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CONFIG_MAPS, NODES, PODS
from twinstack.client.rest import Client
from twinstack.cluster import changes, kubeadm, laying, watcher
from twinstack.cluster.configuration import ClusterConfiguration
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.state import ClusterPaths, locked

_POLL = 0.1  # seconds between looks while parts are replaced or pods end
_LONGEST = 300.0  # seconds that a rollout may take before it is begun anew
_DRAIN = 30.0  # seconds for the pods of a node that leaves to end by themselves

log = logging.getLogger(__name__)


async def publish(client: Client, cluster: ClusterConfiguration) -> None:
    """Make the configuration object where it is not there. Raises StatusError, OSError."""
    body = {"metadata": {"name": kubeadm.NAME}, "data": kubeadm.data(cluster)}
    try:
        await client.create(CONFIG_MAPS, body, kubeadm.NAMESPACE)
    except StatusError as error:
        if error.reason != "AlreadyExists":
            raise


async def edit(client: Client, cluster: ClusterConfiguration) -> str:
    """Let the object say `cluster`; returns its resourceVersion. Raises StatusError, OSError."""
    await publish(client, cluster)
    changed: ConfigMap = await client.patch(
        CONFIG_MAPS, kubeadm.NAME, kubeadm.NAMESPACE, {"data": kubeadm.data(cluster)}
    )
    return changed.metadata.resource_version


def decide(found: ConfigMap, current: ClusterConfiguration) -> tuple[ClusterConfiguration, list[str]]:
    """The cluster that the object asks for, and its fields without effect. Raises ClusterError for what cannot be."""
    wanted, without_effect = kubeadm.read(found.data, current)
    refused = changes.refusals(current, wanted)
    if refused:
        raise ClusterError(f"a running cluster cannot become one with {', '.join(refused)}", "`twinstack down` first")
    return wanted, without_effect


async def roll(client: Client, own: ClusterPaths, wanted: ClusterConfiguration) -> None:
    """Make the cluster what is wanted: nodes leave, certificates and network are laid, parts are replaced.

    Raises StatusError, OSError, TimeoutError; may be begun again.
    """
    current = own.required()
    for index in range(wanted.nodes + 1, current.nodes + 1):
        await drain(client, current.node_name(index))
    if wanted != current:
        await asyncio.to_thread(_lay, wanted, own)
    async with asyncio.timeout(_LONGEST):
        if not await asyncio.to_thread(watcher.reload, own):
            raise ConnectionError("no supervisor is running")
        while await asyncio.to_thread(watcher.changing, own) != []:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(_POLL)
    for index in laying.stray_nodes(wanted, own):
        log.info("removing what is left of %s", wanted.node_name(index))
        await _forget(client, wanted.node_name(index))
        await asyncio.to_thread(laying.clear_node, own, index)


def _lay(wanted: ClusterConfiguration, own: ClusterPaths) -> None:
    with locked():
        laying.directories(wanted, own)
        laying.foundations(wanted, own, changed=True)
        laying.mirror(wanted, own)


async def drain(client: Client, node: str) -> None:
    """Let a node's pods end, for a while at most; nothing new is put there."""
    try:
        await client.patch(NODES, node, "", {"spec": {"unschedulable": True}})
    except StatusError as error:
        if error.code != 404:
            raise
        return
    log.info("draining %s", node)
    asked: set[str] = set()
    deadline = asyncio.get_running_loop().time() + _DRAIN
    while asyncio.get_running_loop().time() < deadline:
        pods: list[Pod]
        pods, _ = await client.list(PODS, field_selector=f"spec.nodeName={node}")
        if not pods:
            return
        for pod in pods:
            if pod.metadata.uid not in asked:
                asked.add(pod.metadata.uid)
                await _delete_pod(client, pod)
        await asyncio.sleep(_POLL)
    log.warning("pods of %s have not ended in %.0f s; the node goes all the same", node, _DRAIN)


async def _delete_pod(client: Client, pod: Pod) -> None:
    try:
        await client.delete(PODS, pod.metadata.name, pod.metadata.namespace, uid=pod.metadata.uid)
    except StatusError as error:
        if error.code not in (404, 409):
            raise


async def _forget(client: Client, node: str) -> None:
    """Delete a Node object, and let go of pods that nobody is left to end."""
    pods, _ = await client.list(PODS, field_selector=f"spec.nodeName={node}")
    for pod in pods:
        try:
            await client.delete(PODS, pod.metadata.name, pod.metadata.namespace, grace_period=0)
        except StatusError as error:
            if error.code != 404:
                raise
    try:
        await client.delete(NODES, node)
    except StatusError as error:
        if error.code != 404:
            raise
