"""Which objects a quota is about: its scopes and its scope selector (core/v1 ResourceQuotaSpec). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

JSON = dict[str, Any]
JSONMap = Mapping[str, Any]

_AFFINITIES = ("podAffinity", "podAntiAffinity")


def requirements(spec: JSON) -> list[JSON]:
    """All that must hold (ScopedResourceSelectorRequirement); a scope in the list stands for `Exists`."""
    listed = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or []]
    return listed + list((spec.get("scopeSelector") or {}).get("matchExpressions") or [])


def includes_pod(spec: JSON, pod: JSON) -> bool:
    return all(_pod_meets(requirement, pod) for requirement in requirements(spec))


def includes_claim(spec: JSON, claim: JSON) -> bool:
    """A PersistentVolumeClaim has one scope alone, that of its VolumeAttributesClass."""
    return all(
        each.get("scopeName") == "VolumeAttributesClass" and _meets_any(each, _attributes_classes(claim))
        for each in requirements(spec)
    )


def _pod_meets(requirement: JSON, pod: JSON) -> bool:
    spec = pod.get("spec") or {}
    match requirement.get("scopeName"):
        case "Terminating":
            return _ends_by_itself(spec)
        case "NotTerminating":
            return not _ends_by_itself(spec)
        case "BestEffort":
            return _is_best_effort(pod)
        case "NotBestEffort":
            return not _is_best_effort(pod)
        case "PriorityClass":
            name = spec.get("priorityClassName")
            return _meets_any(requirement, [name] if name else [])
        case "CrossNamespacePodAffinity":
            return any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in _terms(spec))
    return False


def _ends_by_itself(spec: JSON) -> bool:
    seconds = spec.get("activeDeadlineSeconds")
    return seconds is not None and seconds >= 0


def _is_best_effort(pod: JSON) -> bool:
    return (pod.get("status") or {}).get("qosClass") == "BestEffort"


def _terms(spec: JSON) -> Iterator[JSONMap]:
    """Every PodAffinityTerm."""
    affinity = spec.get("affinity") or {}
    for kind in _AFFINITIES:
        rules = affinity.get(kind) or {}
        yield from rules.get("requiredDuringSchedulingIgnoredDuringExecution") or []
        for weighted in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or []:
            yield weighted.get("podAffinityTerm") or {}


def _attributes_classes(claim: JSON) -> list[str]:
    """Those that it has, and those that it is about to have."""
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    names = (
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return [name for name in names if name]


def _meets_any(requirement: JSON, names: Iterable[str]) -> bool:
    """Whether one of the names is as it is required, as a label would be."""
    found, values = set(names), set(requirement.get("values") or [])
    match requirement.get("operator"):
        case "In":
            return bool(found & values)
        case "NotIn":
            return not found or bool(found - values)
        case "Exists":
            return bool(found)
        case "DoesNotExist":
            return not found
    return False
