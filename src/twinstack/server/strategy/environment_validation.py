"""Rules of environment variables and of what they and volumes read from the Pod itself (downward API)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from twinstack.api.errors import FieldError, invalid, not_supported, required
from twinstack.api.validation import config_key, each, env_name, qualified_name

JSON = dict[str, Any]

_FIELDS = (
    "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
    "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName", "status.phase", "status.hostIP",
    "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
VOLUME_FIELDS = (
    "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
)  # fmt: skip
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def env_errors(container: JSON, field: str) -> list[FieldError]:
    """Of `env` and `envFrom`."""
    errors: list[FieldError] = []
    for i, variable in enumerate(container.get("env") or []):
        at, name = f"{field}.env[{i}]", variable.get("name", "")
        errors += each(f"{at}.name", name, env_name(name)) if name else [required(f"{at}.name")]
        if "valueFrom" in variable:
            errors += _source_errors(variable, f"{at}.valueFrom")
    for i, source in enumerate(container.get("envFrom") or []):
        errors += _env_from_errors(source, f"{field}.envFrom[{i}]")
    return errors


def _source_errors(variable: JSON, field: str) -> list[FieldError]:
    source = variable["valueFrom"]
    named = [name for name in _SOURCES if name in source]
    errors: list[FieldError] = []
    if "fieldRef" in source:
        errors += field_ref_errors(source["fieldRef"], _ENV_FIELDS, f"{field}.fieldRef")
    if "resourceFieldRef" in source and not source["resourceFieldRef"].get("resource"):
        errors.append(required(f"{field}.resourceFieldRef.resource"))
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in source:
            errors += _key_errors(source[name], f"{field}.{name}")
    if not named:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        errors.append(invalid(field, "", detail))
    if variable.get("value"):
        if named:
            errors.append(invalid(field, "", "may not be specified when `value` is not empty"))
    elif len(named) > 1:
        errors.append(invalid(field, "", "may not have more than one field specified at a time"))
    return errors


def field_ref_errors(reference: JSON, supported: Collection[str], field: str) -> list[FieldError]:
    """`supported` are the paths that may be read here."""
    version, path = reference.get("apiVersion", ""), reference.get("fieldPath", "")
    if not version:
        return [required(f"{field}.apiVersion")]
    if not path:
        return [required(f"{field}.fieldPath")]
    base, subscript = _split_subscript(path)
    if version != "v1":
        detail = f"error converting fieldPath: unsupported pod version: {version}"
        return [invalid(f"{field}.fieldPath", path, detail)]
    if base not in _FIELDS:
        detail = f"error converting fieldPath: field label not supported: {path}"
        return [invalid(f"{field}.fieldPath", path, detail)]
    if subscript is not None:
        if base == "metadata.annotations":
            return each(field, subscript, qualified_name(subscript.lower()))
        if base == "metadata.labels":
            return each(field, subscript, qualified_name(subscript))
        return [invalid(field, base, "does not support subscript")]
    if base not in supported:
        return [not_supported(f"{field}.fieldPath", base, sorted(supported))]
    return []


def _split_subscript(path: str) -> tuple[str, str | None]:
    """`metadata.labels['key']` → (`metadata.labels`, `key`)."""
    base, bracket, rest = path.partition("['")
    return (base, rest[:-2]) if bracket and rest.endswith("']") else (path, None)


def _key_errors(reference: JSON, field: str) -> list[FieldError]:
    key = reference.get("key", "")
    errors = [] if reference.get("name") else [required(f"{field}.name")]
    return errors + (each(f"{field}.key", key, config_key(key)) if key else [required(f"{field}.key")])


def _env_from_errors(source: JSON, field: str) -> list[FieldError]:
    prefix = source.get("prefix", "")
    errors = each(f"{field}.prefix", prefix, env_name(prefix)) if prefix else []
    named: Sequence[str] = [name for name in ("configMapRef", "secretRef") if name in source]
    errors += [required(f"{field}.{name}.name") for name in named if not source[name].get("name")]
    if not named:
        errors.append(invalid(field, "", "must specify one of: `configMapRef` or `secretRef`"))
    elif len(named) > 1:
        errors.append(invalid(field, "", "may not have more than one field specified at a time"))
    return errors
