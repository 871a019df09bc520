"""IPAddress objects: the records of who holds a cluster IP (KEP-1880)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from twinstack.api.errors import FieldError, invalid, invalid_object, required
from twinstack.api.metadata import IMMUTABLE
from twinstack.api.networking import IPAddressSpec, ParentReference
from twinstack.api.validation import canonical_ip, dns_subdomain, each, path_segment
from twinstack.ip import Address
from twinstack.server.strategy.base import JSON, Strategy, WriteContext
from twinstack.server.uuids import random_uuid

FAMILY_LABEL = "ipaddress.kubernetes.io/ip-family"
MANAGED_LABEL = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"

# The fields of an allocated address, all of which the server manages.
_FIELDS = msgspec.Raw(
    msgspec.json.encode(
        {
            "f:metadata": {"f:labels": {".": {}, f"f:{FAMILY_LABEL}": {}, f"f:{MANAGED_LABEL}": {}}},
            "f:spec": {"f:parentRef": {".": {}, "f:name": {}, "f:namespace": {}, "f:resource": {}}},
        }
    )
)


def allocated_address(address: Address, namespace: str, service: str, now: str) -> Callable[[int], bytes]:
    """The record of an address that a Service gets, encoded once its revision is known."""
    record: JSON = {
        "kind": "IPAddress",  # first, as plans write objects: lists cut this beginning off
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "resourceVersion": "",  # first: `store.Put`
            "name": str(address),
            "uid": random_uuid(),
            "creationTimestamp": now,
            "labels": {FAMILY_LABEL: str(address.family), MANAGED_LABEL: ALLOCATOR},
            "managedFields": [
                {
                    "manager": "kube-apiserver",
                    "operation": "Update",
                    "apiVersion": "networking.k8s.io/v1",
                    "time": now,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": _FIELDS,
                }
            ],
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    }

    def encode(revision: int) -> bytes:
        record["metadata"]["resourceVersion"] = str(revision)
        return msgspec.json.encode(record)

    return encode


def record_refusal(address: Address, namespace: str, service: str) -> str:
    """Why the record of an address cannot be made for a Service of that name; empty if it can."""
    errors = _parent(ParentReference(resource="services", namespace=namespace, name=service))
    return invalid_object("IPAddress", str(address), errors, "networking.k8s.io").message if errors else ""


def belongs_to(record: JSON, namespace: str, service: str) -> bool:
    """Whether an IPAddress object says that this Service holds it."""
    parent = record["spec"]["parentRef"]
    return (parent.get("group", ""), parent["resource"], parent.get("namespace"), parent["name"]) == (
        "",
        "services",
        namespace,
        service,
    )


class IPAddressStrategy(Strategy):
    """networking.k8s.io/v1 IPAddress: a name that is an address, a parent that never changes."""

    name_rule = staticmethod(canonical_ip)

    def default(self, obj: JSON) -> None:
        obj["spec"] = msgspec.to_builtins(_spec(obj))

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        parent = _spec(obj).parent_ref
        errors = _parent(parent)
        if old and parent != _spec(old).parent_ref:
            errors.append(invalid("spec.parentRef", parent and _internal(parent), IMMUTABLE))
        return errors


def _spec(obj: JSON) -> IPAddressSpec:
    return msgspec.convert(obj.get("spec") or {}, IPAddressSpec)


def _internal(parent: ParentReference) -> JSON:
    """As errors print it: by the field names of the server's internal type."""
    return {"Group": parent.group, "Resource": parent.resource, "Namespace": parent.namespace, "Name": parent.name}


def _parent(parent: ParentReference | None) -> list[FieldError]:
    field = "spec.parentRef"
    if parent is None:
        return [required(field)]
    errors = each(f"{field}.group", parent.group, dns_subdomain(parent.group)) if parent.group else []
    if parent.resource:
        errors += each(f"{field}.resource", parent.resource, path_segment(parent.resource))
    else:
        errors.append(required(f"{field}.resource"))
    if parent.name:
        errors += each(f"{field}.name", parent.name, path_segment(parent.name))
    else:
        errors.append(required(f"{field}.name"))
    if parent.namespace:
        errors += each(f"{field}.namespace", parent.namespace, path_segment(parent.namespace))
    return errors
