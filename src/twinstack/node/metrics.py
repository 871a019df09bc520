"""What the agent tells about its pods' sockets, in the Prometheus text format. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from twinstack.api import core
from twinstack.node.listening.observer import Findings, Observer
from twinstack.node.listening.verdict import Finding, Port

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ACCEPTS = """\
# HELP twinstack_node_pod_port_accepts Whether a pod accepts on a declared container port at its address of a family.
# TYPE twinstack_node_pod_port_accepts gauge
"""
_LOOKS = """\
# HELP twinstack_node_listening_looks_total Looks at the sockets of a pod.
# TYPE twinstack_node_listening_looks_total counter
twinstack_node_listening_looks_total {}
# HELP twinstack_node_listening_cpu_seconds_total CPU time of these looks.
# TYPE twinstack_node_listening_cpu_seconds_total counter
twinstack_node_listening_cpu_seconds_total {:.6f}
"""


class Told(Protocol):
    """An agent."""

    pods: dict[str, core.Pod]
    observer: Observer


def text(agent: Told) -> str:
    observer = agent.observer
    return _ACCEPTS + "".join(_accepts(agent.pods, observer.all())) + _LOOKS.format(observer.looks, observer.seconds)


def _accepts(pods: Mapping[str, core.Pod], told: Mapping[str, Findings]) -> Iterator[str]:
    for uid, findings in told.items():
        pod = pods.get(uid)
        if pod is None:
            continue
        meta = pod.metadata
        for finding in findings:
            for port, value in _ports(finding):
                labels = {
                    "namespace": meta.namespace,
                    "pod": meta.name,
                    "port": str(port.number),
                    "protocol": port.protocol,
                    "ip_family": finding.address.family.value,
                }
                pairs = ",".join(f'{name}="{label}"' for name, label in labels.items())
                yield f"twinstack_node_pod_port_accepts{{{pairs}}} {value}\n"


def _ports(finding: Finding) -> Iterator[tuple[Port, int]]:
    for port in finding.accepting:
        yield port, 1
    for port, _ in finding.refusing:
        yield port, 0
