"""How objects of a custom resource are shown in one of its versions: only the type differs (conversion None)."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api.resources import Resource
from twinstack.api.structural.defaulting import prune
from twinstack.server.versions import Version, View

JSON = dict[str, Any]


class CustomView(View):
    """Stored bytes are shown as they are when they were written in this version and under this definition."""

    def __init__(self, resource: Resource) -> None:
        assert resource.custom is not None
        super().__init__(resource)
        self._kind = resource.custom
        self._stored_type = f"{resource.group}/{self._kind.storage}"
        self.stores_as_shown = self._kind.storage == resource.version

    def _is_shown(self, version: Version) -> bool:
        return self.stores_as_shown and version.revision > self._kind.since

    def show(self, version: Version) -> bytes:
        return version.value if self._is_shown(version) else msgspec.json.encode(self.read(version))

    def read(self, version: Version) -> JSON:
        obj = version.decode()
        if not self._is_shown(version):
            obj["apiVersion"] = self.resource.group_version
            prune(obj, self._kind.schema, resource=True)
            self._kind.complete(obj)
        return obj

    def store(self, obj: JSON) -> JSON:
        return obj if self.stores_as_shown else obj | {"apiVersion": self._stored_type}
