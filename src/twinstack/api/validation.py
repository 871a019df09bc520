"""Rules of text that every kind shares: names, labels, ports, and IP addresses and CIDR blocks.

The small functions take a value and return what is wrong with it as sentences in the API server's words; an
empty list means valid. Those that take a `field` path return FieldErrors. Metadata rules are in
`twinstack.api.metadata`.

Sources: RFC 1123 (host names), RFC 6335 (service names), RFC 5952 (IPv6 text), Kubernetes 1.36.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from twinstack.api.errors import FieldError, go_value, invalid, required
from twinstack.ip import CIDR, Address, IPFamily

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_NAME_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_NAME_PART})?"
_WILDCARD = rf"\*\.{_SUBDOMAIN}"
_HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"

_label = re.compile(_LABEL).fullmatch
_subdomain = re.compile(_SUBDOMAIN).fullmatch
_wildcard = re.compile(_WILDCARD).fullmatch
_http_path = re.compile(_HTTP_PATH).fullmatch
_name_part = re.compile(_NAME_PART).fullmatch
_label_value = re.compile(_LABEL_VALUE).fullmatch
_config_key = re.compile(_CONFIG_KEY).fullmatch
_env_name = re.compile("[ -<>-~]+").fullmatch

MAX_LABEL = 63
MAX_SUBDOMAIN = 253


def _regex_error(sentence: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{sentence} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL_ERROR = _regex_error(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character",
    _LABEL,
    "my-name",
    "123-abc",
)
_SUBDOMAIN_ERROR = _regex_error(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character",
    _SUBDOMAIN,
    "example.com",
)
_NAME_PART_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_NAME_PART_ERROR = _regex_error(_NAME_PART_RULE, _NAME_PART, "MyName", "my.name", "123-abc")
_LABEL_VALUE_ERROR = _regex_error(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character",
    _LABEL_VALUE,
    "MyValue",
    "my_value",
    "12345",
)
_WILDCARD_ERROR = _regex_error(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    _WILDCARD,
    "*.example.com",
)
_CONFIG_KEY_ERROR = _regex_error(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_ENV_NAME_ERROR = "a valid environment variable name must consist only of printable ASCII characters other than '='"

NameRule = Callable[[str], list[str]]


def dns_label(value: str) -> list[str]:
    """RFC 1123 label of at most 63 characters."""
    errors = [] if len(value) <= MAX_LABEL else [f"must be no more than {MAX_LABEL} characters"]
    if not _label(value):
        errors.append("must not contain dots" if _subdomain(value) else _LABEL_ERROR)
    return errors


def dns_subdomain(value: str) -> list[str]:
    """RFC 1123 labels joined by dots, at most 253 characters."""
    errors = [] if len(value) <= MAX_SUBDOMAIN else [f"must be no more than {MAX_SUBDOMAIN} characters"]
    if not _subdomain(value):
        errors.append(_SUBDOMAIN_ERROR)
    return errors


def wildcard_subdomain(value: str) -> list[str]:
    """`*.` and an RFC 1123 subdomain."""
    errors = [] if len(value) <= MAX_SUBDOMAIN else [f"must be no more than {MAX_SUBDOMAIN} characters"]
    if not _wildcard(value):
        errors.append(_WILDCARD_ERROR)
    return errors


def path_segment(value: str) -> list[str]:
    """What any name must be to stand in a URL path."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


def qualified_name(value: str) -> list[str]:
    """A label key: `[DNS subdomain/]name`, the name at most 63 characters."""
    if len(value) <= MAX_LABEL and _name_part(value):
        return []
    prefix, slash, name = value.rpartition("/")
    errors: list[str] = []
    if "/" in prefix:
        return [
            "a valid label key "
            + _regex_error(_NAME_PART_RULE, _NAME_PART, "MyName", "my.name", "123-abc")
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    if slash and not prefix:
        errors.append("prefix part must be non-empty")
    elif slash:
        errors += [f"prefix part {message}" for message in dns_subdomain(prefix)]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name.encode()) > MAX_LABEL:
        errors.append(f"name part must be no more than {MAX_LABEL} bytes")
    if not _name_part(name):
        errors.append(f"name part {_NAME_PART_ERROR}")
    return errors


