"""Kubernetes' own CEL libraries: quantities, IP addresses and blocks, URLs, sets, formats, semantic versions.

https://kubernetes.io/docs/reference/using-api/cel/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twinstack.api.cel.values import NONE, EvaluationError, NoSuchOverload, Optional, equal
from twinstack.api.structural import formats

Function = Callable[..., Any]

_QUANTITY = re.compile(r"([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([-+]?[0-9]{1,2}))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {name: 10 * (i + 1) for i, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))}


class Quantity:
    """`quantity("1.5Gi")`."""

    def __init__(self, amount: Fraction) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.amount == other.amount

    def __hash__(self) -> int:
        return hash(self.amount)


def _amount(text: str) -> Fraction | None:
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    number, suffix, exponent = match.groups()
    amount = Fraction(number)
    if suffix in _BINARY:
        return amount * (1 << _BINARY[suffix])
    power = int(exponent) if exponent else _DECIMAL[suffix or ""]
    ten: int = 10 ** abs(power)
    return amount * ten if power >= 0 else amount / ten


def _quantity(text: str) -> Quantity:
    amount = _amount(text)
    if amount is None:
        raise EvaluationError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    return Quantity(amount)


def _as_quantity(value: Any) -> Quantity:
    if isinstance(value, Quantity):
        return value
    if type(value) is not int:
        raise NoSuchOverload
    return Quantity(Fraction(value))


def _compare_to(one: Any, other: Any) -> int:
    if isinstance(one, Quantity):
        mine, theirs = one.amount, _as_quantity(other).amount
        return (mine > theirs) - (mine < theirs)
    if isinstance(one, Version) and isinstance(other, Version):
        return (one.order > other.order) - (one.order < other.order)
    raise NoSuchOverload


def _as_integer(value: Quantity) -> int:
    if value.amount.denominator != 1 or not -(2**63) <= value.amount < 2**63:
        raise EvaluationError("cannot convert value to integer")
    return int(value.amount)


class Version:
    """`semver("1.2.3-rc.1")`."""

    def __init__(self, text: str, order: tuple[Any, ...]) -> None:
        self.spelling = text
        self.order = order

    def text(self) -> str:
        return self.spelling

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.order == other.order

    def __hash__(self) -> int:
        return hash(self.order)


_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:[0-9A-Za-z-]+)(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
)


def _parsed_version(text: str) -> Version | None:
    match = _SEMVER.fullmatch(text)
    if match is None:
        return None
    *numbers, before = match.groups()
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in (before or "").split(".") if part)
    return Version(text, (*map(int, numbers), (0, parts) if before else (1, ())))


def _semver(text: str) -> Version:
    version = _parsed_version(text)
    if version is None:
        raise EvaluationError("No Major.Minor.Patch elements found")
    return version


# --- addresses


class IP:
    """`ip("10.0.0.1")`."""

    def __init__(self, value: IPv4Address | IPv6Address) -> None:
        self.value = value

    def text(self) -> str:
        return str(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IP) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


class Block:
    """`cidr("10.0.0.0/8")`; `address` is as written, host bits and all."""

    def __init__(self, address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> None:
        self.address = address
        self.network = network

    def text(self) -> str:
        return f"{self.address}/{self.network.prefixlen}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and (self.address, self.network) == (other.address, other.network)

    def __hash__(self) -> int:
        return hash(self.network)


def _parse_ip(text: str) -> IP:
    try:
        value = ip_address(text)
    except ValueError:
        raise EvaluationError(f'IP Address "{text}" parse error during conversion from string') from None
    if "%" in text or (isinstance(value, IPv6Address) and value.ipv4_mapped):
        raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return IP(value)


def _parse_block(text: str) -> Block:
    problem = EvaluationError(f'network address parse error during conversion from string: "{text}"')
    address, slash, length = text.partition("/")
    if not slash or not re.fullmatch("0|[1-9][0-9]{0,2}", length):
        raise problem
    try:
        return Block(ip_address(address), ip_network(text, strict=False))
    except ValueError:
        raise problem from None


def _succeeds(parse: Callable[[str], Any]) -> Function:
    def judge(text: str) -> bool:
        try:
            parse(text)
        except EvaluationError:
            return False
        return True

    return judge


def _contains_ip(block: Block, other: Any) -> bool:
    address = _parse_ip(other).value if isinstance(other, str) else other.value
    return address in block.network


def _contains_cidr(block: Block, other: Any) -> bool:
    inner = _parse_block(other).network if isinstance(other, str) else other.network
    mine = block.network
    return inner.version == mine.version and inner.prefixlen >= mine.prefixlen and inner.network_address in mine


def _family(value: Any) -> int:
    return int(value.value.version if isinstance(value, IP) else value.network.version)


# --- URLs


class URL:
    """`url("https://example.com:80/path")`."""

    def __init__(self, text: str) -> None:
        self.spelling = text
        self.parts = urlsplit(text)

    def text(self) -> str:
        return self.spelling

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URL) and self.spelling == other.spelling

    def __hash__(self) -> int:
        return hash(self.spelling)


def _url(text: str) -> URL:
    if not formats.is_uri(text):
        raise EvaluationError(f'URL parse error during conversion from string: parse "{text}": invalid URI for request')
    return URL(text)


def _port(url: URL) -> str:
    return url.parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]


def _hostname(url: URL) -> str:
    host = url.parts.netloc.rpartition("@")[2]
    return host[1 : host.index("]")] if host[:1] == "[" else host.partition(":")[0]


# --- sets and formats


def _set_contains(one: list[Any], other: list[Any]) -> bool:
    return all(any(equal(item, have) for have in one) for item in other)


def _intersects(one: list[Any], other: list[Any]) -> bool:
    return any(any(equal(item, have) for have in one) for item in other)


class Format:
    """A value of `format.dns1123Label()` and the like."""

    def __init__(self, name: str, check: Callable[[str], list[str]]) -> None:
        self.name = name
        self.check = check


def _format_named(name: str) -> Optional:
    check = formats.named().get(name)
    return Optional(Format(name, check)) if check else NONE


def _validate(form: Format, text: str) -> Optional:
    problems = form.check(text)
    return Optional(list(problems)) if problems else NONE


LIBRARY_FUNCTIONS: dict[str, Function] = {
    "quantity": _quantity,
    "isQuantity": lambda text: _amount(text) is not None,
    "ip": _parse_ip,
    "isIP": _succeeds(_parse_ip),
    "cidr": _parse_block,
    "isCIDR": _succeeds(_parse_block),
    "url": _url,
    "isURL": _succeeds(_url),
    "semver": _semver,
    "isSemver": lambda text: _parsed_version(text) is not None,
}

LIBRARY_METHODS: dict[str, Function] = {
    "isGreaterThan": lambda one, other: _compare_to(one, other) > 0,
    "isLessThan": lambda one, other: _compare_to(one, other) < 0,
    "compareTo": _compare_to,
    "add": lambda one, other: Quantity(one.amount + _as_quantity(other).amount),
    "sub": lambda one, other: Quantity(one.amount - _as_quantity(other).amount),
    "sign": lambda one: (one.amount > 0) - (one.amount < 0),
    "isInteger": lambda one: one.amount.denominator == 1 and -(2**63) <= one.amount < 2**63,
    "asInteger": _as_integer,
    "asApproximateFloat": lambda one: float(one.amount),
    "major": lambda version: version.order[0],
    "minor": lambda version: version.order[1],
    "patch": lambda version: version.order[2],
    "family": _family,
    "isUnspecified": lambda ip: ip.value.is_unspecified,
    "isLoopback": lambda ip: ip.value.is_loopback,
    "isLinkLocalMulticast": lambda ip: str(ip.value).startswith(("224.0.0.", "ff02:")),
    "isLinkLocalUnicast": lambda ip: ip.value.is_link_local,
    "isGlobalUnicast": lambda ip: (
        not (ip.value.is_unspecified or ip.value.is_loopback or ip.value.is_multicast or ip.value.is_link_local)
    ),
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "ip": lambda block: IP(block.address),
    "masked": lambda block: Block(block.network.network_address, block.network),
    "prefixLength": lambda block: block.network.prefixlen,
    "getScheme": lambda url: url.parts.scheme,
    "getHost": lambda url: url.parts.netloc.rpartition("@")[2],
    "getHostname": _hostname,
    "getPort": _port,
    "getEscapedPath": lambda url: url.parts.path,
    "getQuery": lambda url: parse_qs(url.parts.query, keep_blank_values=True),
    "validate": _validate,
}

LIBRARY_NAMESPACES: dict[tuple[str, str], Function] = {
    ("sets", "contains"): _set_contains,
    ("sets", "intersects"): _intersects,
    ("sets", "equivalent"): lambda one, other: _set_contains(one, other) and _set_contains(other, one),
    ("ip", "isCanonical"): lambda text: str(_parse_ip(text).value) == text,
    ("format", "named"): _format_named,
    **{
        ("format", name): (lambda name=name: _format_named(name).value)
        for name in (
            "dns1123Label",
            "dns1123Subdomain",
            "dns1035Label",
            "qualifiedName",
            "dns1123LabelPrefix",
            "dns1123SubdomainPrefix",
            "dns1035LabelPrefix",
            "labelValue",
            "uri",
            "uuid",
            "byte",
            "date",
            "datetime",
        )
    },
}
