"""Rules of ephemeral containers (core/v1 EphemeralContainer), which a running Pod is given to be debugged."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from twinstack.api.errors import ErrorType, FieldError, duplicate, forbidden_field, go_value
from twinstack.server.strategy.container_validation import common_errors
from twinstack.server.strategy.volume_validation import volume_errors

JSON = dict[str, Any]

FIELD = "spec.ephemeralContainers"
_ONLY_LATER = "cannot be set on create"
_NEVER = "cannot be set for an Ephemeral Container"
_MISSING = (
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
)


def create_errors(spec: JSON) -> list[FieldError]:
    return [forbidden_field(FIELD, _ONLY_LATER)] if spec.get("ephemeralContainers") else []


def container_errors(spec: JSON) -> list[FieldError]:
    """Of all that a spec has."""
    others = {c.get("name", "") for kind in ("containers", "initContainers") for c in spec.get(kind) or []}
    volumes, _ = volume_errors(spec.get("volumes") or [], "spec.volumes")
    errors: list[FieldError] = []
    names = set(others)
    for i, container in enumerate(spec.get("ephemeralContainers") or []):
        errors += _errors(container, volumes, names, others, f"{FIELD}[{i}]")
        names.add(container.get("name", ""))
    return errors


def _errors(
    container: JSON, volumes: Collection[str], names: Collection[str], others: Collection[str], field: str
) -> list[FieldError]:
    name, target = container.get("name", ""), container.get("targetContainerName", "")
    errors = common_errors(container, volumes, field)
    if name in names:
        errors.append(duplicate(f"{field}.name", name))
    if target and target not in others:
        at = f"{field}.targetContainerName"
        errors.append(FieldError(ErrorType.NOT_FOUND, at, f"Not found: {go_value(target)}"))
    errors += [forbidden_field(f"{field}.{part}", _NEVER) for part in _MISSING if container.get(part)]
    for i, mount in enumerate(container.get("volumeMounts") or []):
        for part in ("subPath", "subPathExpr"):
            if mount.get(part):
                errors.append(forbidden_field(f"{field}.volumeMounts[{i}].{part}", _NEVER))
    return errors


def update_errors(new: Sequence[JSON], old: Sequence[JSON]) -> list[FieldError]:
    """They stay, and stay as they are."""
    present = {container.get("name", ""): container for container in new}
    errors: list[FieldError] = []
    for container in old:
        name = container.get("name", "")
        if name not in present:
            errors.append(forbidden_field(FIELD, f'existing ephemeral containers "{name}" may not be removed\n'))
        elif present[name] != container:
            errors.append(forbidden_field(FIELD, f'existing ephemeral containers "{name}" may not be changed\n'))
    return errors
