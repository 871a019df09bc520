"""Flags in kube-apiserver's words."""

from __future__ import annotations

import argparse
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.ip import CIDR, Address
from twinstack.server import command
from twinstack.server.flags import (
    FlagError,
    advertised,
    authorization_modes,
    boolean,
    node_ports,
    secure_port,
    service_ranges,
)

TOO_SMALL = (
    "error determining service IP ranges for primary service cidr: "
    "the service cluster IP range must be at least 8 IP addresses"
)
TOO_LARGE = (
    "error determining service IP ranges for primary service cidr: "
    "shortest allowed prefix length for service CIDR is 64, got 48"
)
V4, V6 = CIDR.parse("10.96.0.0/16"), CIDR.parse("fd00:96::/112")


def test_service_ranges() -> None:
    assert service_ranges("10.96.0.0/16") == (V4,)
    assert service_ranges("10.96.0.0/16,fd00:96::/112") == (V4, V6)
    assert service_ranges("fd00:96::/112,10.96.0.0/16") == (V6, V4)
    assert service_ranges("10.96.7.7/16") == (V4,)  # host bits are masked away
    assert service_ranges("") == (CIDR.parse("10.0.0.0/24"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "service-cluster-ip-range[0] is not a valid cidr"),
        (" 10.96.0.0/16", "service-cluster-ip-range[0] is not a valid cidr"),
        ("10.96.0.0/16, fd00:96::/112", "service-cluster-ip-range[1] is not an ip net"),
        ("10.96.0.0/16,fd00:96::", "service-cluster-ip-range[1] is not an ip net"),
        ("10.96.0.0/16,fd00:96::/112,10.0.0.0/8", "--service-cluster-ip-range must not contain more than two entries"),
        (
            "10.96.0.0/16,10.97.0.0/16",
            "--service-cluster-ip-range[0] and --service-cluster-ip-range[1] must be of different IP family",
        ),
        (
            "10.96.0.0/30",
            TOO_SMALL,
        ),
        (
            "fd00::/126",
            TOO_SMALL,
        ),
        ("10.96.0.0/16,fd00::/127", TOO_SMALL.replace("primary", "secondary")),
        ("fd00::/48", TOO_LARGE),
    ],
)
def test_bad_service_ranges(text: str, message: str) -> None:
    with pytest.raises(FlagError) as caught:
        service_ranges(text)
    assert str(caught.value).startswith(message), "kube-apiserver's words come first"
    assert re.search("; (write|choose)", str(caught.value)), "and then what to do"


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_node_ports_in_all_forms(first: int, last: int) -> None:
    low, high = min(first, last), max(first, last)
    wanted = range(low, high + 1)
    assert node_ports(f"{low}-{high}") == wanted
    assert node_ports(f" {low}+{high - low} ") == wanted
    assert node_ports(str(low)) == range(low, low + 1)


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "1-x", "30000-29999", "1-65536", "65535+1", "1-2-3"])
def test_bad_node_ports(text: str) -> None:
    with pytest.raises(FlagError, match="port"):
        node_ports(text)


def test_other_flags() -> None:
    assert secure_port(6443) == 6443
    with pytest.raises(FlagError, match="--secure-port 0 must be between 1 and 65535, inclusive"):
        secure_port(0)
    assert advertised("", (V4,)) == ()
    assert advertised("172.30.0.1,fd00:30::1", (V4,)) == (Address.parse("172.30.0.1"), Address.parse("fd00:30::1"))
    with pytest.raises(FlagError, match='service IP family "6" must match public address family "4"'):
        advertised("172.30.0.1,fd00:30::1", (V6, V4))
    assert authorization_modes("AlwaysAllow,RBAC") == ("AlwaysAllow", "RBAC")
    for text, message in (
        ("", "at least one authorization-mode must be passed"),
        ("RBAC,ABAC", 'authorization-mode "ABAC" is not a valid mode'),
        ("RBAC,RBAC", r'authorization-mode \["RBAC", "RBAC"\] has mode specified more than once'),
    ):
        with pytest.raises(FlagError, match=message):
            authorization_modes(text)
    assert boolean("x", "true")
    assert not boolean("x", "0")
    with pytest.raises(FlagError, match='invalid argument "maybe" for "--x" flag'):
        boolean("x", "maybe")


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_flags(parser)
    return parser.parse_args(words)


def test_configuration_from_flags() -> None:
    config = command.read_config(
        parse(
            "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
            "--sqlite=/x",
            "--secure-port=7443",
            "--advertise-address=172.30.0.1,fd00:30::1",
            "--network-namespace=/run/netns/x",
        )
    )
    assert config.service_ranges == (V4, V6)
    assert config.secure_port == 7443
    assert config.node_ports == range(30000, 32768)
    assert [str(address) for address in config.advertise_addresses] == ["172.30.0.1", "fd00:30::1"]


def test_where_to_listen() -> None:
    assert command.bind_address(parse()) is None
    assert str(command.bind_address(parse("--network-namespace=/x"))) == "127.0.0.1"
    assert str(command.bind_address(parse("--bind-address=::1"))) == "::1"
    with pytest.raises(FlagError, match="--bind-address"):
        command.bind_address(parse("--bind-address=nowhere"))


def test_flags_that_need_each_other() -> None:
    for words, message in (
        ([], "--sqlite"),
        (["--sqlite=/x", "--network-namespace=/x"], "--advertise-address"),
        (["--sqlite=/x", "--tls-cert-file=/x"], "--tls-private-key-file"),
    ):
        with pytest.raises(FlagError, match=message):
            command.read_config(parse(*words))
    assert command.run(parse()) == 1
