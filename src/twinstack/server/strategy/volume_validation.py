"""Rules of volumes (core/v1 Volume): one source each, and those of the sources everyday manifests use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required
from twinstack.api.scalars import quantity
from twinstack.api.validation import config_key, dns_label, dns_subdomain, each
from twinstack.server.strategy.environment_validation import VOLUME_FIELDS, field_ref_errors

JSON = dict[str, Any]

# In the order in which upstream looks for them: it decides which one is the second.
_SOURCES = (
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi",
    "glusterfs", "flocker", "persistentVolumeClaim", "rbd", "cinder", "cephfs", "quobyte", "downwardAPI", "fc",
    "flexVolume", "configMap", "azureFile", "vsphereVolume", "photonPersistentDisk", "portworxVolume", "azureDisk",
    "storageos", "projected", "scaleIO", "csi", "ephemeral", "image",
)  # fmt: skip
_HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
_MAX_MODE = 0o777


def volume_errors(volumes: Sequence[JSON], field: str) -> tuple[set[str], list[FieldError]]:
    """The names that can be mounted, and what is wrong."""
    names: set[str] = set()
    errors: list[FieldError] = []
    for i, volume in enumerate(volumes):
        at, name = f"{field}[{i}]", volume.get("name", "")
        found = _source_errors(volume, at)
        found += each(f"{at}.name", name, dns_label(name)) if name else [required(f"{at}.name")]
        if name in names:
            found.append(duplicate(f"{at}.name", name))
        if not found:
            names.add(name)
        errors += found
    return names, errors


def _source_errors(volume: JSON, field: str) -> list[FieldError]:
    named = [name for name in _SOURCES if name in volume]
    if not named:
        return [required(field, "must specify a volume type")]
    errors = _one_source_errors(named[0], volume[named[0]], f"{field}.{named[0]}")
    more = "may not specify more than 1 volume type"
    return errors + [forbidden_field(f"{field}.{name}", more) for name in named[1:]]


def _one_source_errors(kind: str, source: JSON, field: str) -> list[FieldError]:
    if kind == "emptyDir":
        size = source.get("sizeLimit")
        bad = size is not None and quantity(size) < 0
        return (
            [forbidden_field(f"{field}.sizeLimit", "SizeLimit field must be a valid resource quantity")] if bad else []
        )
    if kind == "hostPath":
        return _host_path_errors(source, field)
    if kind == "secret":
        errors = [] if source.get("secretName") else [required(f"{field}.secretName")]
        return errors + _file_errors(source, field)
    if kind == "configMap":
        errors = [] if source.get("name") else [required(f"{field}.name")]
        return errors + _file_errors(source, field)
    if kind == "persistentVolumeClaim":
        return [] if source.get("claimName") else [required(f"{field}.claimName")]
    if kind == "downwardAPI":
        return _downward_errors(source, field)
    if kind == "projected":
        return _projected_errors(source, field)
    if kind == "csi":
        driver = source.get("driver", "")
        return (
            each(f"{field}.driver", driver, dns_subdomain(driver.lower())) if driver else [required(f"{field}.driver")]
        )
    return []


def _host_path_errors(source: JSON, field: str) -> list[FieldError]:
    path, kind = source.get("path", ""), source.get("type", "")
    if not path:
        return [required(f"{field}.path")]
    errors: list[FieldError] = []
    if ".." in path.split("/"):
        errors.append(invalid(f"{field}.path", path, "must not contain '..'"))
    if kind not in _HOST_PATH_TYPES:
        errors.append(not_supported(f"{field}.type", kind, _HOST_PATH_TYPES))
    return errors


def _mode_errors(mode: int | None, field: str) -> list[FieldError]:
    if mode is None or 0 <= mode <= _MAX_MODE:
        return []
    return [invalid(field, mode, "must be a number between 0 and 0777 (octal), both inclusive")]


def _file_errors(source: JSON, field: str) -> list[FieldError]:
    """Items of a Secret or ConfigMap as files."""
    errors = _mode_errors(source.get("defaultMode"), f"{field}.defaultMode")
    for i, item in enumerate(source.get("items") or []):
        at, key, path = f"{field}.items[{i}]", item.get("key", ""), item.get("path", "")
        errors += each(f"{at}.key", key, config_key(key)) if key else [required(f"{at}.key")]
        errors += _path_errors(path, f"{at}.path") if path else [required(f"{at}.path")]
        errors += _mode_errors(item.get("mode"), f"{at}.mode")
    return errors


def _path_errors(path: str, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if path.startswith("/"):
        errors.append(invalid(field, path, "must be a relative path"))
    if ".." in path.split("/"):
        errors.append(invalid(field, path, "must not contain '..'"))
    elif path.startswith(".."):
        errors.append(invalid(field, path, "must not start with '..'"))
    return errors


def _downward_errors(source: JSON, field: str) -> list[FieldError]:
    errors = _mode_errors(source.get("defaultMode"), f"{field}.defaultMode")
    for item in source.get("items") or []:
        path = item.get("path", "")
        errors += _path_errors(path, f"{field}.path") if path else [required(f"{field}.path")]
        if "fieldRef" in item:
            errors += field_ref_errors(item["fieldRef"], VOLUME_FIELDS, f"{field}.fieldRef")
            if "resourceFieldRef" in item:
                detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
                errors.append(invalid(field, "resource", detail))
        elif "resourceFieldRef" not in item:
            errors.append(required(f"{field}.fieldRef", "one of fieldRef and resourceFieldRef is required"))
        errors += _mode_errors(item.get("mode"), f"{field}.mode")
    return errors


def _projected_errors(source: JSON, field: str) -> list[FieldError]:
    errors = _mode_errors(source.get("defaultMode"), f"{field}.defaultMode")
    for i, projection in enumerate(source.get("sources") or []):
        at = f"{field}.sources[{i}]"
        for kind in ("secret", "configMap"):
            if kind in projection:
                inner = projection[kind]
                errors += [] if inner.get("name") else [required(f"{at}.{kind}.name")]
                errors += _file_errors(inner, f"{at}.{kind}")
        if "downwardAPI" in projection:
            errors += _downward_errors(projection["downwardAPI"], f"{at}.downwardAPI")
        if "serviceAccountToken" in projection and not projection["serviceAccountToken"].get("path"):
            errors.append(required(f"{at}.serviceAccountToken.path"))
    return errors
