"""How a volume is mounted in a container: mounts that appear later, and what is mounted below one that is read-only.

As kubelet 1.36 has it (v1 VolumeMount mountPropagation, recursiveReadOnly; KEP-432, KEP-3857). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinstack.api import core
from twinstack.node.environment import ConfigError
from twinstack.node.runtime.base import Propagation

_PROPAGATIONS = {
    "None": Propagation.PRIVATE,
    "HostToContainer": Propagation.SLAVE,
    "Bidirectional": Propagation.SHARED,
}


def propagation(entry: Mapping[str, Any], container: core.Container) -> Propagation:
    """Raises ConfigError."""
    mode = entry.get("mountPropagation") or "None"
    found = _PROPAGATIONS.get(mode)
    if found is None:
        raise ConfigError(f'invalid MountPropagation mode: "{mode}"')
    if found is Propagation.SHARED and not (container.security_context or {}).get("privileged"):
        raise ConfigError("Bidirectional mount propagation is available only to privileged containers")
    return found


def recursive_read_only(entry: Mapping[str, Any], *, possible: bool) -> bool:
    """Whether what is mounted below is read-only, too; `possible`: the runtime can do that. Raises ConfigError."""
    mode, name = entry.get("recursiveReadOnly") or "Disabled", entry.get("name", "")
    if mode == "Disabled":
        return False
    moves = entry.get("mountPropagation") or "None"
    problem = ""
    if not entry.get("readOnly"):
        problem = "it is not read-only"
    elif moves != "None":
        problem = f'it is not compatible with propagation "{moves}"'
    elif mode == "Enabled" and not possible:
        problem = "it is not supported by the runtime"
    if problem:
        text = f'volume "{name}" requested recursive read-only mode, but {problem}'
        raise ConfigError(f"failed to resolve recursive read-only mode: {text}")
    return possible


def status(entry: Mapping[str, Any], *, possible: bool) -> dict[str, Any]:
    """A mount as the container's status shows it (VolumeMountStatus)."""
    shown: dict[str, Any] = {"name": entry["name"], "mountPath": entry["mountPath"]}
    if not entry.get("readOnly"):
        return shown
    try:
        recursive = recursive_read_only(entry, possible=possible)
    except ConfigError:
        recursive = False  # the container waits and says why
    return shown | {"readOnly": True, "recursiveReadOnly": "Enabled" if recursive else "Disabled"}
