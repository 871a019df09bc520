"""The kinds of storage.k8s.io/v1: classes, drivers, attachments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required, too_long
from twinstack.api.metadata import immutable
from twinstack.api.scalars import quantity
from twinstack.api.validation import dns_subdomain, each, qualified_name
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.label_selectors import selector_errors

JSON = dict[str, Any]

_RECLAIM = ("Delete", "Retain")
_BINDING = ("Immediate", "WaitForFirstConsumer")
_GROUP_POLICIES = ("ReadWriteOnceWithFSType", "File", "None")
_LIFECYCLES = ("Persistent", "Ephemeral")
_MAX_PARAMETERS = 256 * 1024  # bytes, keys and values together
_MAX_DRIVER = 63


def _parameter_errors(parameters: JSON, field: str) -> list[FieldError]:
    errors = [invalid(field, key, "field can not be empty.") for key in parameters if not key]
    if sum(len(key.encode()) + len(value.encode()) for key, value in parameters.items()) > _MAX_PARAMETERS:
        errors.append(too_long(field, _MAX_PARAMETERS))
    return errors


def _unchanged(field: str, new: object, old: object) -> list[FieldError]:
    return [] if new == old else [forbidden_field(field, f"updates to {field} are forbidden.")]


def _driver_errors(name: str, field: str) -> list[FieldError]:
    if not name:
        return [required(field)]
    errors = [too_long(field, _MAX_DRIVER)] if len(name) > _MAX_DRIVER else []
    return errors + each(field, name, dns_subdomain(name.lower()))


class StorageClassStrategy(Strategy):
    metadata_twice = False

    def default(self, obj: JSON) -> None:
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        provisioner, parameters = obj.get("provisioner", ""), obj.get("parameters") or {}
        policy, binding = obj["reclaimPolicy"], obj["volumeBindingMode"]
        if old is not None:
            errors = _unchanged("parameters", parameters, old.get("parameters") or {})
            errors += _unchanged("provisioner", provisioner, old.get("provisioner", ""))
            errors += _unchanged("reclaimPolicy", policy, old.get("reclaimPolicy"))
            return errors + immutable("volumeBindingMode", binding, old.get("volumeBindingMode"))
        errors = (
            each("provisioner", provisioner, qualified_name(provisioner.lower()))
            if provisioner
            else [required("provisioner")]
        )
        errors += _parameter_errors(parameters, "parameters")
        if policy not in _RECLAIM:
            errors.append(not_supported("reclaimPolicy", policy, _RECLAIM))
        if binding not in _BINDING:
            errors.append(not_supported("volumeBindingMode", binding, _BINDING))
        return errors


class VolumeAttributesClassStrategy(Strategy):
    metadata_twice = False

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        driver, parameters = obj.get("driverName", ""), obj.get("parameters") or {}
        if old is not None:
            errors = _unchanged("driverName", driver, old.get("driverName", ""))
            return errors + _unchanged("parameters", parameters, old.get("parameters") or {})
        errors = _driver_errors(driver, "driverName")
        if not parameters:
            errors.append(required("parameters", "must contain at least one key/value pair"))
        return errors + _parameter_errors(parameters, "parameters")


class CSIDriverStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        spec: JSON = obj.setdefault("spec", {})
        spec.setdefault("attachRequired", True)
        for name in ("podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"):
            spec.setdefault(name, False)
        spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
        if not spec.get("volumeLifecycleModes"):
            spec["volumeLifecycleModes"] = ["Persistent"]

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        errors = _driver_errors(obj["metadata"]["name"], "metadata.name") if old is None else []
        if spec["fsGroupPolicy"] not in _GROUP_POLICIES:
            errors.append(not_supported("spec.fsGroupPolicy", spec["fsGroupPolicy"], _GROUP_POLICIES))
        errors += [
            not_supported("spec.volumeLifecycleModes", mode, _LIFECYCLES)
            for mode in spec["volumeLifecycleModes"]
            if mode not in _LIFECYCLES
        ]
        if old is not None:
            for name in ("attachRequired", "volumeLifecycleModes"):
                errors += immutable(f"spec.{name}", spec[name], old["spec"].get(name))
        return errors


class CSINodeStrategy(Strategy):
    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        errors: list[FieldError] = []
        names: set[str] = set()
        for i, driver in enumerate((obj.get("spec") or {}).get("drivers") or []):
            at, name = f"spec.drivers[{i}]", driver.get("name", "")
            errors += _driver_errors(name, f"{at}.name")
            if name in names:
                errors.append(duplicate(f"{at}.name", name))
            names.add(name)
            if not driver.get("nodeID"):
                errors.append(required(f"{at}.nodeID"))
        return errors


class CSIStorageCapacityStrategy(Strategy):
    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        name = obj.get("storageClassName", "")
        errors = each("storageClassName", name, dns_subdomain(name))
        for field in ("capacity", "maximumVolumeSize"):
            if field in obj and quantity(obj[field]) < 0:
                errors.append(invalid(field, obj[field], "must be greater than or equal to 0"))
        if "nodeTopology" in obj:
            errors += selector_errors(obj["nodeTopology"], "nodeTopology")
        if old is not None:
            for field in ("nodeTopology", "storageClassName"):
                errors += immutable(field, obj.get(field), old.get(field))
        return errors


class VolumeAttachmentStrategy(Strategy):
    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj.get("spec") or {}
        source = spec.get("source") or {}
        errors = _driver_errors(spec.get("attacher", ""), "spec.attacher")
        named = [name for name in ("persistentVolumeName", "inlineVolumeSpec") if source.get(name)]
        if not named:
            errors.append(
                required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
            )
        elif len(named) > 1:
            detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
            errors.append(forbidden_field("spec.source", detail))
        node = spec.get("nodeName", "")
        errors += each("spec.nodeName", node, dns_subdomain(node)) if node else [required("spec.nodeName")]
        return errors if old is None else [*errors, *immutable("spec", spec, old.get("spec") or {})]
