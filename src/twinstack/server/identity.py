"""The Lease by which a server tells that it lives (KEP-1965): `kube-system/apiserver-HASH`, HASH being the host's.

`kubectl get leases -n kube-system -l apiserver.kubernetes.io/identity` lists the servers of a cluster. It is renewed
as rarely as its duration allows without doubt, so that an idle server writes next to nothing.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import time
from typing import Any

from twinstack.api import times
from twinstack.api.resources import resource
from twinstack.server.messages import Route, UserInfo
from twinstack.server.registry import Registry
from twinstack.server.uuids import random_uuid

JSON = dict[str, Any]

_LEASES = resource("coordination.k8s.io", "leases")
_NAMESPACE = "kube-system"
_DURATION = 3600  # seconds
_RENEWAL = 300.0
_SELF = UserInfo("system:apiserver", ("system:masters",))


class Identity:
    """This run of the server; another run on the same host takes its Lease over."""

    def __init__(self, registry: Registry, hostname: str = "") -> None:
        self._registry = registry
        self._hostname = hostname or socket.gethostname()
        digest = hashlib.sha256(_prefixed(self._hostname) + _prefixed("kube-apiserver")).digest()[:16]
        self.name = f"apiserver-{base64.b32encode(digest).decode().rstrip('=').lower()}"
        self.holder = f"{self.name}_{random_uuid()}"
        self._renewed = -_RENEWAL

    async def ensure(self) -> None:
        """Make or renew the Lease when it is time. Raises StatusError, StoreError."""
        stored = self._registry.reader.get(_LEASES, _NAMESPACE, self.name)
        if stored is not None and time.monotonic() < self._renewed + _RENEWAL:
            return
        if stored is None:
            body = {"metadata": {"name": self.name, "namespace": _NAMESPACE}}
            await self._registry.create(Route(_LEASES, _NAMESPACE), self._held(body), _SELF)
        else:
            route = Route(_LEASES, _NAMESPACE, self.name)
            await self._registry.change(route, lambda lease: (self._held(lease), []), _SELF)
        self._renewed = time.monotonic()

    def _held(self, lease: JSON) -> JSON:
        labels = {"apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": self._hostname}
        lease["metadata"]["labels"] = (lease["metadata"].get("labels") or {}) | labels
        held = {"holderIdentity": self.holder, "leaseDurationSeconds": _DURATION, "renewTime": times.micro_now()}
        lease["spec"] = (lease.get("spec") or {}) | held
        return lease


def _prefixed(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data
