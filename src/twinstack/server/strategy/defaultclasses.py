"""Classes that an annotation makes the default: of Ingresses, of volumes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

JSON = dict[str, Any]


def default_class(classes: Iterable[JSON], annotation: str) -> str:
    """The name of the youngest class whose annotation is `true`, the first by name of several; empty without one."""
    chosen = [
        obj["metadata"] for obj in classes if (obj["metadata"].get("annotations") or {}).get(annotation) == "true"
    ]
    chosen.sort(key=lambda meta: str(meta["name"]))
    return str(max(chosen, key=lambda meta: str(meta["creationTimestamp"]))["name"]) if chosen else ""
