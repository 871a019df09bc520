"""autoscaling/v1 Scale of custom resources: where its parts are, the definition says."""

from __future__ import annotations

from typing import Any

from twinstack.api.errors import internal_error
from twinstack.api.structural.kind import CustomKind
from twinstack.server.customresources.jsonpath import find

JSON = dict[str, Any]


def parts(kind: CustomKind, obj: JSON) -> tuple[int, int, str]:
    """Wanted replicas, replicas that are there, and the selector's text. Raises StatusError 500."""
    paths = kind.scale or {}
    wanted = find(paths["specReplicasPath"], obj)
    if not wanted or type(wanted[0]) is not int:
        raise internal_error(f'the spec replicas field "{paths["specReplicasPath"]}" does not exist')
    present = find(paths["statusReplicasPath"], obj)
    selector = find(paths["labelSelectorPath"], obj) if paths.get("labelSelectorPath") else []
    there = present[0] if present and type(present[0]) is int else 0
    return wanted[0], there, str(selector[0]) if selector else ""


def replicas_path(kind: CustomKind) -> tuple[str, ...]:
    """The names on the way to the wanted replicas."""
    return tuple(str((kind.scale or {})["specReplicasPath"]).removeprefix(".").split("."))


def set_replicas(kind: CustomKind, obj: JSON, replicas: int) -> None:
    *way, last = replicas_path(kind)
    for name in way:
        inner = obj.get(name)
        if not isinstance(inner, dict):
            inner = obj[name] = {}
        obj = inner
    obj[last] = replicas
