"""The ConfigMaps and Secrets that pods name, read from the API.

What starts a container is read anew; what only looks for changes may be as old as its caller says, so that a
hundred pods with one ConfigMap ask for it once a turn.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import NamedTuple

from twinstack.api.errors import StatusError
from twinstack.api.kinds import CONFIG_MAPS, SECRETS
from twinstack.client.rest import Client
from twinstack.node.environment import Source

KEPT = 60.0  # seconds


class Data(NamedTuple):
    """What an object holds by key. An immutable one needs no second look. `binary`: keys that are for files alone."""

    values: Mapping[str, bytes]
    immutable: bool = False
    binary: frozenset[str] = frozenset()


class _Read(NamedTuple):
    at: float  # time.monotonic
    data: Data | None


class SourceReader:
    """Of one node."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._read: dict[tuple[str, Source], _Read] = {}

    async def read(self, source: Source, namespace: str, max_age: float = 0.0) -> Data | None:
        """None when there is none of that name. Raises StatusError, OSError."""
        now = time.monotonic()
        known = self._read.get((namespace, source))
        if known is not None and now - known.at < max_age:
            return known.data
        data = await self._get(source, namespace)
        self._read = {key: read for key, read in self._read.items() if now - read.at < KEPT}
        if data is not None:
            self._read[namespace, source] = _Read(now, data)
        return data

    async def _get(self, source: Source, namespace: str) -> Data | None:
        try:
            if source.kind == "configMap":
                found = await self._client.get(CONFIG_MAPS, source.name, namespace)
                values = {key: text.encode(errors="surrogatepass") for key, text in found.data.items()}
                values |= {key: base64.b64decode(text) for key, text in found.binary_data.items()}
                return Data(values, found.immutable is True, frozenset(found.binary_data))
            secret = await self._client.get(SECRETS, source.name, namespace)
            return Data({key: base64.b64decode(text) for key, text in secret.data.items()}, secret.immutable is True)
        except StatusError as error:
            if error.code != 404:
                raise
            return None
