"""What ADD answers, in the form of each version of the specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.node.cni.errors import INCOMPATIBLE_VERSION, UNDECODABLE, CniError

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = VERSIONS[-1]

JSON = dict[str, Any]


class Interface(NamedTuple):
    """An interface; `sandbox` is the path of the namespace it is in, empty for the node's own."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int = 0


class IP(NamedTuple):
    """An address with the length of its prefix; `interface` counts in the result's interfaces."""

    address: Address
    prefix: int
    gateway: Address | None = None
    interface: int | None = None


class Route(NamedTuple):
    """A route of the container."""

    destination: CIDR
    via: Address | None = None


class Result(NamedTuple):
    """Of a plugin; without interfaces, of an IPAM plugin."""

    interfaces: Sequence[Interface] = ()
    ips: Sequence[IP] = ()
    routes: Sequence[Route] = ()
    dns: Mapping[str, Any] = {}


def check_version(version: str) -> str:
    """The version itself. Raises CniError for one that we do not speak."""
    if version not in VERSIONS:
        text = f"config is {version!r}, plugin supports {list(VERSIONS)}"
        raise CniError(INCOMPATIBLE_VERSION, "incompatible CNI versions", text)
    return version


def is_at_least(version: str, other: str) -> bool:
    """Whether `version` is `other` or later."""
    return _number(version) >= _number(other)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


def encode(result: Result, version: str) -> JSON:
    """As JSON; what a version does not know yet is left out."""
    made: JSON = {"cniVersion": version}
    if result.interfaces:
        made["interfaces"] = [_interface(each, version) for each in result.interfaces]
    made["ips"] = [_ip(each, version) for each in result.ips]
    if result.routes:
        made["routes"] = [
            {"dst": str(route.destination)} | ({"gw": str(route.via)} if route.via is not None else {})
            for route in result.routes
        ]
    made["dns"] = dict(result.dns)
    return made


def _interface(interface: Interface, version: str) -> JSON:
    made: JSON = {"name": interface.name}
    if interface.mac:
        made["mac"] = interface.mac
    if interface.sandbox:
        made["sandbox"] = interface.sandbox
    if interface.mtu and is_at_least(version, "1.1.0"):
        made["mtu"] = interface.mtu
    return made


def _ip(ip: IP, version: str) -> JSON:
    made: JSON = {"address": f"{ip.address}/{ip.prefix}"}
    if not is_at_least(version, "1.0.0"):
        made["version"] = "4" if ip.address.family is IPFamily.IPV4 else "6"
    if ip.gateway is not None:
        made["gateway"] = str(ip.gateway)
    if ip.interface is not None:
        made["interface"] = ip.interface
    return made


def decode(data: object) -> Result:
    """Read a result of any of the versions. Raises CniError."""
    try:
        return _decode(data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CniError(UNDECODABLE, "could not read a plugin's result", str(error)) from None


def _decode(data: Any) -> Result:
    ips = []
    for entry in data.get("ips") or ():
        text, _, prefix = entry["address"].partition("/")
        gateway = Address.parse(entry["gateway"]) if entry.get("gateway") else None
        ips.append(IP(Address.parse(text), int(prefix), gateway, entry.get("interface")))
    interfaces = [
        Interface(entry["name"], entry.get("mac") or "", entry.get("sandbox") or "", entry.get("mtu") or 0)
        for entry in data.get("interfaces") or ()
    ]
    routes = [
        Route(CIDR.parse(entry["dst"]), Address.parse(entry["gw"]) if entry.get("gw") else None)
        for entry in data.get("routes") or ()
    ]
    return Result(interfaces, ips, routes, dict(data.get("dns") or {}))
