"""The plugin `twinstack-cni`: what each of its commands does, in the node's network namespace.

It is called in three ways. First in a list, it wires the container, with addresses of its own or of another IPAM
plugin; behind another plugin, it adds port mappings and masquerading; named as the IPAM plugin of another one, it
gives addresses and takes them back.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from twinstack.linux import links, netlink
from twinstack.node.cni import addresses, checking, configuration, delegation
from twinstack.node.cni.attachment import Attachment
from twinstack.node.cni.configuration import Configuration
from twinstack.node.cni.errors import (
    INVALID_CONFIGURATION,
    IO_FAILURE,
    NOT_AVAILABLE,
    TRY_AGAIN_LATER,
    CniError,
)
from twinstack.node.cni.invocation import Invocation
from twinstack.node.cni.results import LATEST, VERSIONS, Result, encode
from twinstack.node.leases import Holder, Note, locked

JSON = dict[str, Any]


class Answer(NamedTuple):
    """What the executable prints and its exit code."""

    code: int
    text: bytes


def answer(environment: dict[str, str], text: bytes) -> Answer:
    """One call from beginning to end, failures included."""
    version = LATEST
    try:
        call = Invocation.parse(environment)
        version = _claimed_version(text) or version
        if call.command == "VERSION":
            return Answer(0, _json({"cniVersion": version, "supportedVersions": list(VERSIONS)}))
        result = run(call, configuration.parse(text, call.arguments))
        return Answer(0, _json(result) if result is not None else b"")
    except CniError as error:
        failure = error
    except (OSError, netlink.DumpInterrupted) as error:
        code = TRY_AGAIN_LATER if isinstance(error, netlink.DumpInterrupted) else IO_FAILURE
        failure = CniError(code, str(error) or type(error).__name__)
    told: JSON = {"cniVersion": version, "code": failure.code, "msg": failure.message}
    if failure.details:
        told["details"] = failure.details
    return Answer(1, _json(told))


def _json(data: JSON) -> bytes:
    return json.dumps(data).encode() + b"\n"


def _claimed_version(text: bytes) -> str:
    try:
        data = json.loads(text or b"{}")
        return str(data.get("cniVersion") or "")
    except (ValueError, AttributeError, RecursionError):
        return ""


def run(call: Invocation, config: Configuration) -> JSON | None:
    """Carry out a command; the result of ADD. Raises CniError, OSError."""
    if call.command == "GC" and config.valid is None:
        raise CniError(INVALID_CONFIGURATION, "required cni.dev/valid-attachments is missing")
    made: Result | None = None
    node = netlink.NetlinkSocket(netlink.ROUTE)
    try:
        attachment = Attachment(call, config, node)
        if config.is_for_ipam:
            made = _address_plugin(call, config)
        elif call.command == "ADD":
            made = attachment.add() if config.previous is None else attachment.follow()
        elif call.command == "DEL":
            attachment.remove()
        elif call.command == "CHECK":
            attachment.check()
        elif call.command == "GC":
            collect(call, config, node)
        else:
            _status(call, config)
    finally:
        node.close()
    return encode(made, config.version) if made is not None else None


def _address_plugin(call: Invocation, config: Configuration) -> Result | None:
    holder, directory = Holder(call.container, call.interface), addresses.directory(config)
    if call.command == "ADD":
        ips = addresses.take(config, call, {"netns": call.namespace, "ipam": True})
        return Result(ips=ips, routes=config.routes or (), dns=config.dns)
    if call.command == "STATUS":
        _refuse_when_exhausted(config)
        return None
    with locked(directory, lambda: addresses.find_in_use(config)) as leases:
        if call.command == "DEL":
            for lease in leases:
                same = leases.note(lease.holder).get("netns") == call.namespace != ""
                if lease.holder == holder or (same and lease.holder.interface == holder.interface):
                    leases.forget(lease.holder)
        elif call.command == "CHECK":
            checking.lease(leases, holder, config)
        else:
            for lease in leases:
                if lease.holder not in (config.valid or ()):
                    leases.forget(lease.holder)
    return None


def collect(call: Invocation, config: Configuration, node: netlink.NetlinkSocket) -> None:
    """Remove every attachment to this network that is not valid: leases, links, port mappings."""
    if not config.has_own_addresses:
        delegation.run(config.ipam, call, config.raw)
    stale: set[Holder] = set()
    notes: dict[Holder, Note] = {}
    directory = addresses.directory(config)
    for each in (directory, directory.with_name(f"{config.name}@ports")):
        if each.is_dir():
            with locked(each) as leases:
                notes |= {lease.holder: leases.note(lease.holder) for lease in leases}
                stale |= {lease.holder for lease in leases}
    for row in map(links.read_link, node.dump(*links.link_list())):
        holder = addresses.read_alias(row.alias, config.name)
        if holder is not None:
            stale.add(holder)
    for holder in stale - set(config.valid or ()):
        namespace = str(notes.get(holder, {}).get("netns", ""))
        gone = call._replace(command="DEL", container=holder.container, interface=holder.interface)
        Attachment(gone._replace(namespace=namespace), config, node).remove()


def _status(call: Invocation, config: Configuration) -> None:
    if config.has_own_addresses:
        _refuse_when_exhausted(config)
    else:
        delegation.run(config.ipam, call, config.raw)


def _refuse_when_exhausted(config: Configuration) -> None:
    full = addresses.are_exhausted(config)
    if full is not None:
        raise CniError(NOT_AVAILABLE, f"no free {full.family} address is left in {full}", f"network {config.name}")
