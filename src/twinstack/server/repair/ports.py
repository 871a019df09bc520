"""Node ports: every port of a Service has its record, every record its Service. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from twinstack.api.core import Service
from twinstack.server.repair.findings import Finding
from twinstack.server.strategy import service_traits as traits
from twinstack.server.strategy.service_ports import port_record
from twinstack.store import Operation

_ROUNDS = 3  # after which a port without a Service is taken for a leak


def held_ports(service: Service) -> set[int]:
    """Node ports and the port of the health check. A number that serves two protocols counts once."""
    ports = traits.node_ports(service.spec)
    if traits.needs_health_check_port(service.spec):
        ports.add(service.spec.health_check_node_port)
    return ports - {0}


def port_findings(services: Iterable[Service], recorded: Collection[int], ports: range) -> Iterator[Finding]:
    """What is wrong with the node ports of all Services. `recorded` are those that are stored as taken."""
    held: set[int] = set()
    for service in services:
        for port in sorted(held_ports(service)):
            finding = _check(service, port, held, recorded, ports)
            held.add(port)
            if finding is not None:
                yield finding


def _check(service: Service, port: int, held: set[int], recorded: Collection[int], ports: range) -> Finding | None:
    def found(reason: str, note: str, mend: Operation | None = None) -> Finding:
        return Finding(service, reason, "PortAllocation", note, mend)

    if port not in ports:
        shown = f"{ports.start}-{ports.stop - 1}"
        return found("PortOutOfRange", f"Port {port} is not within the port range {shown}; please recreate service")
    if port in held:
        return found("PortAlreadyAllocated", f"Port {port} was assigned to multiple services; please recreate service")
    if port not in recorded:
        record = port_record(port, service.metadata.namespace, service.metadata.name)
        return found("PortNotAllocated", f"Port {port} is not allocated; repairing", record)
    return None


class Leaks:
    """Remembers from round to round which ports nobody holds."""

    def __init__(self) -> None:
        self._rounds: dict[int, int] = {}

    def round(self, unowned: Iterable[int]) -> list[int]:
        """Those of the ports without a Service that have been so for three rounds in a row."""
        self._rounds = {port: self._rounds.get(port, 0) + 1 for port in unowned}
        return sorted(port for port, rounds in self._rounds.items() if rounds >= _ROUNDS)
