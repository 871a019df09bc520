"""ConfigMaps of `kube-system` by which the server tells others about itself.

`extension-apiserver-authentication` names the authority of client certificates, so that servers beside this one
(the scheduler and the controller manager among them) accept the same clients. The second says since when the use of
tokens kept in Secrets has been recorded, which the controller that removes unused ones reads.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from twinstack.api import times
from twinstack.api.resources import resource
from twinstack.server.messages import Route, UserInfo
from twinstack.server.registry import Registry

JSON = dict[str, Any]

_CONFIG_MAPS = resource("", "configmaps")
_NAMESPACE = "kube-system"
_AUTHENTICATION = "extension-apiserver-authentication"
_TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
_CLIENT_CA = "client-ca-file"
_SELF = UserInfo("system:apiserver", ("system:masters",))


async def ensure(registry: Registry, client_ca_file: str) -> None:
    """Write what is missing or has changed. An empty path: no client certificates. Raises OSError, StatusError."""
    if client_ca_file:
        await _ensure_authority(registry, await asyncio.to_thread(Path(client_ca_file).read_text))
    if registry.reader.get(_CONFIG_MAPS, _NAMESPACE, _TRACKING) is None:
        await _create(registry, _TRACKING, {"since": times.now()[:10]})


async def _ensure_authority(registry: Registry, authority: str) -> None:
    stored = registry.reader.get(_CONFIG_MAPS, _NAMESPACE, _AUTHENTICATION)
    if stored is None:
        await _create(registry, _AUTHENTICATION, {_CLIENT_CA: authority})
    elif (stored.get("data") or {}).get(_CLIENT_CA) != authority:

        def name_authority(obj: JSON) -> tuple[JSON, list[str]]:
            obj["data"] = (obj.get("data") or {}) | {_CLIENT_CA: authority}
            return obj, []

        await registry.change(Route(_CONFIG_MAPS, _NAMESPACE, _AUTHENTICATION), name_authority, _SELF)


async def _create(registry: Registry, name: str, data: JSON) -> None:
    body = {"metadata": {"name": name, "namespace": _NAMESPACE}, "data": data}
    await registry.create(Route(_CONFIG_MAPS, _NAMESPACE), body, _SELF)
