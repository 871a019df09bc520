"""Volumes of a pod on this node: emptyDir, and those that show objects of the API.

Directories below `pods/UID/volumes/`. Those with secrets, and emptyDirs in memory, are tmpfs: they must not reach a
disk, or are meant to vanish.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from twinstack.api import core, times
from twinstack.api.errors import StatusError
from twinstack.api.meta import Struct
from twinstack.api.scalars import quantity
from twinstack.client.rest import Client
from twinstack.linux import mounts
from twinstack.node import atomicdirectory, hostpaths, mountmodes, projection
from twinstack.node.environment import Addresses, ConfigError, Source, expand
from twinstack.node.projection import Facts, TokenWish
from twinstack.node.runtime.base import Mount
from twinstack.node.sources import Data, SourceReader

RENEW_AT = 0.8  # of a token's life, as kubelet
_LONGEST_USE = 24 * 3600.0  # seconds
_JITTER = 10.0
_TMPFS = mounts.NOSUID | mounts.NODEV


class UnsupportedVolume(Exception):
    """A kind of volume that this node does not have; trying again is of no use."""


class MountError(Exception):
    """A volume cannot be made now."""


class _TokenStatus(Struct):
    token: str = ""
    expiration_timestamp: str = ""


class _TokenRequest(Struct):
    status: _TokenStatus = msgspec.field(default_factory=_TokenStatus)


class _Token:
    __slots__ = ("data", "renew_at")

    def __init__(self, data: bytes, renew_at: float) -> None:
        self.data = data
        self.renew_at = renew_at


class _Shown(NamedTuple):
    """What of a pod its downward API volumes can show, and that can change."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    resources: Sequence[Mapping[str, Any]]


def _shown(pod: core.Pod) -> _Shown:
    containers = pod.spec.init_containers + pod.spec.containers
    return _Shown(pod.metadata.labels, pod.metadata.annotations, [each.resources for each in containers])


class Volumes:
    """The volumes of one pod. `period`: in how many seconds changes of objects are shown."""

    def __init__(
        self, client: Client, reader: SourceReader, directory: Path, period: float, allocatable: Mapping[str, str]
    ) -> None:
        self._client = client
        self._reader = reader
        self._directory = directory
        self._period = period
        self._allocatable = allocatable
        self._tokens: dict[TokenWish, _Token] = {}
        self._shown: _Shown | None = None
        self.look_at: float | None = None  # when `refresh` is due, Unix seconds; None: never

    async def prepare(self, pod: core.Pod, addresses: Addresses) -> None:
        """Make what is missing. Raises UnsupportedVolume, MountError, OSError."""
        check(pod)
        await self._show(pod, addresses, fresh=True)

    def is_stale(self, pod: core.Pod) -> bool:
        """Whether files may have to change now."""
        if self._shown is None:
            return False
        if _shown(pod) != self._shown and any(projection.shows_pod(volume) for volume in pod.spec.volumes):
            return True
        return self.look_at is not None and time.time() >= self.look_at

    async def refresh(self, pod: core.Pod, addresses: Addresses) -> None:
        """Show what has changed. Raises MountError, OSError; then files stay as they were."""
        self.look_at = time.time() + self._period  # also when it fails
        await self._show(pod, addresses, fresh=False)

    async def _show(self, pod: core.Pod, addresses: Addresses, *, fresh: bool) -> None:
        group = (pod.spec.security_context or {}).get("fsGroup")
        problems, changing = [], False
        for volume in pod.spec.volumes:
            path = self._directory / volume["name"]
            if any(kind in volume for kind in projection.KINDS):
                try:
                    changing |= await self._project(pod, volume, path, addresses, fresh=fresh)
                except (ConfigError, StatusError) as error:
                    problems.append(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}')
            elif fresh and "hostPath" in volume:
                try:
                    hostpaths.ensure(volume["hostPath"])
                except (hostpaths.WrongType, OSError) as error:
                    problems.append(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}')
            elif fresh:
                _make_empty(path, volume.get("emptyDir") or {}, group)
        self._shown = _shown(pod)
        times = [token.renew_at for token in self._tokens.values()]
        if changing or problems:
            times.append(time.time() + self._period * random.uniform(0.7, 1.0))  # not all pods at once
        self.look_at = min(times, default=None)
        if problems:
            raise MountError(problems[0])

    async def _project(
        self, pod: core.Pod, volume: Mapping[str, Any], path: Path, addresses: Addresses, *, fresh: bool
    ) -> bool:
        """Write the files of one volume; whether they can change. Raises ConfigError, StatusError."""
        objects, tokens = await asyncio.gather(
            self._objects(pod, volume, 0.0 if fresh else self._period / 2), self._renewed(pod, volume)
        )
        facts = Facts(addresses, objects, tokens, self._allocatable)
        files = projection.files(pod, volume, facts)
        _make_place(path, in_memory="secret" in volume or "projected" in volume)
        atomicdirectory.write(path, files, (pod.spec.security_context or {}).get("fsGroup"))
        return any(data is None or not data.immutable for data in objects.values())

    async def _objects(self, pod: core.Pod, volume: Mapping[str, Any], max_age: float) -> dict[Source, Data | None]:
        namespace = pod.metadata.namespace
        return {source: await self._reader.read(source, namespace, max_age) for source in projection.sources(volume)}

    async def _renewed(self, pod: core.Pod, volume: Mapping[str, Any]) -> dict[TokenWish, bytes]:
        """The tokens that a volume shows; those that age are asked for anew."""
        found = {}
        for wish in projection.tokens(volume):
            token = self._tokens.get(wish)
            if token is None or time.time() >= token.renew_at:
                token = self._tokens[wish] = await self._request(pod, wish)
            found[wish] = token.data
        return found

    async def _request(self, pod: core.Pod, wish: TokenWish) -> _Token:
        meta, now = pod.metadata, time.time()
        account = pod.spec.service_account_name or "default"
        spec = {
            "audiences": [wish.audience] if wish.audience else [],
            "expirationSeconds": wish.seconds,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": meta.name, "uid": meta.uid},
        }
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{meta.namespace}/serviceaccounts/{account}/token"
        answer = await self._client.request("POST", path, msgspec.json.encode(body))
        status = msgspec.json.decode(answer, type=_TokenRequest).status
        try:
            life = times.parse_time(status.expiration_timestamp) - now
        except ValueError:
            life = float(wish.seconds)
        # Not all pods at once; one that would live for long is renewed every day all the same, as kubelet does.
        renew_at = now + min(max(life, 0.0) * RENEW_AT, _LONGEST_USE) - random.uniform(0.0, min(life / 20, _JITTER))
        return _Token(status.token.encode(), renew_at)

    def mounts(
        self, pod: core.Pod, container: core.Container, values: Mapping[str, str], *, recursive_read_only: bool
    ) -> list[Mount]:
        """What a container's volumeMounts show, outer places first. Raises ConfigError.

        `recursive_read_only`: what is mounted below a directory can be made read-only, too.
        """
        kinds = {volume["name"]: volume for volume in pod.spec.volumes}
        found = []
        for entry in container.volume_mounts:
            volume = kinds.get(entry["name"], {})
            read_only = bool(entry.get("readOnly")) or any(kind in volume for kind in projection.KINDS)
            own, target = self._directory / entry["name"], entry["mountPath"]
            source = volume["hostPath"]["path"] if "hostPath" in volume else str(own)
            recursive = mountmodes.recursive_read_only(entry, possible=recursive_read_only)
            propagation = mountmodes.propagation(entry, container)
            found.append(Mount(source, target, read_only, sub_path(entry, values), propagation, recursive))
        return sorted(found, key=lambda mount: mount.target.rstrip("/").count("/"))