def label_value(value: str) -> list[str]:
    errors = [] if len(value.encode()) <= MAX_LABEL else [f"must be no more than {MAX_LABEL} bytes"]
    if not _label_value(value):
        errors.append(_LABEL_VALUE_ERROR)
    return errors


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret: also a file name in a volume."""
    errors = [] if len(value) <= MAX_SUBDOMAIN else [f"must be no more than {MAX_SUBDOMAIN} characters"]
    if not _config_key(value):
        errors.append(_CONFIG_KEY_ERROR)
    elif value == ".":
        errors.append("must not be '.'")
    elif value == "..":
        errors.append("must not be '..'")
    elif value.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def env_name(value: str) -> list[str]:
    return [] if _env_name(value) else [_ENV_NAME_ERROR]


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


def port_name(value: str) -> list[str]:
    """An IANA service name (RFC 6335 §5.1); each broken rule is a sentence of its own."""
    errors: list[str] = []
    if len(value) > 15:
        errors.append("must be no more than 15 characters")
    if not re.fullmatch("[-a-z0-9]+", value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value and "-" in (value[0], value[-1]):
        errors.append("must not begin or end with a hyphen")
    return errors


def non_negative(field: str, value: int) -> list[FieldError]:
    return [] if value >= 0 else [invalid(field, value, "must be greater than or equal to 0")]


def labels(field: str, values: Mapping[str, str]) -> list[FieldError]:
    """Keys and values of a label map; neither is named in the path."""
    errors: list[FieldError] = []
    for key, value in values.items():
        errors += [invalid(field, key, message) for message in qualified_name(key)]
        errors += [invalid(field, value, message) for message in label_value(value)]
    return errors


def each(field: str, value: str, messages: Iterable[str]) -> list[FieldError]:
    """One Invalid a message."""
    return [invalid(field, value, message) for message in messages]


def domain_path(field: str, value: str) -> list[FieldError]:
    """A subdomain and an HTTP path: `example.com/controller`."""
    if not value:
        return [required(field)]
    domain, _, path = value.partition("/")
    if not domain or not path:
        return [invalid(field, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    errors = each(field, domain, dns_subdomain(domain))
    if not _http_path(path):
        errors.append(invalid(field, path, f"Invalid path (regex used for validation is '{_HTTP_PATH}')"))
    return errors


# IP addresses and CIDR blocks ----------------------------------------------------------------------------------

_NOT_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_NOT_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_leading_zeros = re.compile(r"(?<![0-9a-fA-F])0+(?=[0-9a-fA-F])")


class SloppyAddress(NamedTuple):
    """An address as old clients may write it.

    `strict` is false when the text needs leading zeros dropped. `family` is the one Kubernetes counts it to:
    an IPv4-mapped address is IPv4.
    """

    address: Address
    strict: bool

    @property
    def family(self) -> IPFamily:
        return IPFamily.IPV4 if self.address.is_ipv4_mapped else self.address.family

    @property
    def preferred(self) -> str:
        """The text to use instead."""
        if self.address.is_ipv4_mapped:
            return str(Address(IPFamily.IPV4, self.address.value & 0xFFFFFFFF))
        return str(self.address)


class SloppyBlock(NamedTuple):
    """A block as old clients may write it: its address unmasked, its length perhaps with leading zeros."""

    address: SloppyAddress
    prefix: int
    strict: bool

    @property
    def block(self) -> CIDR:
        family, value = self.address.address
        shift = family.bits - self.prefix
        return CIDR(family, value >> shift << shift, self.prefix)


def parse_sloppy_ip(text: str) -> SloppyAddress | None:
    """Read an address with or without leading zeros; None if it is none at all."""
    return _remembered_ip(text) if len(text) <= _USUAL_LENGTH else _read_sloppy_ip(text)


def _read_sloppy_ip(text: str) -> SloppyAddress | None:
    try:
        return SloppyAddress(Address.parse(text), True)
    except ValueError:
        pass
    try:
        return SloppyAddress(Address.parse(_leading_zeros.sub("", text)), False)
    except ValueError:
        return None


_USUAL_LENGTH = 64  # of an address; longer ones are read but not remembered
_remembered_ip = functools.lru_cache(maxsize=4096)(_read_sloppy_ip)  # a Service's is asked for a dozen times a write


def parse_sloppy_cidr(text: str) -> SloppyBlock | None:
    address_text, slash, length = text.partition("/")
    address = parse_sloppy_ip(address_text)
    if address is None or not slash or not (length.isascii() and length.isdecimal()):
        return None
    if int(length) > address.address.family.bits:
        return None
    return SloppyBlock(address, int(length), address.strict and str(int(length)) == length)


def is_ip(text: str) -> bool:
    return parse_sloppy_ip(text) is not None


def ip_family(text: str) -> IPFamily | None:
    """The family Kubernetes counts a text to: `::ffff:a.b.c.d` is IPv4. None if it is no address."""
    parsed = parse_sloppy_ip(text)
    return parsed.family if parsed else None


def cidr_family(text: str) -> IPFamily | None:
    parsed = parse_sloppy_cidr(text)
    return parsed.address.family if parsed else None


def _ip(text: str) -> tuple[SloppyAddress | None, list[str]]:
    parsed = parse_sloppy_ip(text)
    if parsed is None:
        return None, [_NOT_IP]
    if not parsed.strict:
        return parsed, ["must not have leading 0s"]
    if parsed.address.is_ipv4_mapped:
        return parsed, ["must not be an IPv4-mapped IPv6 address"]
    return parsed, []


def legacy_ip(field: str, text: str, old: Collection[str] = ()) -> list[FieldError]:
    """The rule of older fields: any spelling of IPv6; what the stored object already has (`old`) stays valid."""
    return [] if text in old else each(field, text, _ip(text)[1])


def canonical_ip(text: str) -> list[str]:
    """The rule of newer fields and of IPAddress names: canonical text only (RFC 5952)."""
    parsed, messages = _ip(text)
    if parsed is not None and not messages and str(parsed.address) != text:
        return [f"must be in canonical form ({go_value(str(parsed.address))})"]
    return messages


def strict_ip(field: str, text: str) -> list[FieldError]:
    return each(field, text, canonical_ip(text))


def _cidr(text: str) -> tuple[SloppyBlock | None, list[str]]:
    parsed = parse_sloppy_cidr(text)
    if parsed is None:
        return None, [_NOT_CIDR]
    if not parsed.strict:
        return parsed, ["must not have leading 0s in IP or prefix length"]
    if parsed.address.address.is_ipv4_mapped:
        return parsed, ["must not have an IPv4-mapped IPv6 address"]
    if parsed.block.first != parsed.address.address:
        return parsed, ["must not have bits set beyond the prefix length"]
    return parsed, []


def legacy_cidr(field: str, text: str, old: Collection[str] = ()) -> list[FieldError]:
    return [] if text in old else each(field, text, _cidr(text)[1])


def strict_cidr(field: str, text: str) -> list[FieldError]:
    parsed, messages = _cidr(text)
    if parsed is not None and not messages and str(parsed.block) != text:
        messages = [f"must be in canonical form ({go_value(str(parsed.block))})"]
    return each(field, text, messages)


_LOOPBACK = (CIDR.parse("127.0.0.0/8"), CIDR.parse("::1/128"))
_LINK_LOCAL = (CIDR.parse("169.254.0.0/16"), CIDR.parse("fe80::/10"))
_LOCAL_MULTICAST_V4 = CIDR.parse("224.0.0.0/24")


def non_special_ip(field: str, text: str) -> list[FieldError]:
    """No endpoint has an unspecified, loopback or link-local address. Text that is no address is not judged."""
    parsed = parse_sloppy_ip(text)
    if parsed is None:
        return []
    address = Address.parse(parsed.preferred)
    if address.value == 0:
        return [invalid(field, text, f"may not be unspecified ({text})")]
    if any(block.contains(address) for block in _LOOPBACK):
        return [invalid(field, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if any(block.contains(address) for block in _LINK_LOCAL):
        return [invalid(field, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if _is_link_local_multicast(address):
        return [invalid(field, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")]
    return []


def _is_link_local_multicast(address: Address) -> bool:
    if address.family is IPFamily.IPV4:
        return _LOCAL_MULTICAST_V4.contains(address)
    return address.value >> 112 & 0xFF0F == 0xFF02  # whatever the flags (RFC 4291 §2.7)


def ip_warnings(field: str, text: str) -> list[str]:
    """Warnings about a spelling that is accepted but not the standard one."""
    parsed = parse_sloppy_ip(text)
    if parsed is None:
        return []
    shown = go_value(text)
    if not parsed.strict or parsed.address.is_ipv4_mapped:
        return [f"{field}: non-standard IP address {shown} is invalid: use {go_value(parsed.preferred)}"]
    canonical = str(parsed.address)
    if parsed.address.family is IPFamily.IPV6 and canonical != text:
        return [f"{field}: IPv6 address {shown} should be in RFC 5952 canonical format ({go_value(canonical)})"]
    return []


def cidr_warnings(field: str, text: str) -> list[str]:
    parsed = parse_sloppy_cidr(text)
    if parsed is None:
        return []
    shown, canonical, address = go_value(text), str(parsed.block), parsed.address.address
    warnings: list[str] = []
    if parsed.block.first != address:
        single = go_value(f"{address}/{address.family.bits}")
        warnings.append(
            f"{field}: CIDR value {shown} is ambiguous in this context (should be {go_value(canonical)} or {single}?)"
        )
    if not parsed.strict or address.is_ipv4_mapped:
        warnings.append(f"{field}: non-standard CIDR value {shown} is invalid: use {go_value(canonical)}")
    if not warnings and address.family is IPFamily.IPV6 and canonical != text:
        warnings.append(
            f"{field}: IPv6 CIDR value {shown} should be in RFC 5952 canonical format ({go_value(canonical)})"
        )
    return warnings
