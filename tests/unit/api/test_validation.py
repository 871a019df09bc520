"""Rules of names, labels, ports and IP text, sentence by sentence."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api import validation
from twinstack.api.errors import FieldError
from twinstack.ip import Address, IPFamily

LABEL = "a lowercase RFC 1123 label must consist of"
SUBDOMAIN = "a lowercase RFC 1123 subdomain must consist of"
KEY = "name part must consist of alphanumeric characters"


def bodies(errors: list[FieldError]) -> list[str]:
    return [error.body for error in errors]


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        ("a", []), ("0", []), ("a-b", []), ("a" * 63, []), ("a.b", ["must not contain dots"]), ("", [LABEL]),
        ("-a", [LABEL]), ("a-", [LABEL]), ("A", [LABEL]), ("a_b", [LABEL]), ("a..b", [LABEL]), ("ü", [LABEL]),
        ("a" * 64, ["must be no more than 63 characters"]), ("a\n", [LABEL]),
        ("A" * 64, ["must be no more than 63 characters", LABEL]),
    ],
)  # fmt: skip
def test_dns_labels(name: str, starts: list[str]) -> None:
    messages = validation.dns_label(name)
    assert len(messages) == len(starts)
    assert all(message.startswith(start) for message, start in zip(messages, starts, strict=True))


def test_dns_subdomains() -> None:
    assert validation.dns_subdomain("a.b-c.0") == []
    assert validation.dns_subdomain("a" * 254) == ["must be no more than 253 characters"]
    for bad in ("a.", ".a", "a..b", "A.b", "a_b", ""):
        (message,) = validation.dns_subdomain(bad)
        assert message.startswith(SUBDOMAIN)


def test_the_sentence_about_labels_is_upstreams() -> None:
    (message,) = validation.dns_label("-")
    assert message == (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
        "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    )


@pytest.mark.parametrize(
    ("key", "starts"),
    [
        ("a", []), ("A.b_c-D", []), ("example.com/a", []), ("example.com/" + "n" * 63, []),
        ("/x", ["prefix part must be non-empty"]), ("Bad/x", ["prefix part a lowercase RFC 1123 subdomain"]),
        ("a/", ["name part must be non-empty", KEY]), ("", ["name part must be non-empty", KEY]),
        ("a b", [KEY]), ("-a", [KEY]), ("n" * 64, ["name part must be no more than 63 bytes"]),
        ("a/b/c", ["a valid label key must consist of"]),
    ],
)  # fmt: skip
def test_label_keys(key: str, starts: list[str]) -> None:
    messages = validation.qualified_name(key)
    assert [m.startswith(s) for m, s in zip(messages, starts, strict=True)] == [True] * len(starts)


def test_label_values() -> None:
    assert validation.label_value("") == validation.label_value("a.B_c-1") == validation.label_value("v" * 63) == []
    assert validation.label_value("v" * 64) == ["must be no more than 63 bytes"]
    assert validation.label_value("no spaces")[0].startswith("a valid label must be an empty string or consist of")


def test_labels_name_the_bad_key_or_value() -> None:
    errors = validation.labels("metadata.labels", {"bad key": "x", "ok": "bad value!"})
    assert [error.field for error in errors] == ["metadata.labels"] * 2
    assert [body.split(": ")[1] for body in bodies(errors)] == ['"bad key"', '"bad value!"']


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("http", []), ("a-1", []), ("a" * 15, []),
        ("a" * 16, ["must be no more than 15 characters"]),
        ("1-2", ["must contain at least one letter (a-z)"]),
        ("a--b", ["must not contain consecutive hyphens"]),
        ("-a", ["must not begin or end with a hyphen"]),
        ("A_", ["must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                "must contain at least one letter (a-z)"]),
        ("", ["must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
              "must contain at least one letter (a-z)"]),
    ],
)  # fmt: skip
def test_port_names(name: str, messages: list[str]) -> None:
    assert validation.port_name(name) == messages


def test_small_rules() -> None:
    assert validation.port_number(1) == validation.port_number(65535) == []
    assert validation.port_number(0) == validation.port_number(65536) == ["must be between 1 and 65535, inclusive"]
    assert validation.config_key(".hidden") == []
    assert validation.config_key("..") == ["must not be '..'"]
    assert validation.config_key("..x") == ["must not start with '..'"]
    assert validation.config_key("a/b")[0].startswith("a valid config key must consist of")
    assert validation.env_name("1 BAD") == []
    assert validation.env_name("A=") != [] != validation.env_name("")
    assert validation.path_segment(".") == ["may not be '.'"]
    assert validation.path_segment("a/%") == ["may not contain '/'", "may not contain '%'"]
    assert bodies(validation.non_negative("x", -1)) == ["Invalid value: -1: must be greater than or equal to 0"]


NOT_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
NOT_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
ZEROS, MAPPED = "must not have leading 0s", "must not be an IPv4-mapped IPv6 address"


@pytest.mark.parametrize(
    ("text", "legacy", "strict"),
    [
        ("10.0.0.1", "", ""), ("fd00::1", "", ""), ("::", "", ""),
        ("FD00::1", "", 'must be in canonical form ("fd00::1")'),
        ("fd00:0:0:0:0:0:0:1", "", 'must be in canonical form ("fd00::1")'),
        ("010.0.0.1", ZEROS, ZEROS), ("10.00.0.1", ZEROS, ZEROS), ("00001::", ZEROS, ZEROS),
        ("::ffff:10.0.0.1", MAPPED, MAPPED), ("::FFFF:a00:1", MAPPED, MAPPED), ("::ffff:010.0.0.1", ZEROS, ZEROS),
        ("10.0.0", NOT_IP, NOT_IP), ("10.0.0.300", NOT_IP, NOT_IP), ("fe80::1%eth0", NOT_IP, NOT_IP),
        ("10.0.0.0/24", NOT_IP, NOT_IP), ("", NOT_IP, NOT_IP), ("None", NOT_IP, NOT_IP), (" 10.0.0.1", NOT_IP, NOT_IP),
    ],
)  # fmt: skip
def test_ip_text(text: str, legacy: str, strict: str) -> None:
    shown = f'Invalid value: "{text}": '
    assert bodies(validation.legacy_ip("f", text)) == ([shown + legacy] if legacy else [])
    assert bodies(validation.strict_ip("f", text)) == ([shown + strict] if strict else [])
    assert validation.legacy_ip("f", text, [text]) == []


@pytest.mark.parametrize(
    ("text", "legacy", "strict"),
    [
        ("10.0.0.0/24", "", ""), ("::/0", "", ""), ("fd00::/64", "", ""),
        ("FD00::/64", "", 'must be in canonical form ("fd00::/64")'),
        ("10.0.0.1/24", "must not have bits set beyond the prefix length", ""),
        ("10.0.0.0/024", "must not have leading 0s in IP or prefix length", ""),
        ("010.0.0.0/24", "must not have leading 0s in IP or prefix length", ""),
        ("::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address", ""),
        ("10.0.0.0", NOT_CIDR, ""), ("10.0.0.0/33", NOT_CIDR, ""), ("10.0.0.0/-1", NOT_CIDR, ""),
        ("10.0.0.0/", NOT_CIDR, ""), ("/24", NOT_CIDR, ""), (" 10.0.0.0/24", NOT_CIDR, ""),
    ],
)  # fmt: skip
def test_cidr_text(text: str, legacy: str, strict: str) -> None:
    shown = f'Invalid value: "{text}": '
    assert bodies(validation.legacy_cidr("f", text)) == ([shown + legacy] if legacy else [])
    wanted = legacy or strict
    assert bodies(validation.strict_cidr("f", text)) == ([shown + wanted] if wanted else [])


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("10.0.0.1", ""), ("fd00::1", ""), ("bad", ""), ("224.0.1.1", ""), ("ff05::1", ""), ("::ffff:10.0.0.1", ""),
        ("0.0.0.0", "may not be unspecified (0.0.0.0)"), ("::", "may not be unspecified (::)"),
        ("127.9.9.9", "may not be in the loopback range"), ("::1", "may not be in the loopback range"),
        ("169.254.1.1", "may not be in the link-local range"), ("febf::1", "may not be in the link-local range"),
        ("224.0.0.9", "may not be in the link-local multicast range"),
        ("ff02::1", "may not be in the link-local multicast range"),
        ("ff12::1", "may not be in the link-local multicast range"),
    ],
)  # fmt: skip
def test_special_addresses(text: str, start: str) -> None:
    found = bodies(validation.non_special_ip("f", text))
    assert bool(found) is bool(start)
    assert not found or found[0].startswith(f'Invalid value: "{text}": {start}')


def test_warnings() -> None:
    assert validation.ip_warnings("f", "fd00::1") == validation.ip_warnings("f", "bad") == []
    assert validation.ip_warnings("f", "FD00::1") == [
        'f: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")'
    ]
    assert validation.ip_warnings("f", "010.0.0.1") == [
        'f: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1"'
    ]
    assert validation.ip_warnings("f", "::ffff:10.0.0.1") == [
        'f: non-standard IP address "::ffff:10.0.0.1" is invalid: use "10.0.0.1"'
    ]
    assert validation.cidr_warnings("f", "10.0.0.5/24") == [
        'f: CIDR value "10.0.0.5/24" is ambiguous in this context (should be "10.0.0.0/24" or "10.0.0.5/32"?)'
    ]
    assert validation.cidr_warnings("f", "FD00::/64") == [
        'f: IPv6 CIDR value "FD00::/64" should be in RFC 5952 canonical format ("fd00::/64")'
    ]
    assert validation.cidr_warnings("f", "10.0.0.0/024") == [
        'f: non-standard CIDR value "10.0.0.0/024" is invalid: use "10.0.0.0/24"'
    ]
    assert validation.cidr_warnings("f", "10.0.0.0/24") == validation.cidr_warnings("f", "bad") == []


def test_families() -> None:
    assert validation.ip_family("::ffff:1.2.3.4") is IPFamily.IPV4
    assert validation.ip_family("fd00::1") is validation.cidr_family("fd00::/64") is IPFamily.IPV6
    assert validation.ip_family("x") is validation.cidr_family("x") is None


addresses = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address) | st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)


@given(addresses)
def test_every_spelling_of_an_address_is_read_alike(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    for text in {str(address), address.exploded, address.exploded.upper()}:
        parsed = validation.parse_sloppy_ip(text)
        assert parsed is not None
        assert parsed.strict
        assert int(parsed.address.value) == int(address)
    canonical = validation.parse_sloppy_ip(address.exploded)
    assert canonical is not None
    if not canonical.address.is_ipv4_mapped:
        assert validation.strict_ip("f", str(canonical.address)) == []


@given(addresses, st.integers(1, 3))
def test_leading_zeros_never_change_the_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, zeros: int
) -> None:
    text = re.sub(r"(?<![0-9a-f])(?=[0-9a-f])", "0" * zeros, address.exploded, count=1)
    parsed = validation.parse_sloppy_ip(text)
    assert parsed is not None
    assert int(parsed.address.value) == int(address)


@given(st.text("0123456789abcdf.:/%", max_size=12))
def test_nothing_is_read_that_python_does_not_read_too(text: str) -> None:
    parsed = validation.parse_sloppy_ip(text)
    if parsed is not None and parsed.strict:
        assert int(ipaddress.ip_address(text)) == parsed.address.value


@given(st.integers(0, 2**128 - 1) | st.integers(0, 2**33))
def test_canonical_text_is_rfc_5952(value: int) -> None:
    address = Address(IPFamily.IPV6, value)
    if not address.is_ipv4_mapped:
        assert str(address) == ipaddress.IPv6Address(value).compressed
