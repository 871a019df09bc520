"""The server's flags: read and checked as kube-apiserver does, in its words. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.ip.addresses import parse_addresses

DEFAULT_SERVICE_RANGE = "10.0.0.0/24"  # upstream's, deprecated there
AUTHORIZATION_MODES = ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC")

_SMALLEST_RANGE = 8
_SHORTEST_IPV6_PREFIX = 64
_RANGE_ADVICE = "write one CIDR block, or one a family, as 10.96.0.0/16,fd00:10:96::/112"
_HIGHEST_PORT = 65535


class FlagError(ValueError):
    """A flag's value that cannot be used; the message is for people."""


def service_ranges(text: str) -> tuple[CIDR, ...]:
    """`--service-cluster-ip-range`: one block, or two of different families; the first is the primary one."""
    parts = (text or DEFAULT_SERVICE_RANGE).split(",")
    ranges = [_block(parts[0], "service-cluster-ip-range[0] is not a valid cidr")]
    _check_size(ranges[0], "primary")
    ranges += [_block(part, "service-cluster-ip-range[1] is not an ip net") for part in parts[1:2]]
    if len(parts) > 2:
        raise FlagError(f"--service-cluster-ip-range must not contain more than two entries; {_RANGE_ADVICE}")
    if len(ranges) == 2:
        if ranges[0].family is ranges[1].family:
            raise FlagError(
                "--service-cluster-ip-range[0] and --service-cluster-ip-range[1] must be of different IP family; "
                f"{_RANGE_ADVICE}"
            )
        _check_size(ranges[1], "secondary")
    return tuple(ranges)


def _block(text: str, message: str) -> CIDR:
    try:
        return CIDR.parse(text)
    except ValueError as error:
        raise FlagError(f"{message}: {text!r}; {_RANGE_ADVICE}") from error


def _check_size(block: CIDR, which: str) -> None:
    """Refuse at the start what would never give an address later."""
    prefix = f"error determining service IP ranges for {which} service cidr"
    if block.size < _SMALLEST_RANGE:
        problem = f"the service cluster IP range must be at least {_SMALLEST_RANGE} IP addresses"
        raise FlagError(f"{prefix}: {problem}, {block} has {block.size}; choose a shorter prefix")
    if block.family is IPFamily.IPV6 and block.prefix < _SHORTEST_IPV6_PREFIX:
        problem = f"shortest allowed prefix length for service CIDR is {_SHORTEST_IPV6_PREFIX}, got {block.prefix}"
        raise FlagError(f"{prefix}: {problem}; choose a longer prefix, as /112")


def node_ports(text: str) -> range:
    """`--service-node-port-range`: `30000-32767`, `30000+2768` or one port."""
    text = text.strip()
    low_text, minus, high_text = text.partition("-")
    if not minus:
        low_text, plus, size_text = text.partition("+")
        high_text = str(_number(low_text, text) + _number(size_text, text)) if plus else low_text
    low, high = _number(low_text, text), _number(high_text, text)
    if low > _HIGHEST_PORT or high > _HIGHEST_PORT:
        raise FlagError(f"the port range cannot be greater than {_HIGHEST_PORT}: {text}")
    if high < low:
        raise FlagError(f"end port cannot be less than start port: {text}")
    return range(low, high + 1)


def _number(text: str, whole: str) -> int:
    if not text.isdecimal():
        raise FlagError(f"unable to parse port range: {whole!r}")
    return int(text)


def secure_port(port: int) -> int:
    """`--secure-port`."""
    if not 1 <= port <= _HIGHEST_PORT:
        raise FlagError(
            f"--secure-port {port} must be between 1 and {_HIGHEST_PORT}, inclusive. It cannot be turned off with 0"
        )
    return port


def advertised(text: str, ranges: Sequence[CIDR]) -> tuple[Address, ...]:
    """`--advertise-address`: one address, or one a family; the first must be of the primary range's family."""
    if not text:
        return ()
    try:
        addresses = parse_addresses(text)
    except ValueError as error:
        raise FlagError(f"--advertise-address: {error}") from error
    if addresses[0].family is not ranges[0].family:
        raise FlagError(
            f'service IP family "{_family_number(ranges[0].family)}" must match '
            f'public address family "{_family_number(addresses[0].family)}"'
        )
    return tuple(addresses)


def _family_number(family: IPFamily) -> str:
    return "4" if family is IPFamily.IPV4 else "6"


def authorization_modes(text: str) -> tuple[str, ...]:
    """`--authorization-mode`: the modes in their order."""
    modes = tuple(text.split(","))
    if not text:
        raise FlagError("at least one authorization-mode must be passed")
    for mode in modes:
        if mode not in AUTHORIZATION_MODES:
            offered = ", ".join(AUTHORIZATION_MODES)
            raise FlagError(f"authorization-mode {json.dumps(mode)} is not a valid mode; this server offers {offered}")
        if modes.count(mode) > 1:
            raise FlagError(f"authorization-mode {json.dumps(modes)} has mode specified more than once")
    return modes


def boolean(name: str, text: str) -> bool:
    """A flag that is true when given without a value, as Go reads it."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise FlagError(
        f'invalid argument "{text}" for "--{name}" flag: strconv.ParseBool: parsing "{text}": invalid syntax'
    )
