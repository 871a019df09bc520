"""What a resize of a Pod may change (subresource `resize`, KEP-1287): cpu and memory, of containers and as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twinstack.api.errors import FieldError, StatusError, forbidden, forbidden_field, invalid
from twinstack.api.quotas.pods import requested
from twinstack.api.resources import resource
from twinstack.api.scalars import quantity
from twinstack.server.strategy.base import Reader
from twinstack.server.strategy.pod_qos import qos_class

JSON = dict[str, Any]

_NODES = resource("", "nodes")
_MIRROR = "kubernetes.io/config.mirror"
_OS = "kubernetes.io/os"
_KINDS = ("containers", "initContainers")
_RESIZED = ("cpu", "memory")
_PARTS = ("requests", "limits")
# What a node must say that it can (status.declaredFeatures, KEP-5328) before a Pod of its is resized that way.
_POD_LEVEL, _INIT_CONTAINERS = "InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers"


def resized(new: JSON, old: JSON) -> JSON:
    """The spec `old` with what a resize takes of `new`: the rest of it is ignored.

    Containers that were added, removed, renamed or moved come through for `resize_errors` to see.
    """
    if any(len(new.get(kind) or []) != len(old.get(kind) or []) for kind in _KINDS):
        return new
    spec = dict(old)
    for kind in _KINDS:
        if old.get(kind):
            spec[kind] = _resized_containers(new[kind], old[kind])
    _take(spec, new, ("resources",))
    return spec


def _resized_containers(new: Sequence[JSON], old: Sequence[JSON]) -> Sequence[JSON]:
    if [each.get("name") for each in new] != [each.get("name") for each in old]:
        return new
    merged = [dict(each) for each in old]
    for container, wanted in zip(merged, new, strict=True):
        _take(container, wanted, ("resources", "resizePolicy"))
    return merged


def _take(into: JSON, given: JSON, names: Sequence[str]) -> None:
    for name in names:
        if name in given:
            into[name] = given[name]
        else:
            into.pop(name, None)


def resize_errors(new: JSON, old: JSON, status: JSON, annotations: Mapping[str, str]) -> list[FieldError]:
    """`new` and `old` are specs; the Pod was in this state. An error that ends the check upstream ends it here."""
    if _MIRROR in annotations:
        return [forbidden_field("", "static pods cannot be resized")]
    if (old.get("os") or {}).get("name") == "windows":
        return [forbidden_field("", "windows pods cannot be resized")]
    errors: list[FieldError] = []
    before = status.get("qosClass") or qos_class(old)
    if before != qos_class(new):
        errors.append(invalid("spec", before, "Pod QOS Class may not change as a result of resizing"))
    if not _is_supported(status):
        errors.append(forbidden_field("spec", "Pod running on node without support for resize"))
    errors += _pod_level_errors(new.get("resources"), old.get("resources"))
    if status.get("nodeAllocatableResourceClaimStatuses"):
        errors.append(forbidden_field("spec", "pods with node allocatable resource claims cannot be resized"))
    moved = [error for kind in _KINDS for error in _order_errors(new.get(kind) or [], old.get(kind) or [], kind)]
    if moved:
        return errors + moved
    for kind in reversed(_KINDS):
        for i, (now, was) in enumerate(_pairs(new, old, kind)):
            errors += _removal_errors(now.get("resources"), was.get("resources"), f"spec.{kind}[{i}].resources", "")
    for now, was in _pairs(new, old, "containers"):
        if _differs_otherwise(now, was):
            errors.append(forbidden_field("spec", "only cpu and memory resources are mutable"))
    for i, (now, was) in enumerate(_pairs(new, old, "initContainers")):
        errors += _init_errors(now, was, f"spec.initContainers[{i}]")
    return errors


def _pairs(new: JSON, old: JSON, kind: str) -> Iterator[tuple[JSON, JSON]]:
    return zip(new.get(kind) or [], old.get(kind) or [], strict=True)


def _is_supported(status: JSON) -> bool:
    """A node that can resize tells what its running containers have."""
    running = (each for each in status.get("containerStatuses") or [] if (each.get("state") or {}).get("running"))
    first = next(running, None)
    return first is None or first.get("resources") is not None


def _order_errors(new: Sequence[JSON], old: Sequence[JSON], kind: str) -> Iterator[FieldError]:
    if len(new) != len(old):
        yield forbidden_field(f"spec.{kind}", f"{kind} may not be added or removed on resize")
        return
    for i, (now, was) in enumerate(zip(new, old, strict=True)):
        if now.get("name") != was.get("name"):
            yield forbidden_field(f"spec.{kind}[{i}].name", f"{kind} may not be renamed or reordered on resize")


def _removal_errors(new: JSON | None, old: JSON | None, field: str, whose: str) -> Iterator[FieldError]:
    """What was requested or limited once stays so."""
    for part, title in (("requests", "resource requests"), ("limits", "resource limits")):
        if ((old or {}).get(part) or {}).keys() - ((new or {}).get(part) or {}).keys():
            yield forbidden_field(f"{field}.{part}", f"{whose}{title} cannot be removed")


def _pod_level_errors(new: JSON | None, old: JSON | None) -> list[FieldError]:
    if new is None:
        return [forbidden_field("spec.resources", "pod-level resources cannot be removed")] if old is not None else []
    errors = list(_removal_errors(new, old, "spec.resources", "pod-level "))
    if _other_resources(new) != _other_resources(old):
        errors.append(forbidden_field("spec", "only cpu and memory resources are mutable at pod-level"))
    return errors


def _init_errors(new: JSON, old: JSON, field: str) -> Iterator[FieldError]:
    if _differs_otherwise(new, old):
        yield forbidden_field(field, "only cpu and memory resources for init or sidecar containers are mutable")
    restarts = any(policy.get("restartPolicy") == "RestartContainer" for policy in new.get("resizePolicy") or [])
    if new != old and new.get("restartPolicy") != "Always" and restarts:
        detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
        yield forbidden_field(field, detail)


def _differs_otherwise(new: JSON, old: JSON) -> bool:
    """In something else than cpu and memory."""
    if _other_resources(new.get("resources")) != _other_resources(old.get("resources")):
        return True
    names = (new.keys() | old.keys()) - {"resources"}
    return any((new.get(name) or None) != (old.get(name) or None) for name in names)


def _other_resources(resources: JSON | None) -> JSON:
    held = resources or {}
    kept: JSON = {
        part: {name: quantity(text) for name, text in (held.get(part) or {}).items() if name not in _RESIZED}
        for part in _PARTS
    }
    return kept | {"claims": held.get("claims") or []}


def check_node(reader: Reader, name: str, new: JSON, old: JSON) -> None:
    """Whether the node of a Pod that is resized has room and can do it. `new` and `old` are specs.

    Admission plugins PodResizeValidator and NodeDeclaredFeatureValidator. Raises StatusError 403.
    """
    node_name = new.get("nodeName")
    if not node_name or new == old:
        return
    node = reader.get(_NODES, "", node_name)
    if node is None:
        raise forbidden("pods", name, f'node "{node_name}" not found')
    status = node.get("status") or {}
    lacking = sorted(_needed(new, old) - {*(status.get("declaredFeatures") or [])})
    if lacking:
        detail = f'pod update requires features {", ".join(lacking)} which are not available on node "{node_name}"'
        raise forbidden("pods", name, detail)
    short = list(_shortage(requested(new), status.get("allocatable") or {}))
    if short:
        detail = f"Node didn't have enough allocatable resources: {'; '.join(short)}"
        raise _caused(forbidden("pods", name, detail), "NodeCapacity")
    system = (node["metadata"].get("labels") or {}).get(_OS, "")
    if system != "linux":
        detail = f'pod resize is only supported on linux nodes, node "{node_name}" is "{system}"'
        raise _caused(forbidden("pods", name, detail), "UnsupportedPlatform")


def _needed(new: JSON, old: JSON) -> set[str]:
    needed: set[str] = set()
    if new.get("resources") != old.get("resources"):
        needed.add(_POD_LEVEL)
    for now, was in _pairs(new, old, "initContainers"):
        if now.get("restartPolicy") != "Always" and now.get("resources") != was.get("resources"):
            needed.add(_INIT_CONTAINERS)
    return needed


def _shortage(requests: JSON, allocatable: JSON) -> Iterator[str]:
    for name, factor in (("cpu", 1000), ("memory", 1)):
        wanted, there = (int(quantity(table.get(name, "0")) * factor) for table in (requests, allocatable))
        if wanted > there:
            yield f"{name}, requested: {wanted}, allocatable: {there}"


def _caused(error: StatusError, reason: str) -> StatusError:
    assert error.details is not None
    error.details["causes"] = [{"reason": reason}]
    return error
