"""Whether an address of a pod accepts on the ports that its containers declare, and how that is told. Pure.

A dual-stack Service sends traffic to both addresses of a pod, although a program may listen in one family alone:
a socket bound to 0.0.0.0 hears no IPv6, one bound to :: with IPV6_V6ONLY no IPv4. Readiness probes do not notice,
since they ask at the primary address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from twinstack.api import core
from twinstack.api.meta import Condition
from twinstack.ip import Address, IPFamily
from twinstack.linux.listeners import TCP, UDP, Listener
from twinstack.node.lifecycle import is_sidecar

CONDITIONS = {family: f"twinstack.io/Listening{family.value}" for family in IPFamily}
PROTOCOLS = {"TCP": TCP, "UDP": UDP}  # the kernel does not list listeners of SCTP
MOST_NAMED = 20  # ports in a message


class Port(NamedTuple):
    number: int
    protocol: str

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


class Finding(NamedTuple):
    """What one look at one address came to. `refusing`: with the addresses to which the port is bound instead."""

    address: Address
    accepting: tuple[Port, ...] = ()
    refusing: tuple[tuple[Port, tuple[str, ...]], ...] = ()

    def improves(self, other: Finding) -> bool:
        """Whether nothing is worse than in the other one."""
        return self.address == other.address and set(self.accepting) >= set(other.accepting)


def declared(pod: core.Pod) -> tuple[Port, ...]:
    """The ports of all containers that stay."""
    staying = [*pod.spec.containers, *filter(is_sidecar, pod.spec.init_containers)]
    ports = {Port(p.container_port, p.protocol or "TCP") for container in staying for p in container.ports}
    return tuple(sorted(port for port in ports if port.protocol in PROTOCOLS))


def judge(ports: Iterable[Port], address: Address, listeners: Sequence[Listener]) -> Finding:
    accepting, refusing = [], []
    for port in ports:
        bound = [it for it in listeners if (it.port, it.protocol) == (port.number, PROTOCOLS[port.protocol])]
        if any(listener.accepts(address) for listener in bound):
            accepting.append(port)
        else:
            refusing.append((port, tuple(sorted({_place(listener) for listener in bound}))))
    return Finding(address, tuple(accepting), tuple(refusing))


def _place(listener: Listener) -> str:
    text = str(listener.address)
    return f"{text} for IPv6 alone" if listener.only_ipv6 and listener.address.value == 0 else text


def condition(finding: Finding) -> Condition:
    """The pod's condition about the family of an address."""
    kind = CONDITIONS[finding.address.family]
    accepted = f"accepts on {_listed(map(str, finding.accepting))}"
    if not finding.refusing:
        return Condition(type=kind, status="True", reason="AllPortsAccept", message=f"{finding.address} {accepted}")
    refused = _listed(
        f"{port} (bound to {', '.join(places)})" if places else f"{port} (not bound)"
        for port, places in finding.refusing
    )
    message = f"{finding.address} does not accept on {refused}"
    if finding.accepting:
        message += f"; it {accepted}"
    return Condition(type=kind, status="False", reason="PortsDoNotAccept", message=message)


def _listed(texts: Iterable[str]) -> str:
    every = list(texts)
    more = len(every) - MOST_NAMED
    return ", ".join(every[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
