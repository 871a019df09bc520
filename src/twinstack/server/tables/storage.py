"""Volumes, claims and the kinds of storage.k8s.io."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.server.tables.cells import UNSET, Cells, Table, age_of, name_of

JSON = dict[str, Any]

_ACCESS_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_GROUP = "storage.k8s.io"
_VOLUME_COLUMNS = (
    "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode*"
)
_DRIVER_COLUMNS = (
    "Name|AttachRequired:boolean|PodInfoOnMount:boolean|StorageCapacity:boolean|TokenRequests|"
    "RequiresRepublish:boolean|Modes|Age"
)


def _access(modes: Sequence[str]) -> str:
    return ",".join(short for mode, short in _ACCESS_MODES.items() if mode in modes)


def _class(obj: JSON) -> str:
    annotation = (obj["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
    return str(annotation if annotation is not None else (obj.get("spec") or {}).get("storageClassName") or "")


def _phase(obj: JSON) -> str:
    terminating = obj["metadata"].get("deletionTimestamp")
    return "Terminating" if terminating else (obj.get("status") or {}).get("phase", "")


def _claim(obj: JSON, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bound = bool(spec.get("volumeName"))
    return [
        name_of(obj),
        _phase(obj),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "0") if bound else "",
        _access(status.get("accessModes") or []) if bound else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        age_of(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _volume(obj: JSON, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    claim = spec.get("claimRef")
    return [
        name_of(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        _access(spec.get("accessModes") or []),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason", ""),
        age_of(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _storage_class(obj: JSON, now: float) -> Cells:
    annotations = obj["metadata"].get("annotations") or {}
    default = any(annotations.get(name) == "true" for name in _DEFAULT_ANNOTATIONS)
    return [
        f"{name_of(obj)} (default)" if default else name_of(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        obj.get("allowVolumeExpansion", False),
        age_of(obj, now),
    ]


def _attributes_class(obj: JSON, now: float) -> Cells:
    return [name_of(obj), obj.get("driverName", ""), age_of(obj, now)]


def _driver(obj: JSON, now: float) -> Cells:
    spec = obj.get("spec") or {}
    return [
        name_of(obj),
        spec.get("attachRequired", True),
        spec.get("podInfoOnMount", False),
        spec.get("storageCapacity", False),
        ",".join(token.get("audience", "") for token in spec.get("tokenRequests") or []) or UNSET,
        spec.get("requiresRepublish", False),
        ",".join(spec.get("volumeLifecycleModes") or []) or UNSET,
        age_of(obj, now),
    ]


def _csi_node(obj: JSON, now: float) -> Cells:
    return [name_of(obj), len((obj.get("spec") or {}).get("drivers") or []), age_of(obj, now)]


def _capacity(obj: JSON, _now: float) -> Cells:
    return [name_of(obj), obj.get("storageClassName", ""), obj.get("capacity", UNSET)]


def _attachment(obj: JSON, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    return [
        name_of(obj),
        spec.get("attacher", ""),
        volume,
        spec.get("nodeName", ""),
        status.get("attached", False),
        age_of(obj, now),
    ]


TABLES: dict[tuple[str, str], Table] = {
    ("", "persistentvolumeclaims"): (
        "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode*",
        _claim,
    ),
    ("", "persistentvolumes"): (_VOLUME_COLUMNS, _volume),
    (_GROUP, "csidrivers"): (_DRIVER_COLUMNS, _driver),
    (_GROUP, "csinodes"): ("Name|Drivers:integer|Age", _csi_node),
    (_GROUP, "csistoragecapacities"): ("Name|StorageClassName|Capacity", _capacity),
    (_GROUP, "storageclasses"): (
        "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age",
        _storage_class,
    ),
    (_GROUP, "volumeattachments"): ("Name|Attacher|PV|Node|Attached:boolean|Age", _attachment),
    (_GROUP, "volumeattributesclasses"): ("Name|DriverName|Age", _attributes_class),
}
