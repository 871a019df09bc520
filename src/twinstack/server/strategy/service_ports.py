"""Node ports: which numbers a write takes and which it gives back.

One pool for all protocols, and for health-check ports too: a number is taken or it is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from twinstack.api.core import ServicePort, ServiceSpec
from twinstack.api.errors import FieldError, StatusError, internal_error, invalid
from twinstack.ip.allocator import port_bands
from twinstack.server.strategy import service_traits as traits
from twinstack.store import Put

PORT_KEYS = "nodeports/"  # storage keys of taken ports: a port is taken while its key exists


def port_key(port: int) -> str:
    return f"{PORT_KEYS}{port}"


def port_record(port: int, namespace: str, service: str) -> Put:
    """Takes a port for a Service, if nobody has it."""
    owner = msgspec.json.encode({"namespace": namespace, "name": service})
    return Put(port_key(port), lambda _revision: owner, expect=0)


class RefusedError(ValueError):
    """The port that was asked for is not to be had; the text says why."""


class PortPlan:
    """Node ports that one request takes and gives back, released ones being free only after the write."""

    def __init__(self, ports: range, is_stored: Callable[[int], bool]) -> None:
        self.ports = ports
        self._is_stored = is_stored
        self.taken: set[int] = set()
        self.released: set[int] = set()

    def is_taken(self, port: int) -> bool:
        """Whether the port is stored as taken, or taken by this request."""
        return port in self.taken or self._is_stored(port)

    def take(self, port: int) -> None:
        """Raises RefusedError."""
        if port not in self.ports:
            first, last = self.ports.start, self.ports.stop - 1
            raise RefusedError(f"provided port is not in the valid range. The range of valid ports is {first}-{last}")
        if self.is_taken(port):
            raise RefusedError("provided port is already allocated")
        self.taken.add(port)

    def take_any(self) -> int:
        """Raises RefusedError when all are taken."""
        port = port_bands(self.ports).choose(self.is_taken)
        if port is None:
            raise RefusedError("range is full")
        self.taken.add(port)
        return port

    def release(self, ports: Iterable[int]) -> None:
        self.released.update(ports)


def plan_node_ports(new: ServiceSpec, old: ServiceSpec | None, plan: PortPlan) -> list[FieldError]:
    """Fill the node ports of `new`, in place. Raises StatusError 500 when the range is full."""
    if old is None:
        return _plan_create(new, plan) if traits.may_have_node_ports(new) else []
    held = traits.node_ports(old)
    if not traits.may_have_node_ports(new):
        plan.release(held)
        return []
    errors = _plan_update(new, held | _unjudged(old, plan.ports), plan)
    if not errors:
        plan.release(held - {port.node_port for port in new.ports})
    return errors


def _unjudged(old: ServiceSpec, ports: range) -> set[int]:
    """Numbers that no type can be given, but an ExternalName Service may name: upstream takes them for held."""
    return {port.node_port for port in old.ports if port.node_port and port.node_port not in ports}


def _plan_create(new: ServiceSpec, plan: PortPlan) -> list[FieldError]:
    """Ports with one number, as 53/UDP and 53/TCP, share one node port."""
    asked: dict[int, int] = {}  # port -> the first node port that is asked for
    for port in new.ports:
        if port.node_port:
            asked.setdefault(port.port, port.node_port)
    shared: dict[int, int] = {}  # port -> node port
    for index, port in enumerate(new.ports):
        if not port.node_port and not traits.needs_node_ports(new):
            continue
        given = shared.get(port.port)
        if given is not None and port.node_port in (0, given):
            port.node_port = given
            continue
        if given is None:
            port.node_port = asked.get(port.port, 0)
        errors = _take(index, port, plan)
        if errors:
            return errors
        shared.setdefault(port.port, port.node_port)
    return []


def _plan_update(new: ServiceSpec, held: set[int], plan: PortPlan) -> list[FieldError]:
    """Every port for itself. A number may serve two protocols, but not one protocol twice."""
    seen: set[tuple[str, int]] = set()
    for index, port in enumerate(new.ports):
        if not port.node_port and not traits.needs_node_ports(new):
            continue
        if port.node_port not in held and port.node_port not in plan.taken:
            errors = _take(index, port, plan)
            if errors:
                return errors
        pair = (port.protocol, port.node_port)
        if pair in seen:
            raise StatusError(500, "", f"duplicate nodePort: {{{port.protocol} {port.node_port}}}")
        seen.add(pair)
    return []


def _take(index: int, port: ServicePort, plan: PortPlan) -> list[FieldError]:
    """The node port that `port` names; any if it names none."""
    try:
        if port.node_port:
            plan.take(port.node_port)
        else:
            port.node_port = plan.take_any()
    except RefusedError as error:
        if not port.node_port:
            raise internal_error(f"failed to allocate a nodePort: {error}") from None
        return [invalid(f"spec.ports[{index}].nodePort", port.node_port, str(error))]
    return []


def plan_health_check_port(new: ServiceSpec, old: ServiceSpec | None, plan: PortPlan) -> None:
    """Fill `healthCheckNodePort` of `new`, in place. Raises StatusError 500 when it is not to be had."""
    had = old is not None and traits.needs_health_check_port(old)
    needs = traits.needs_health_check_port(new)
    if old is not None and had and not needs:
        plan.release({old.health_check_node_port} - {0})
    if had or not needs:
        return
    port = new.health_check_node_port
    try:
        if port:
            plan.take(port)
        else:
            new.health_check_node_port = plan.take_any()
    except RefusedError as error:
        what = f"requested HealthCheck NodePort {port}" if port else "a HealthCheck NodePort 0"
        raise internal_error(f"failed to allocate {what}: {error}") from None