def sub_path(entry: Mapping[str, Any], values: Mapping[str, str]) -> str:
    """The part of a volume that is shown; empty for all of it. Raises ConfigError."""
    pattern = entry.get("subPathExpr")
    path = expand(pattern, values) if pattern else entry.get("subPath") or ""
    if pattern and "$(" in path:
        raise ConfigError(f'failed to expand subPath for volumeMount "{entry["name"]}": missing value for "{pattern}"')
    if path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(f"subPath {path} must be relative and must not contain '..'")
    return str(path)


def check(pod: core.Pod) -> None:
    """Raises UnsupportedVolume for a volume that this node does not have."""
    for volume in pod.spec.volumes:
        kind = next((key for key in volume if key != "name"), "emptyDir")
        if kind == "projected":
            unknown = [k for s in volume[kind].get("sources") or [] for k in s if k not in projection.PARTS]
            kind = f"projected {unknown[0]}" if unknown else "emptyDir"
        if kind not in ("emptyDir", "hostPath", *projection.KINDS):
            raise UnsupportedVolume(
                f'volume "{volume["name"]}": this node has no {kind} volumes, only emptyDir, hostPath and those that '
                "show ConfigMaps, Secrets and the pod itself"
            )


def _make_empty(path: Path, wish: Mapping[str, Any], group: int | None) -> None:
    fresh = not path.is_dir()
    path.mkdir(parents=True, exist_ok=True)
    if wish.get("medium") == "Memory" and not mounts.is_mount(str(path)):
        limit = wish.get("sizeLimit")
        size = f",size={int(quantity(str(limit)))}" if limit and quantity(str(limit)) > 0 else ""
        mounts.mount("tmpfs", str(path), "tmpfs", _TMPFS, f"mode=777{size}")
        fresh = True
    if fresh:
        if group is not None:
            os.chown(path, -1, group)
        os.chmod(path, 0o2777 if group is not None else 0o777)


def _make_place(path: Path, *, in_memory: bool) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if in_memory and not mounts.is_mount(str(path)):
        mounts.mount("tmpfs", str(path), "tmpfs", _TMPFS | mounts.NOEXEC, "mode=755")
