"""What a Pod names of other objects: what its node may read, and what a mirror Pod may not have. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

JSON = dict[str, Any]

_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_VOLUME_SECRETS = {  # of volume sources: the field with a secret's name, or with a reference to one
    "azureFile": "secretName",
    "cephfs": "secretRef",
    "cinder": "secretRef",
    "csi": "nodePublishSecretRef",
    "flexVolume": "secretRef",
    "iscsi": "secretRef",
    "rbd": "secretRef",
    "scaleIO": "secretRef",
    "secret": "secretName",
    "storageos": "secretRef",
}


def secrets(spec: JSON) -> Iterator[str]:
    """Names of Secrets, some of them more than once."""
    for each in spec.get("imagePullSecrets") or []:
        yield each.get("name", "")
    yield from _of_environment(spec, "secretRef", "secretKeyRef")
    for volume in spec.get("volumes") or []:
        for kind, field in _VOLUME_SECRETS.items():
            named = (volume.get(kind) or {}).get(field)
            if named:
                yield named if isinstance(named, str) else named.get("name", "")
        yield from _projected(volume, "secret")


def config_maps(spec: JSON) -> Iterator[str]:
    yield from _of_environment(spec, "configMapRef", "configMapKeyRef")
    for volume in spec.get("volumes") or []:
        if volume.get("configMap"):
            yield volume["configMap"].get("name", "")
        yield from _projected(volume, "configMap")


def claims(pod: JSON) -> Iterator[str]:
    """Names of PersistentVolumeClaims, those of ephemeral volumes included."""
    for volume in pod["spec"].get("volumes") or []:
        if volume.get("persistentVolumeClaim"):
            yield volume["persistentVolumeClaim"].get("claimName", "")
        if "ephemeral" in volume:
            yield f"{pod['metadata'].get('name', '')}-{volume['name']}"


def environment_secrets(container: JSON) -> Iterator[str]:
    """Names of Secrets that one container's variables come from."""
    return _of_container(container, "secretRef", "secretKeyRef")


def token_audiences(spec: JSON) -> Iterator[str]:
    """For whom the Pod's projected tokens are; empty for the API server."""
    for volume in spec.get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources") or []:
            if "serviceAccountToken" in source:
                yield (source["serviceAccountToken"] or {}).get("audience", "")


def _projected(volume: JSON, kind: str) -> Iterator[str]:
    for source in (volume.get("projected") or {}).get("sources") or []:
        if source.get(kind):
            yield source[kind].get("name", "")


def _of_environment(spec: JSON, whole: str, key: str) -> Iterator[str]:
    for field in _CONTAINERS:
        for container in spec.get(field) or []:
            yield from _of_container(container, whole, key)


def _of_container(container: JSON, whole: str, key: str) -> Iterator[str]:
    for source in container.get("envFrom") or []:
        if source.get(whole):
            yield source[whole].get("name", "")
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get(key)
        if reference:
            yield reference.get("name", "")
