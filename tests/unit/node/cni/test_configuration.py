"""How a plugin is called: environment, configuration, results of all versions."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.ip import CIDR, Address
from twinstack.node.cni import configuration, errors, plugin
from twinstack.node.cni.configuration import PortMapping
from twinstack.node.cni.errors import CniError
from twinstack.node.cni.invocation import Invocation
from twinstack.node.cni.results import IP, VERSIONS, Interface, Result, Route, decode, encode

BASE = {"cniVersion": "1.0.0", "name": "pods", "type": "twinstack-cni"}
ADD = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a", "CNI_IFNAME": "eth0", "CNI_NETNS": "/run/netns/a"}
V4, V6 = Address.parse("10.1.0.2"), Address.parse("fd00::2")
RESULT = Result(
    [Interface("tc0", "0a:58:00:00:00:01", "", 1400), Interface("eth0", "0a:58:00:00:00:02", "/run/netns/a")],
    [IP(V6, 128, None, 1), IP(V4, 24, Address.parse("10.1.0.1"), 1)],
    [Route(CIDR.parse("0.0.0.0/0")), Route(CIDR.parse("::/0"), Address.parse("fe80::1"))],
    {"nameservers": ["fd00::a"]},
)


def parsed(**fields: Any) -> configuration.Configuration:
    return configuration.parse(json.dumps(BASE | fields).encode(), {})


@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_survives_every_version(version: str) -> None:
    made = encode(RESULT, version)
    assert made["cniVersion"] == version
    assert ("version" in made["ips"][0]) == (version < "1.0.0")
    assert ("mtu" in made["interfaces"][0]) == (version >= "1.1.0")
    again = decode(json.loads(json.dumps(made)))
    assert [ip.address for ip in again.ips] == [V6, V4]  # the order stays
    assert (again.ips, again.routes, again.dns) == (RESULT.ips, RESULT.routes, RESULT.dns)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"CNI_COMMAND": "MAKE"}, "unknown CNI_COMMAND"),
        ({"CNI_CONTAINERID": ""}, r"required env variables \[CNI_CONTAINERID\] missing"),
        ({"CNI_IFNAME": "", "CNI_NETNS": ""}, r"\[CNI_IFNAME,CNI_NETNS\] missing"),
        ({"CNI_CONTAINERID": "../a"}, "invalid characters in CNI_CONTAINERID"),
        ({"CNI_CONTAINERID": "a:b"}, "invalid characters in CNI_CONTAINERID"),
        ({"CNI_IFNAME": "a/b"}, "invalid CNI_IFNAME"),
        ({"CNI_IFNAME": ".."}, "invalid CNI_IFNAME"),
        ({"CNI_IFNAME": "x" * 16}, "invalid CNI_IFNAME"),
        ({"CNI_ARGS": "A=1;B"}, "invalid CNI_ARGS pair"),
    ],
)
def test_environments_that_are_refused(change: dict[str, str], problem: str) -> None:
    with pytest.raises(CniError, match=problem) as caught:
        Invocation.parse(ADD | change)
    assert caught.value.code == errors.INVALID_ENVIRONMENT


def test_an_environment_survives() -> None:
    call = Invocation.parse(ADD | {"CNI_ARGS": "A=1;B=x=y", "CNI_PATH": "/a:/b"})
    assert call.arguments == {"A": "1", "B": "x=y"}
    assert Invocation.parse(call.environment()) == call
    assert Invocation.parse({"CNI_COMMAND": "GC"}).container == ""
    assert Invocation.parse(ADD | {"CNI_COMMAND": "DEL", "CNI_NETNS": ""}).namespace == ""


def test_capabilities() -> None:
    ports = [{"hostPort": 80, "containerPort": 8080, "protocol": "udp", "hostIP": "::1"}]
    runtime = {
        "portMappings": [*ports, {"HostPort": 81, "ContainerPort": 81, "Protocol": "TCP", "HostIP": ""}],
        "ipRanges": [[{"Subnet": "fd00::/64", "RangeStart": "", "Gateway": ""}], [{"subnet": "10.0.0.0/24"}]],
        "mac": "0a:58:0a:00:00:01",
        "ips": ["10.0.0.9/24"],
    }
    config = parsed(runtimeConfig=runtime, ipam={"type": "twinstack-cni", "subnet": "10.9.0.0/24"})
    assert config.ports == (
        PortMapping(80, 8080, "UDP", Address.parse("::1")),
        PortMapping(81, 81, "TCP", None),
    )
    assert [str(each) for each in config.sets] == ["fd00::/64", "10.0.0.0/24"]
    assert config.mac == bytes.fromhex("0a580a000001")
    assert config.requested == (Address.parse("10.0.0.9"),)
    assert not config.is_for_ipam


def test_as_an_ipam_plugin() -> None:
    assert parsed(type="bridge", ipam={"type": "twinstack-cni"}).is_for_ipam
    assert not parsed(type="twinstack-cni", ipam={"type": "host-local", "ranges": "theirs"}).is_for_ipam


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"cniVersion": "2.0.0"}, errors.INCOMPATIBLE_VERSION),
        ({"cniVersion": ""}, errors.INCOMPATIBLE_VERSION),
        ({"name": ""}, errors.INVALID_CONFIGURATION),
        ({"name": "a/b"}, errors.INVALID_CONFIGURATION),
        ({"ipam": {"ranges": [[]]}}, errors.INVALID_CONFIGURATION),
        ({"ipam": []}, None),
        ({"ipam": "x"}, errors.INVALID_CONFIGURATION),
        ({"mac": "01:00:00:00:00:00"}, errors.UNSUPPORTED_FIELD),
        ({"prevResult": {"ips": [{"address": "x"}]}}, errors.UNDECODABLE),
        ({"runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 70000}]}}, errors.INVALID_CONFIGURATION),
        (
            {"runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]}},
            errors.UNSUPPORTED_FIELD,
        ),
    ],
)
def test_configurations_that_are_refused(fields: dict[str, Any], code: int | None) -> None:
    if code is None:
        parsed(**fields)
        return
    with pytest.raises(CniError) as caught:
        parsed(**fields)
    assert caught.value.code == code


def test_answers_without_a_call_that_makes_sense() -> None:
    made = plugin.answer({"CNI_COMMAND": "VERSION"}, b'{"cniVersion": "0.4.0"}')
    assert (made.code, json.loads(made.text)["cniVersion"]) == (0, "0.4.0")
    assert json.loads(made.text)["supportedVersions"] == list(VERSIONS)
    for text, code in (
        (b"{", errors.UNDECODABLE),
        (b"[" * 100_000, errors.UNDECODABLE),
        (b"[]", errors.UNDECODABLE),
        (b"{}", errors.INCOMPATIBLE_VERSION),
    ):
        made = plugin.answer(ADD, text)
        assert (made.code, json.loads(made.text)["code"]) == (1, code)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    ["ipam", "runtimeConfig", "prevResult", "dns", "mtu", "ipMasq", "nonMasqueradeCIDRs", "cni.dev/valid-attachments"]
)


@given(st.dictionaries(_FIELDS, _JSON, max_size=4))
def test_whatever_a_configuration_holds_it_is_read_or_refused(fields: dict[str, Any]) -> None:
    call = {"CNI_COMMAND": "STATUS"}  # without ranges nothing can be exhausted
    made = plugin.answer(call, json.dumps(BASE | fields | {"ipam": {"type": "x"}, "name": "-"}).encode())
    assert made.code == 1
    with suppress(CniError):
        parsed(**fields)
