"""Runs the plugins of a network for an attachment: in order to add and check, in reverse to delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinstack.node.cni import delegation
from twinstack.node.cni.errors import UNDECODABLE, CniError
from twinstack.node.cni.invocation import Invocation
from twinstack.node.cni.lists import NetworkList, has_status_and_gc
from twinstack.node.cni.results import is_at_least

JSON = dict[str, Any]
Capabilities = Mapping[str, Any]  # what the runtime tells plugins that ask for it


def add(network: NetworkList, call: Invocation, told: Capabilities) -> JSON:
    """The result of the last plugin. Raises CniError; then `delete` cleans up."""
    previous: JSON | None = None
    for plugin in network.plugins:
        previous = _run("ADD", network, plugin, call, told, previous) or previous
    if previous is None:
        raise CniError(UNDECODABLE, f"network {network.name} gave no result")
    return previous


def check(network: NetworkList, call: Invocation, told: Capabilities, result: JSON) -> None:
    """Whether everything is as it was added. Raises CniError."""
    if network.disable_check or not is_at_least(network.version, "0.4.0"):
        return
    for plugin in network.plugins:
        _run("CHECK", network, plugin, call, told, result)


def delete(network: NetworkList, call: Invocation, told: Capabilities, result: JSON | None) -> None:
    """Idempotent, as far as the plugins are. `result` None: nobody knows how far ADD came. Raises CniError."""
    known = result if is_at_least(network.version, "0.4.0") else None
    for plugin in reversed(network.plugins):
        _run("DEL", network, plugin, call, told, known)


def status(network: NetworkList, path: Sequence[str]) -> None:
    """Whether it can take containers. Raises CniError."""
    if has_status_and_gc(network):
        for plugin in network.plugins:
            _run("STATUS", network, plugin, Invocation("STATUS", path=tuple(path)), {}, None)


def collect(network: NetworkList, path: Sequence[str], valid: Sequence[Invocation]) -> None:
    """Have the plugins remove all attachments but these. Raises CniError."""
    if network.disable_gc or not has_status_and_gc(network):
        return
    attachments = [{"containerID": call.container, "ifname": call.interface} for call in valid]
    for plugin in network.plugins:
        more = {**plugin, "cni.dev/valid-attachments": attachments}
        _run("GC", network, more, Invocation("GC", path=tuple(path)), {}, None)


def _run(
    command: str,
    network: NetworkList,
    plugin: Mapping[str, Any],
    call: Invocation,
    told: Capabilities,
    previous: JSON | None,
) -> JSON | None:
    config: JSON = {**plugin, "name": network.name, "cniVersion": network.version}
    wanted = {name for name, asked in (plugin.get("capabilities") or {}).items() if asked}
    runtime = {name: value for name, value in told.items() if name in wanted}
    if runtime:
        config["runtimeConfig"] = runtime
    if previous is not None:
        config["prevResult"] = previous
    try:
        return delegation.run(plugin["type"], call._replace(command=command), config)
    except CniError as error:
        text = f'plugin type="{plugin["type"]}" failed ({command.lower()}): {error.message}'
        raise CniError(error.code, text, error.details) from None
