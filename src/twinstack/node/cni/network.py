"""The pod network made by CNI plugins, whoever wrote them: what a container runtime does for kubelet.

Each attachment is a file that says how it was made, written before the first plugin runs. So what is begun can be
undone, with the configuration that made it, by an agent that comes later, too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twinstack.api import core
from twinstack.ip import CIDR, Address
from twinstack.linux import links, namespaces, netlink, sysctl
from twinstack.node.cni import chain, lists
from twinstack.node.cni.errors import CniError
from twinstack.node.cni.invocation import Invocation
from twinstack.node.cni.lists import NetworkList
from twinstack.node.cni.results import decode
from twinstack.node.lifecycle import is_sidecar
from twinstack.node.network import POD_SYSCTLS, Attachment
from twinstack.node.podaddresses import INTERFACE

JSON = dict[str, Any]

log = logging.getLogger(__name__)


class NetworkError(OSError):
    """A plugin refused or failed."""


class _Record(NamedTuple):
    """`result` is None until ADD has succeeded."""

    network: NetworkList
    call: Invocation
    told: chain.Capabilities
    result: JSON | None
    addresses: tuple[Address, ...] = ()


class PluginNetwork:
    """The pods of a node; the plugins run in the network namespace of the process. Its methods block for as long as
    plugins take."""

    def __init__(self, directory: Path, prefix: str, path: Sequence[str]) -> None:
        """`directory` is for the records, `path` is where plugins are looked for."""
        self._directory = directory
        self._prefix = prefix
        self._path = tuple(path)
        self._network: NetworkList | None = None
        self._pod_cidrs: list[CIDR] = []
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._records = {name[:-5]: _read(directory / name) for name in os.listdir(directory) if name.endswith(".json")}

    def open(self, network: NetworkList) -> None:
        """New pods join this network from now on; those that have one keep it until they end."""
        self._network = network

    def give_ranges(self, cidrs: Sequence[CIDR]) -> None:
        """The node's podCIDRs, for plugins with the capability ipRanges."""
        self._pod_cidrs = list(cidrs)

    @property
    def is_open(self) -> bool:
        return self._network is not None

    def close(self) -> None:
        """Take no more pods; those that are there keep their networks."""
        self._network = None

    def path(self, pod_uid: str) -> Path:
        """Where the pod's namespace is, or would be, pinned."""
        digest = hashlib.sha256(f"{self._prefix}/{pod_uid}".encode()).hexdigest()[:8]
        return namespaces.RUN_DIRECTORY / f"{self._prefix}-{digest}"

    def addresses(self, pod_uid: str) -> list[Address]:
        """All that the plugins gave; empty without a network."""
        record = self._records.get(pod_uid)
        if record is None or record.result is None or not namespaces.is_pinned(self.path(pod_uid)):
            return []
        return list(record.addresses)

    def pods(self) -> list[str]:
        """The uids of all pods that have, or may have, something of a network."""
        return list(self._records)

    def attach_pod(self, pod: core.Pod) -> Attachment:
        """Give a pod a new network; one that it had goes.

        Raises OSError, after which nothing is left but what `detach` removes.
        """
        uid, network = pod.metadata.uid, self._network
        if network is None:
            raise NetworkError("cni plugin not initialized")
        self.detach(uid)
        path = self.path(uid)
        namespaces.create(path, _prepare)
        call = Invocation("ADD", secrets.token_hex(32), str(path), INTERFACE, path=self._path)
        call = call._replace(arguments=_arguments(pod, call.container))
        record = _Record(network, call, self._told(network, pod), None)
        self._keep(uid, record)
        try:
            result = chain.add(network, call, record.told)
            addresses = _addresses(result)
        except CniError as error:
            self._undo(uid)
            text = f'failed to setup network for sandbox "{call.container}": {error}'
            raise NetworkError(text) from None
        self._keep(uid, record._replace(result=result, addresses=addresses))
        return Attachment(path, list(addresses))

    def detach(self, pod_uid: str) -> None:
        """Take a pod's network away. Idempotent. Raises OSError; then call again."""
        record = self._records.get(pod_uid)
        path = self.path(pod_uid)
        if record is not None:
            there = str(path) if namespaces.is_pinned(path) else ""
            try:
                chain.delete(record.network, record.call._replace(namespace=there), record.told, record.result)
            except CniError as error:
                raise NetworkError(f"failed to destroy network for sandbox {record.call.container}: {error}") from None
        namespaces.remove(path)
        self._records.pop(pod_uid, None)
        (self._directory / f"{pod_uid}.json").unlink(missing_ok=True)

    def look(self) -> str:
        """Why the network cannot take pods, in the words of its plugins; empty when it can."""
        try:
            if self._network is not None:
                chain.status(self._network, self._path)
        except CniError as error:
            return str(error)
        return ""

    def clear_up(self) -> None:
        """Have the plugins forget all attachments but ours, and tell of those that are not as they were made."""
        for record in list(self._records.values()):
            try:
                if record.result is not None:
                    chain.check(record.network, record.call, record.told, record.result)
            except CniError as error:
                log.warning("the network of pod %s: %s", record.call.arguments.get("K8S_POD_NAME"), error)
        network = self._network
        if network is None:
            return
        mine = [record.call for record in list(self._records.values()) if record.network.name == network.name]
        try:
            chain.collect(network, self._path, mine)
        except CniError as error:
            log.warning("network %s: %s", network.name, error)

    def _undo(self, uid: str) -> None:
        try:
            self.detach(uid)
        except OSError as error:
            log.warning("after a failure to add: %s; again when the pod is tried again or ends", error)

    def _told(self, network: NetworkList, pod: core.Pod) -> JSON:
        told: JSON = {"portMappings": _port_mappings(pod)}
        if network.capable("ipRanges") and self._pod_cidrs:
            told["ipRanges"] = [[{"subnet": str(cidr)}] for cidr in self._pod_cidrs]
        return told

    def _keep(self, uid: str, record: _Record) -> None:
        data = {
            "network": record.network.raw,
            "environment": record.call.environment(),
            "capabilities": record.told,
            "result": record.result,
        }
        path, new = self._directory / f"{uid}.json", self._directory / f".{uid}"
        new.write_text(json.dumps(data))
        new.rename(path)
        self._records[uid] = record


