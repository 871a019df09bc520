"""Formats of texts that schemas may name (apiextensions, supported formats). Pure."""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Callable
from datetime import date
from ipaddress import ip_network
from urllib.parse import urlsplit

from twinstack.api import validation

_DNS_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_DNS_1035_ERROR = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    f"regex used for validation is '{_DNS_1035}')"
)
_UUID = r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?%s[0-9a-f]{3}-?%s[0-9a-f]{3}-?[0-9a-f]{12}"
_EMAIL = r"[^@\s<>]+@[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*"
_HOST = r"(?i)([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*\.?"
_DATE_TIME = (
    r"(\d{4})-(\d\d)-(\d\d)[Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[-+]([01]\d|2[0-3]):?[0-5]\d)?"
)
_DURATION = (
    r"(?i)([-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+"
    r"|0|(\d+ ?(weeks?|wks?|w|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s|milliseconds?|millis?|milis?|ms|"
    r"microseconds?|micros?|us|µs|nanoseconds?|nanos?|ns) ?)+"
)
_CARD = r"4\d{12}(\d{3})?|5[1-5]\d{14}|6(011|5\d\d)\d{12}|3[47]\d{13}|3(0[0-5]|[68]\d)\d{11}|(2131|1800|35\d{3})\d{11}"

Check = Callable[[str], bool]


def dns_1035_label(value: str) -> list[str]:
    """RFC 1035 label of at most 63 characters."""
    errors = [] if len(value) <= validation.MAX_LABEL else [f"must be no more than {validation.MAX_LABEL} characters"]
    if not re.fullmatch(_DNS_1035, value):
        errors.append(_DNS_1035_ERROR)
    return errors


def is_uri(text: str) -> bool:
    """What Go's url.ParseRequestURI reads."""
    if not text or re.search(r"[\x00-\x20\x7f]", text) or re.search("%(?![0-9A-Fa-f]{2})", text):
        return False
    if text.startswith("/"):
        return True
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return bool(re.fullmatch("[A-Za-z][-+.A-Za-z0-9]*", parts.scheme))


def _is_cidr(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return bool(re.fullmatch(r"[0-9A-Fa-f:.]+/\d{1,3}", text))


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_date_time(text: str) -> bool:
    return bool(re.fullmatch(_DATE_TIME, text)) and _is_date(text[:10])


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _digits(text: str) -> str:
    return re.sub("[ -]", "", text)


def _is_isbn10(text: str) -> bool:
    digits = _digits(text)
    if not re.fullmatch(r"\d{9}[\dX]", digits):
        return False
    values = [10 if digit == "X" else int(digit) for digit in digits]
    return sum(value * (10 - i) for i, value in enumerate(values)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    digits = _digits(text)
    if not re.fullmatch(r"\d{13}", digits):
        return False
    return sum(int(digit) * (3 if i % 2 else 1) for i, digit in enumerate(digits)) % 10 == 0


def _is_card(text: str) -> bool:
    digits = re.sub("[^0-9]+", "", text)
    if not re.fullmatch(_CARD, digits):
        return False
    doubled = (int(digit) * (1 + i % 2) for i, digit in enumerate(reversed(digits)))
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0


def _like(pattern: str) -> Check:
    return lambda text: re.fullmatch(pattern, text) is not None


def _free_of(rule: Callable[[str], list[str]]) -> Check:
    return lambda text: not rule(text)


def _family(version: int) -> Check:
    return lambda text: (family := validation.ip_family(text)) is not None and str(family)[-1] == str(version)


def _is_host(text: str) -> bool:
    return len(text) <= 255 and re.fullmatch(_HOST, text) is not None


FORMATS: dict[str, Check] = {
    "bsonobjectid": _like("[0-9a-fA-F]{24}"),
    "uri": is_uri,
    "email": _like(_EMAIL),
    "hostname": _is_host,
    "ipv4": _family(4),
    "ipv6": _family(6),
    "cidr": _is_cidr,
    "mac": _like("(?i)[0-9a-f]{2}([:-][0-9a-f]{2}){5}([:-][0-9a-f]{2}){0,14}|[0-9a-f]{4}(\\.[0-9a-f]{4}){2,3}"),
    "uuid": _like(_UUID % ("[0-9a-f]", "[0-9a-f]")),
    "uuid3": _like(_UUID % ("3", "[0-9a-f]")),
    "uuid4": _like(_UUID % ("4", "[89ab]")),
    "uuid5": _like(_UUID % ("5", "[89ab]")),
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "creditcard": _is_card,
    "ssn": _like(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
    "hexcolor": _like("#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _like(
        r"rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])(\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])){2}\s*\)"
    ),
    "byte": _is_base64,
    "date": _is_date,
    "duration": _like(_DURATION),
    "datetime": _is_date_time,
    "date-time": _is_date_time,
    "k8s-short-name": _free_of(validation.dns_label),
    "k8s-long-name": _free_of(validation.dns_subdomain),
}


@functools.cache
def named() -> dict[str, Callable[[str], list[str]]]:
    """What `format.named(…)` of CEL knows: problems of a text."""

    def judged(name: str, problem: str) -> Callable[[str], list[str]]:
        check = FORMATS[name]
        return lambda text: [] if check(text) else [problem]

    def prefix(rule: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
        return lambda text: rule(text[:-1] + "a" if text.endswith("-") else text)

    return {
        "dns1123Label": validation.dns_label,
        "dns1123Subdomain": validation.dns_subdomain,
        "dns1035Label": dns_1035_label,
        "qualifiedName": validation.qualified_name,
        "dns1123LabelPrefix": prefix(validation.dns_label),
        "dns1123SubdomainPrefix": prefix(validation.dns_subdomain),
        "dns1035LabelPrefix": prefix(dns_1035_label),
        "labelValue": validation.label_value,
        "uri": judged("uri", "invalid URI"),
        "uuid": judged("uuid", "does not match the UUID format"),
        "byte": judged("byte", "invalid base64"),
        "date": judged("date", "invalid date"),
        "datetime": judged("datetime", "invalid datetime"),
    }
