"""Network configurations on disk, as an administrator or a network's installer puts them into --cni-conf-dir.

The first readable one counts, by the order of names, as with kubelet's runtimes.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from twinstack.node.cni.results import VERSIONS, is_at_least

_ENDINGS = (".conf", ".conflist", ".json")
_KNOWN = ("0.1.0", "0.2.0", *VERSIONS)

JSON = dict[str, Any]

log = logging.getLogger(__name__)


class NetworkList(NamedTuple):
    """Plugins that are called one after the other; `raw` is what it was read from."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool
    disable_gc: bool
    raw: Mapping[str, Any]

    def capable(self, capability: str) -> bool:
        """Whether a plugin wants to be told this by the runtime."""
        return any((plugin.get("capabilities") or {}).get(capability) for plugin in self.plugins)


def parse(data: Mapping[str, Any]) -> NetworkList:
    """Read a list, or a lone plugin's configuration as a list of one. Raises ValueError."""
    if not isinstance(data, dict):
        raise ValueError("it is no object")
    plugins = data.get("plugins", [data])
    if not isinstance(plugins, list) or not plugins:
        raise ValueError("no plugins in list")
    for plugin in plugins:
        if not isinstance(plugin, dict) or not isinstance(plugin.get("type"), str) or not plugin["type"]:
            raise ValueError("a plugin has no type")
    name = data.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("no name")
    return NetworkList(
        name=name,
        version=_version(data),
        plugins=tuple(plugins),
        disable_check=_is_true(data.get("disableCheck")),
        disable_gc=_is_true(data.get("disableGC")),
        raw=data,
    )


def _version(data: Mapping[str, Any]) -> str:
    """The latest that we speak, of all that the configuration offers."""
    offered: list[str] = [data.get("cniVersion") or "0.1.0", *(data.get("cniVersions") or ())]
    known = [version for version in offered if version in _KNOWN]
    if not known:
        raise ValueError(f"cniVersion {offered[0]} is not known")
    return max(known, key=_KNOWN.index)


def _is_true(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def first(directory: Path) -> NetworkList | None:
    """The one that counts; None without any."""
    for name in _names(directory):
        try:
            return parse(json.loads((directory / name).read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s is no network configuration: %s", directory / name, error)
    return None


def signature(directory: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Differs when a configuration has been changed."""
    found = []
    for name in _names(directory):
        try:
            status = (directory / name).stat()
        except FileNotFoundError:
            continue
        found.append((name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _names(directory: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.endswith(_ENDINGS))
    except (FileNotFoundError, NotADirectoryError):
        return []


def has_status_and_gc(network: NetworkList) -> bool:
    """Commands of version 1.1."""
    return is_at_least(network.version, "1.1.0")