def _read(path: Path) -> _Record:
    data = json.loads(path.read_bytes())
    addresses = _addresses(data["result"]) if data["result"] is not None else ()
    call = Invocation.parse(data["environment"])
    return _Record(lists.parse(data["network"]), call, data["capabilities"], data["result"], addresses)


def _prepare() -> None:
    """The pod's namespace before the plugins see it."""
    sysctl.write(POD_SYSCTLS)
    route = netlink.NetlinkSocket(netlink.ROUTE)
    try:
        route.request([links.link_up(links.LOOPBACK)])
    finally:
        route.close()


def _addresses(result: JSON) -> tuple[Address, ...]:
    """Those inside of the container. Raises CniError when there are none."""
    found = decode(result)
    inside = [
        ip.address
        for ip in found.ips
        if ip.interface is None or (ip.interface < len(found.interfaces) and found.interfaces[ip.interface].sandbox)
    ]
    if not inside:
        raise CniError(0, "failed to get IP addresses from the plugins' result")
    return tuple(inside)


def _arguments(pod: core.Pod, container: str) -> dict[str, str]:
    """CNI_ARGS as containerd has them."""
    meta = pod.metadata
    return {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": meta.namespace,
        "K8S_POD_NAME": meta.name,
        "K8S_POD_INFRA_CONTAINER_ID": container,
        "K8S_POD_UID": meta.uid,
    }


def _port_mappings(pod: core.Pod) -> list[JSON]:
    """For the capability of that name."""
    return [
        {
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": (port.protocol or "TCP").lower(),
            "hostIP": port.host_ip,
        }
        for container in pod.spec.containers + [each for each in pod.spec.init_containers if is_sidecar(each)]
        for port in container.ports
        if port.host_port
    ]
