"""Volumes of a pod on this node: emptyDir, and projected ones such as the service account's token.

Directories below `pods/UID/volumes/`. Projected volumes, and emptyDirs in memory, are tmpfs: they hold secrets or
are meant to vanish. Files are replaced, never changed, so that a reader sees one version.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from twinstack.api import core
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CONFIG_MAPS, SECRETS
from twinstack.api.meta import Struct
from twinstack.client.rest import Client
from twinstack.linux import mounts
from twinstack.node.environment import Addresses, ConfigError, Source, field
from twinstack.node.runtime.base import Mount

TOKEN_SECONDS = 3600
RENEW_AT = 0.8  # of a token's life, as kubelet
_PROJECTED = ("serviceAccountToken", "configMap", "secret", "downwardAPI")


class UnsupportedVolume(Exception):
    """A kind of volume that this node does not have; trying again is of no use."""


class _TokenStatus(Struct):
    token: str = ""
    expiration_timestamp: str = ""


class _TokenRequest(Struct):
    status: _TokenStatus = msgspec.field(default_factory=_TokenStatus)


async def read_source(client: Client, source: Source, namespace: str) -> dict[str, str] | None:
    """The data of a ConfigMap or Secret as text; None when there is none of that name."""
    try:
        if source.kind == "configMap":
            return (await client.get(CONFIG_MAPS, source.name, namespace)).data
        data = (await client.get(SECRETS, source.name, namespace)).data
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}
    except StatusError as error:
        if error.code != 404:
            raise
        return None


class Volumes:
    """The volumes of one pod."""

    def __init__(self, client: Client, directory: Path) -> None:
        self._client = client
        self._directory = directory
        self.renew_at: float | None = None  # when `prepare` has to run again, for new tokens

    async def prepare(self, pod: core.Pod, addresses: Addresses) -> None:
        """Make what is missing and renew what ages.

        Raises UnsupportedVolume, ConfigError for what is missing in the API, StatusError or OSError.
        """
        check(pod)
        lifetime = float("inf")
        for volume in pod.spec.volumes:
            path = self._directory / volume["name"]
            if "emptyDir" in volume:
                _make_empty(path, volume["emptyDir"] or {})
            else:
                files, seconds = await self._project(pod, volume["projected"], addresses)
                _make_projected(path, files, int(volume["projected"].get("defaultMode") or 0o644))
                lifetime = min(lifetime, seconds)
        self.renew_at = time.time() + lifetime * RENEW_AT if lifetime < float("inf") else None

    def mounts(self, container: core.Container) -> list[Mount]:
        """What a container's volumeMounts show."""
        return [
            Mount(str(self._directory / entry["name"]), entry["mountPath"], bool(entry.get("readOnly")))
            for entry in container.volume_mounts
        ]

    async def _project(
        self, pod: core.Pod, projected: Mapping[str, Any], addresses: Addresses
    ) -> tuple[dict[str, bytes], float]:
        """File contents by path, and how many seconds they stay good."""
        files: dict[str, bytes] = {}
        lifetime = float("inf")
        for source in projected.get("sources") or []:
            if "serviceAccountToken" in source:
                wish = source["serviceAccountToken"]
                files[wish["path"]] = await self._token(pod, wish)
                lifetime = min(lifetime, float(wish.get("expirationSeconds") or TOKEN_SECONDS))
            elif "downwardAPI" in source:
                for item in source["downwardAPI"].get("items") or []:
                    path = (item.get("fieldRef") or {}).get("fieldPath", "")
                    files[item["path"]] = field(pod, path, addresses).encode()
            else:
                kind = "configMap" if "configMap" in source else "secret"
                files |= await self._object(pod, kind, source[kind])
        return files, lifetime

    async def _object(self, pod: core.Pod, kind: str, wish: Mapping[str, Any]) -> dict[str, bytes]:
        data = await read_source(self._client, Source(kind, wish.get("name", "")), pod.metadata.namespace)
        if data is None:
            if wish.get("optional"):
                return {}
            raise ConfigError(f'{kind.lower()} "{wish.get("name", "")}" not found')
        items = wish.get("items")
        names = {item["key"]: item["path"] for item in items} if items else {key: key for key in data}
        missing = sorted(names.keys() - data.keys())
        if missing and not wish.get("optional"):
            raise ConfigError(f"references non-existent {kind} key: {missing[0]}")
        return {path: data[key].encode() for key, path in names.items() if key in data}

    async def _token(self, pod: core.Pod, wish: Mapping[str, Any]) -> bytes:
        meta = pod.metadata
        account = pod.spec.service_account_name or "default"
        spec = {
            "audiences": [wish["audience"]] if wish.get("audience") else [],
            "expirationSeconds": wish.get("expirationSeconds") or TOKEN_SECONDS,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": meta.name, "uid": meta.uid},
        }
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{meta.namespace}/serviceaccounts/{account}/token"
        answer = await self._client.request("POST", path, msgspec.json.encode(body))
        return msgspec.json.decode(answer, type=_TokenRequest).status.token.encode()


def check(pod: core.Pod) -> None:
    """Raises UnsupportedVolume for a volume, or a way to mount one, that this node does not have."""
    for volume in pod.spec.volumes:
        kind = next((key for key in volume if key != "name"), "emptyDir")
        if kind == "projected":
            unknown = [k for s in volume[kind].get("sources") or [] for k in s if k not in _PROJECTED]
            kind = f"projected {unknown[0]}" if unknown else "emptyDir"
        if kind != "emptyDir":
            raise UnsupportedVolume(
                f'volume "{volume["name"]}": this node has no {kind} volumes, only emptyDir and projected ones'
            )
    for container in pod.spec.init_containers + pod.spec.containers:
        for entry in container.volume_mounts:
            if entry.get("subPath") or entry.get("subPathExpr"):
                raise UnsupportedVolume(f'container "{container.name}": this node mounts no subPath of a volume')


def _make_empty(path: Path, wish: Mapping[str, Any]) -> None:
    if not path.is_dir():
        path.mkdir(parents=True)
        os.chmod(path, 0o777)
    if wish.get("medium") == "Memory" and not mounts.is_mount(str(path)):
        mounts.mount("tmpfs", str(path), "tmpfs", mounts.NOSUID | mounts.NODEV, "mode=777")


def _make_projected(path: Path, files: Mapping[str, bytes], mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if not mounts.is_mount(str(path)):
        flags = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC
        mounts.mount("tmpfs", str(path), "tmpfs", flags, "mode=755,size=4m")
    for name, content in files.items():
        target = path / name
        _check_inside(target.parts[len(path.parts) :])
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.new")
        temporary.write_bytes(content)
        os.chmod(temporary, mode)
        temporary.rename(target)


def _check_inside(parts: Sequence[str]) -> None:
    if not parts or ".." in parts:
        raise ConfigError(f"a path of a projected volume must stay inside it: {'/'.join(parts)}")
