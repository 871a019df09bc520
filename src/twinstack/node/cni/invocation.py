"""How a plugin is called: the variables of the environment, checked as the specification has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from twinstack.node.cni.errors import INVALID_ENVIRONMENT, CniError

_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", re.ASCII)
_LONGEST_CONTAINER = 128  # it is part of the name of a lease's file
_ON_ATTACHMENTS = {"ADD", "DEL", "CHECK"}
COMMANDS = (*_ON_ATTACHMENTS, "GC", "STATUS", "VERSION")


class Invocation(NamedTuple):
    """One call of a plugin."""

    command: str
    container: str = ""
    namespace: str = ""  # the path of the network namespace; may be empty for DEL
    interface: str = ""
    arguments: Mapping[str, str] = {}  # CNI_ARGS
    path: tuple[str, ...] = ()  # where executables are looked for

    @classmethod
    def parse(cls, environment: Mapping[str, str]) -> Invocation:
        """Read `CNI_…`. Raises CniError."""
        command = environment.get("CNI_COMMAND", "")
        if command not in COMMANDS:
            raise CniError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {command!r}")
        made = cls(
            command,
            environment.get("CNI_CONTAINERID", ""),
            environment.get("CNI_NETNS", ""),
            environment.get("CNI_IFNAME", ""),
            _arguments(environment.get("CNI_ARGS", "")),
            tuple(part for part in environment.get("CNI_PATH", "").split(":") if part),
        )
        if command in _ON_ATTACHMENTS:
            made._check()
        return made

    def environment(self) -> dict[str, str]:
        """The variables that make this call."""
        return {
            "CNI_COMMAND": self.command,
            "CNI_CONTAINERID": self.container,
            "CNI_NETNS": self.namespace,
            "CNI_IFNAME": self.interface,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in self.arguments.items()),
            "CNI_PATH": ":".join(self.path),
        }

    def _check(self) -> None:
        needed = {"CNI_CONTAINERID": self.container, "CNI_IFNAME": self.interface}
        if self.command != "DEL":
            needed["CNI_NETNS"] = self.namespace
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise CniError(INVALID_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")
        if not _CONTAINER.fullmatch(self.container) or len(self.container) > _LONGEST_CONTAINER:
            raise CniError(INVALID_ENVIRONMENT, f"invalid characters in CNI_CONTAINERID: {self.container!r}")
        name = self.interface
        if name in (".", "..") or len(name.encode()) > 15 or re.search(r"[/:\s\0]", name):
            raise CniError(INVALID_ENVIRONMENT, f"invalid CNI_IFNAME: {name!r}")


def _arguments(text: str) -> dict[str, str]:
    found = {}
    for part in text.split(";"):
        key, equals, value = part.partition("=")
        if part and not equals:
            raise CniError(INVALID_ENVIRONMENT, f"invalid CNI_ARGS pair: {part!r}")
        if part:
            found[key] = value
    return found
