"""What all pods of a node share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from twinstack.api import core
from twinstack.client.rest import Client
from twinstack.ip import IPFamily
from twinstack.node.network import PodNetwork
from twinstack.node.probes.prober import Prober
from twinstack.node.reporting import Recorder
from twinstack.node.runtime.base import Runtime


class NodeContext(NamedTuple):
    """`services` gives those whose variables the containers of a namespace get, and None until they are known.

    `changed` is told the uid of a pod that something happened to, so that it is looked at again.
    """

    client: Client
    runtime: Runtime
    network: PodNetwork
    recorder: Recorder
    prober: Prober
    node_name: str
    node_ips: Sequence[str]
    primary: IPFamily
    cluster_dns: Sequence[str]
    cluster_domain: str
    node_resolver: str
    node_hosts: str
    services: Callable[[core.Pod], list[core.Service]]
    changed: Callable[[str], None]
