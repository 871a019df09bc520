"""PersistentVolumeClaims and PersistentVolumes (core/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, forbidden, forbidden_field, invalid, not_supported, required
from twinstack.api.resources import resource
from twinstack.api.scalars import quantity
from twinstack.api.validation import dns_subdomain, each
from twinstack.server.strategy import limitranges
from twinstack.server.strategy.base import Change, Strategy, WriteContext
from twinstack.server.strategy.defaultclasses import default_class
from twinstack.server.strategy.label_selectors import selector_errors

JSON = dict[str, Any]

STORAGE_CLASSES = resource("storage.k8s.io", "storageclasses")
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_RECLAIM = ("Delete", "Recycle", "Retain")
_SOURCES = {  # what each kind of volume must say
    "hostPath": ("path",),
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "glusterfs": ("endpoints", "path"),
    "flocker": (),
    "nfs": ("server", "path"),
    "rbd": ("monitors", "image"),
    "quobyte": ("registry", "volume"),
    "cephfs": ("monitors",),
    "iscsi": ("targetPortal", "iqn"),
    "cinder": ("volumeID",),
    "fc": (),
    "flexVolume": ("driver",),
    "azureFile": ("secretName", "shareName"),
    "vsphereVolume": ("volumePath",),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "azureDisk": ("diskName", "diskURI"),
    "scaleIO": ("gateway", "system", "volumeName"),
    "local": ("path",),
    "storageos": (),
    "csi": ("driver", "volumeHandle"),
}
_CLAIM_IMMUTABLE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


class PersistentVolumeClaimStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        """Admission plugin DefaultStorageClass is part of it."""
        obj["status"] = {"phase": "Pending"}
        annotations = obj["metadata"].get("annotations") or {}
        if "storageClassName" not in obj["spec"] and _CLASS_ANNOTATION not in annotations:
            name = default_class(ctx.reader.list(STORAGE_CLASSES), _DEFAULT_CLASS)
            if name:
                obj["spec"]["storageClassName"] = name
        refusal = limitranges.check_claim(ctx, obj)
        if refusal:
            raise forbidden(ctx.resource.plural, obj["metadata"].get("name") or ctx.name, refusal)

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        errors = _access_errors(spec.get("accessModes") or [], "spec.accessModes")
        if "selector" in spec:
            errors += selector_errors(spec["selector"], "spec.selector")
        size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        errors += _size_errors(size, "spec.resources[storage]")
        name, mode = spec.get("storageClassName"), spec["volumeMode"]
        if name:
            errors += each("spec.storageClassName", name, dns_subdomain(name))
        if mode not in _VOLUME_MODES:
            errors.append(not_supported("spec.volumeMode", mode, _VOLUME_MODES))
        return errors if old is None else [*errors, *_claim_change_errors(spec, old)]

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        capacity = (obj.get("status") or {}).get("capacity") or {}
        return [
            invalid(f"status.capacity[{name}]", text, "must be greater than or equal to 0")
            for name, text in capacity.items()
            if quantity(text) < 0
        ]


def _access_errors(modes: Sequence[str], field: str) -> list[FieldError]:
    if not modes:
        return [required(field, "at least 1 access mode is required")]
    errors = [not_supported(field, mode, _ACCESS_MODES) for mode in modes if mode not in _ACCESS_MODES]
    if "ReadWriteOncePod" in modes and len(set(modes)) > 1:
        errors.append(forbidden_field(field, "may not use ReadWriteOncePod with other access modes"))
    return errors


def _size_errors(size: str | None, field: str) -> list[FieldError]:
    if size is None:
        return [required(field)]
    return [] if quantity(size) > 0 else [invalid(field, size, "must be greater than zero")]


def _claim_change_errors(new: JSON, old: JSON) -> list[FieldError]:
    """A claim is bound and classified once; then only a bound one may ask for more."""
    before = dict(old["spec"])
    for name in ("volumeName", "storageClassName"):
        if name not in before and name in new:
            before[name] = new[name]
    bound = (old.get("status") or {}).get("phase") == "Bound"
    if bound:
        before |= {name: new[name] for name in ("resources", "volumeAttributesClassName") if name in new}
    if new != before:
        return [forbidden_field("spec", _CLAIM_IMMUTABLE)]
    now, was = (((spec.get("resources") or {}).get("requests") or {}).get("storage") for spec in (new, old["spec"]))
    if bound and now and was and quantity(now) < quantity(was):
        return [forbidden_field("spec.resources.requests.storage", "field can not be less than previous value")]
    return []


class PersistentVolumeStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        spec: JSON = obj.setdefault("spec", {})
        spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
        spec.setdefault("volumeMode", "Filesystem")
        if "hostPath" in spec:
            spec["hostPath"].setdefault("type", "")

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": ctx.now}

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        capacity, policy, mode = spec.get("capacity") or {}, spec["persistentVolumeReclaimPolicy"], spec["volumeMode"]
        errors = _access_errors(spec.get("accessModes") or [], "spec.accessModes")
        if not capacity:
            errors.append(required("spec.capacity"))
        elif set(capacity) != {"storage"}:
            errors.append(not_supported("spec.capacity", capacity, ("storage",)))
        else:
            errors += _size_errors(capacity["storage"], "spec.capacity[storage]")
        if policy not in _RECLAIM:
            errors.append(not_supported("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM))
        errors += _source_errors(spec, "spec")
        name = spec.get("storageClassName")
        if name:
            errors += each("spec.storageClassName", name, dns_subdomain(name))
        if mode not in _VOLUME_MODES:
            errors.append(not_supported("spec.volumeMode", mode, _VOLUME_MODES))
        if old is not None and any(spec.get(kind) != old["spec"].get(kind) for kind in _SOURCES):
            detail = "spec.persistentvolumesource is immutable after creation"
            errors.append(forbidden_field("spec.persistentvolumesource", detail))
        return errors

    def update_status(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        status: JSON = new.setdefault("status", {})
        if status.get("phase") != (old.get("status") or {}).get("phase"):
            status["lastPhaseTransitionTime"] = ctx.now
        return super().update_status(ctx, new, old)


def _source_errors(spec: JSON, field: str) -> list[FieldError]:
    named = [kind for kind in _SOURCES if kind in spec]
    if not named:
        return [required(field, "must specify a volume type")]
    first = named[0]
    errors = [required(f"{field}.{first}.{name}") for name in _SOURCES[first] if not spec[first].get(name)]
    if first in ("hostPath", "local") and ".." in spec[first].get("path", "").split("/"):
        errors.append(invalid(f"{field}.{first}.path", spec[first]["path"], "must not contain '..'"))
    if first == "local" and not (spec.get("nodeAffinity") or {}).get("required"):
        errors.append(required(f"{field}.nodeAffinity", "Local volume requires node affinity"))
    more = "may not specify more than 1 volume type"
    return errors + [forbidden_field(f"{field}.{kind}", more) for kind in named[1:]]
