"""Services: the rules of the other `service_*` modules in the API server's order, and their allocations.

A request is answered by the first of these stages that fails: cluster IP fields, families, addresses, node
ports, health-check port, and then everything else at once. So a write may have planned allocations when it is
refused; nothing comes of them, because a plan is only carried out in the transaction that writes the Service.

Objects are stored as they are shown. One thing stands beside them: the `internalTrafficPolicy` of an ExternalName
Service, which is hidden until a patch changes the type back (`service_hidden`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from twinstack.api.core import LoadBalancerStatus, Service, ServiceSpec, ServiceStatus
from twinstack.api.errors import FieldError
from twinstack.api.meta import ObjectMeta
from twinstack.api.resources import resource
from twinstack.api.validation import dns_label
from twinstack.ip import Address
from twinstack.server.strategy import service_defaults as defaults
from twinstack.server.strategy import service_traits as traits
from twinstack.server.strategy.base import JSON, Change, Reader, Strategy, WriteContext
from twinstack.server.strategy.ipaddresses import allocated_address, belongs_to, record_refusal
from twinstack.server.strategy.service_addresses import AddressPlan, ServiceRange, plan_addresses, ready_ranges
from twinstack.server.strategy.service_dry_run import RehearsedAddresses, RehearsedPorts
from twinstack.server.strategy.service_families import assign_families
from twinstack.server.strategy.service_hidden import forget_policy, keep_policy, unveil_policy
from twinstack.server.strategy.service_ports import (
    PortPlan,
    plan_health_check_port,
    plan_node_ports,
    port_key,
    port_record,
)
from twinstack.server.strategy.service_status import default_ingress, shown_status, validate_status
from twinstack.server.strategy.service_update_validation import validate_update
from twinstack.server.strategy.service_validation import validate_spec
from twinstack.server.strategy.service_warnings import service_warnings, status_warnings
from twinstack.store import Delete, Operation, Put

_IP_ADDRESSES = resource("networking.k8s.io", "ipaddresses")
_SERVICE_CIDRS = resource("networking.k8s.io", "servicecidrs")


def _read_spec(obj: JSON) -> ServiceSpec:
    return msgspec.convert(obj.get("spec") or {}, ServiceSpec)


def _typed(obj: JSON, spec: ServiceSpec) -> Service:
    """The parts that rules look at."""
    annotations = obj["metadata"].get("annotations") or {}
    return Service(metadata=ObjectMeta(annotations=annotations), spec=spec)


class _Plan:
    """What one write takes from and gives back to the stored allocations."""

    def __init__(self, ctx: WriteContext, obj: JSON) -> None:
        self._ctx = ctx
        self._meta: JSON = obj["metadata"]
        reader = ctx.reader
        addresses, ports = (RehearsedAddresses, RehearsedPorts) if ctx.dry_run else (AddressPlan, PortPlan)
        self.addresses = addresses(
            self._ranges,
            lambda address: reader.exists(_address_key(address)),
            lambda address: record_refusal(address, self._meta["namespace"], self._meta.get("name", "")),
        )
        self.ports = ports(ctx.config.node_ports, lambda port: reader.exists(port_key(port)))

    def _ranges(self) -> list[ServiceRange]:
        families = traits.configured_families(self._ctx.config.service_ranges)
        return [r for r in ready_ranges(self._ctx.reader.list(_SERVICE_CIDRS)) if r.cidr.family in families]

    def allocate(self, new: ServiceSpec, old: ServiceSpec | None) -> list[FieldError]:
        """Everything the server chooses, in place; the errors of the first stage that has any."""
        families = traits.configured_families(self._ctx.config.service_ranges)
        errors = (
            assign_families(new, old, families)
            or plan_addresses(self._meta.get("name", ""), new, old, self.addresses)
            or plan_node_ports(new, old, self.ports)
        )
        if not errors:
            plan_health_check_port(new, old, self.ports)
        return errors

    def operations(self) -> list[Operation]:
        return [*self._takes(), *_releases(self._ctx, self._meta, self.addresses.released, self.ports.released)]

    def _takes(self) -> Iterable[Operation]:
        namespace, name = self._meta["namespace"], self._meta["name"]
        for address in self.addresses.taken:
            yield Put(_address_key(address), allocated_address(address, namespace, name, self._ctx.now), expect=0)
        for port in sorted(self.ports.taken):
            yield port_record(port, namespace, name)


def _address_key(address: Address) -> str:
    return _IP_ADDRESSES.key("", str(address))


def _releases(ctx: WriteContext, meta: JSON, addresses: Iterable[Address], ports: Iterable[int]) -> Iterable[Operation]:
    """Give back what is still there. A record that has another owner by now is left alone."""
    for address in addresses:
        record = ctx.reader.get(_IP_ADDRESSES, "", str(address))
        if record and belongs_to(record, meta["namespace"], meta["name"]):
            yield Delete(_address_key(address), expect=int(record["metadata"]["resourceVersion"]))
    for port in sorted(ports):
        if ctx.reader.exists(port_key(port)):
            yield Delete(port_key(port), expect=None)


class ServiceStrategy(Strategy):
    """core/v1 Service."""

    name_rule = staticmethod(dns_label)

    def default(self, obj: JSON) -> None:
        spec = _read_spec(obj)
        defaults.apply_defaults(spec)
        obj["spec"] = msgspec.to_builtins(spec)
        if spec.type == traits.LOAD_BALANCER:
            default_ingress(obj)

    def unveil(self, reader: Reader, obj: JSON) -> JSON:
        return unveil_policy(reader, obj)

    def create(self, ctx: WriteContext, obj: JSON) -> Change:
        spec = _read_spec(obj)
        defaults.normalise_create(spec)
        plan = _Plan(ctx, obj)
        self._check(ctx, obj, plan.allocate(spec, None))
        service = _typed(obj, spec)
        self._check(ctx, obj, [*self.metadata_on_create(ctx, obj), *validate_spec(service, None)])
        also = [*plan.operations(), *keep_policy(ctx, obj["metadata"], spec)]
        stored = obj | {"spec": _shown(spec), "status": {"loadBalancer": {}}}
        return Change(object=stored, also=also, warnings=service_warnings(service))

    def update(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        spec, old_spec = _read_spec(new), _read_spec(old)
        defaults.decorate(old_spec, ctx.config.service_ranges[0].family)
        defaults.keep_allocated(spec, old_spec)
        defaults.normalise_update(spec, old_spec)
        plan = _Plan(ctx, old)
        self._check(ctx, new, plan.allocate(spec, old_spec))
        defaults.wipe_dependent(spec, old_spec)
        service = _typed(new, spec)
        errors = [
            *self.metadata_on_update(ctx, new, old),
            *validate_update(spec, old_spec),
            *validate_spec(service, _typed(old, old_spec)),
        ]
        self._check(ctx, new, errors)
        status = shown_status(old.get("status"))
        if spec.type != traits.LOAD_BALANCER:
            status["loadBalancer"] = {}
        also = [*plan.operations(), *keep_policy(ctx, old["metadata"], spec)]
        stored = new | {"spec": _shown(spec), "status": status}
        return Change(object=stored, also=also, warnings=service_warnings(service))

    def update_status(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        stored = new | {"spec": old["spec"], "status": shown_status(new.get("status"))}
        balancer = msgspec.convert(stored["status"]["loadBalancer"], LoadBalancerStatus)
        service = Service(spec=_read_spec(old), status=ServiceStatus(load_balancer=balancer))
        old_ips = {item.get("ip") for item in shown_status(old.get("status"))["loadBalancer"].get("ingress", ())}
        self._check(ctx, new, [*self.metadata_on_update(ctx, new, old), *validate_status(service, old_ips)])
        return Change(object=stored, warnings=status_warnings(service))

    def delete(self, ctx: WriteContext, old: JSON) -> list[Operation]:
        spec = _read_spec(old)
        defaults.decorate(spec, ctx.config.service_ranges[0].family)
        plan = AddressPlan(list, lambda _: True)
        if spec.type != traits.EXTERNAL_NAME:
            plan.release(spec.cluster_ips)
        ports = traits.node_ports(spec)
        if traits.needs_health_check_port(spec) and spec.health_check_node_port:
            ports.add(spec.health_check_node_port)
        return [*_releases(ctx, old["metadata"], plan.released, ports), *forget_policy(ctx, old["metadata"])]


def _shown(spec: ServiceSpec) -> dict[str, Any]:
    """The spec as it is stored and shown."""
    if spec.type == traits.EXTERNAL_NAME:
        spec.internal_traffic_policy = None
    fields: dict[str, Any] = msgspec.to_builtins(spec)
    return fields
