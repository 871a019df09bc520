"""What all pods of a node share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from twinstack.api import core
from twinstack.client.rest import Client
from twinstack.ip import IPFamily
from twinstack.node.environment import Link
from twinstack.node.hostports import HostPorts
from twinstack.node.images.pod import Images
from twinstack.node.listening.observer import Observer
from twinstack.node.network import Network
from twinstack.node.probes.prober import Prober
from twinstack.node.reporting import Recorder
from twinstack.node.runtime.base import Runtime
from twinstack.node.sources import SourceReader


class NodeContext(NamedTuple):
    """`changed` is told the uid of a pod that something happened to, so that it is looked at again.

    `allocatable`: what pods can have of the node, `memory`: what the machine has, in bytes. `refresh_period`: seconds
    in which changed ConfigMaps and Secrets are shown.
    """

    client: Client
    runtime: Runtime
    images: Images
    network: Network
    host_ports: HostPorts
    recorder: Recorder
    prober: Prober
    observer: Observer
    node_name: str
    node_ips: Sequence[str]
    primary: IPFamily
    cluster_dns: Sequence[str]
    cluster_domain: str
    node_resolver: str
    node_hosts: str
    allocatable: Mapping[str, str]
    memory: int
    refresh_period: float
    pod_max_pids: int  # that a pod may have; none for no limit
    links: Callable[[core.Pod], list[Link]]
    sources: SourceReader
    neighbours: Callable[[str], list[core.Pod]]  # the pods that were here before the one with this uid
    changed: Callable[[str], None]
