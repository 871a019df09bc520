"""The configuration of one plugin of a network, as it comes on standard input. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from twinstack.ip import CIDR, Address
from twinstack.node.cni.errors import INVALID_CONFIGURATION, UNDECODABLE, UNSUPPORTED_FIELD, CniError
from twinstack.node.cni.ranges import RangeSet, parse_sets
from twinstack.node.cni.results import Result, Route, check_version, decode
from twinstack.node.leases import Holder

NAME = "twinstack-cni"  # of the plugin: its type
DATA = "/run/twinstack-cni"  # gone after a restart of the machine, as the networks of its containers are
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,79}", re.ASCII)
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", re.ASCII)
_REMEMBERED = 32  # a runtime says the same for each of its containers
_PROTOCOLS = ("tcp", "udp", "sctp")


class PortMapping(NamedTuple):
    """A port of the node that leads to the container; no address: on all of them."""

    host_port: int
    container_port: int
    protocol: str  # TCP, UDP or SCTP
    host_ip: Address | None


class Configuration(NamedTuple):
    """`previous` is the result of what ran before: in a list, or of the ADD that is checked or deleted."""

    version: str
    name: str
    type: str
    raw: Mapping[str, Any]
    ipam: str = ""  # the type of the IPAM plugin; empty: our own
    sets: tuple[RangeSet, ...] = ()
    routes: tuple[Route, ...] | None = None
    dns: Mapping[str, Any] = {}
    mtu: int = 0  # that of the way out
    masquerade: bool = False
    spared: tuple[CIDR, ...] = ()  # destinations towards which containers keep their address
    data: Path = Path(DATA)
    previous: Result | None = None
    requested: tuple[Address, ...] = ()
    mac: bytes | None = None
    ports: tuple[PortMapping, ...] = ()
    valid: tuple[Holder, ...] | None = None  # of GC: all other attachments are to go

    @property
    def is_for_ipam(self) -> bool:
        """Whether another plugin wires, and asks us for addresses alone."""
        return self.type != NAME and self.ipam == NAME

    @property
    def has_own_addresses(self) -> bool:
        return self.ipam in ("", NAME)


def parse(text: bytes, arguments: Mapping[str, str]) -> Configuration:
    """Read a configuration; `arguments` are CNI_ARGS. Raises CniError."""
    return _read(text, arguments.get("MAC", ""), arguments.get("IP", ""))


@lru_cache(_REMEMBERED)
def _read(text: bytes, mac: str, addresses: str) -> Configuration:
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise CniError(UNDECODABLE, "could not parse the network configuration", str(error)) from None
    version = check_version(data.get("cniVersion") or "0.1.0")
    try:
        return _parse(data, version, mac, addresses)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CniError(INVALID_CONFIGURATION, "invalid network configuration", str(error)) from None


def _parse(data: dict[str, Any], version: str, mac: str, addresses: str) -> Configuration:
    name = data.get("name") or ""
    if not _NETWORK.fullmatch(name):
        raise ValueError(f"invalid characters found in network name: {name!r}" if name else "missing network name")
    ipam, runtime = data.get("ipam") or {}, data.get("runtimeConfig") or {}
    told = [[_camel(each) for each in entry] for entry in runtime.get("ipRanges") or ()]
    sets = told or ipam.get("ranges") or ([[ipam]] if "subnet" in ipam else [])
    own = ipam.get("type", "") in ("", NAME)
    mac = runtime.get("mac") or mac or data.get("mac") or ""
    if mac and (not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1):
        raise CniError(UNSUPPORTED_FIELD, f"mac: {mac} is no address of one interface")
    mtu = int(data.get("mtu") or 0)
    if mtu and not 1280 <= mtu <= 65535:
        raise ValueError(f"mtu {mtu} is not between 1280, the least of IPv6, and 65535")
    given = runtime.get("ips") or addresses.split(",")
    return Configuration(
        version=version,
        name=name,
        type=data.get("type") or "",
        raw=data,
        ipam=ipam.get("type", ""),
        sets=parse_sets(sets) if own else (),
        routes=_routes(ipam["routes"]) if own and "routes" in ipam else None,
        dns=data.get("dns") or ipam.get("dns") or {},
        mtu=mtu,
        masquerade=bool(data.get("ipMasq")),
        spared=tuple(CIDR.parse(text) for text in data.get("nonMasqueradeCIDRs") or ()),
        data=Path((own and ipam.get("dataDir")) or DATA),
        previous=decode(data["prevResult"]) if data.get("prevResult") else None,
        requested=tuple(Address.parse(text.partition("/")[0]) for text in given if text),
        mac=bytes.fromhex(mac.replace(":", "")) if mac else None,
        ports=tuple(_port(entry) for entry in runtime.get("portMappings") or ()),
        valid=_holders(data["cni.dev/valid-attachments"]) if "cni.dev/valid-attachments" in data else None,
    )


def _routes(entries: Sequence[Mapping[str, Any]]) -> tuple[Route, ...]:
    return tuple(
        Route(CIDR.parse(entry["dst"]), Address.parse(entry["gw"]) if entry.get("gw") else None) for entry in entries
    )


def _holders(entries: Sequence[Mapping[str, str]] | None) -> tuple[Holder, ...]:
    return tuple(Holder(entry["containerID"], entry["ifname"]) for entry in entries or ())


def _camel(entry: Mapping[str, Any]) -> dict[str, Any]:
    """containerd writes HostPort and RangeStart; readers in Go do not mind."""
    return {f"{key[:1].lower()}{key[1:]}": value for key, value in entry.items()}


def _port(entry: Mapping[str, Any]) -> PortMapping:
    entry = _camel(entry)
    protocol = (entry.get("protocol") or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise CniError(UNSUPPORTED_FIELD, f"portMappings: protocol {protocol}")
    host, container = int(entry["hostPort"]), int(entry["containerPort"])
    if not (0 < host < 65536 and 0 < container < 65536):
        raise ValueError(f"invalid port of a mapping: {host} to {container}")
    address = Address.parse(entry["hostIP"]) if entry.get("hostIP") else None
    return PortMapping(host, container, protocol.upper(), address)
