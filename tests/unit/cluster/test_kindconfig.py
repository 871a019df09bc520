"""kind's cluster files: acted on, named, or refused with the path."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest

from twinstack.cluster import kindconfig, up
from twinstack.cluster.configuration import ClusterConfiguration
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.wishes import Wishes, configure

HEAD = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}


def read(**fields: Any) -> tuple[ClusterConfiguration, list[str]]:
    wishes, remarks = kindconfig.read({**HEAD, **fields})
    return configure(wishes, wishes.api_port or 6443), remarks


def test_an_empty_file_is_a_default_cluster() -> None:
    made, remarks = read()
    assert (made.name, made.nodes, made.proxy, remarks) == ("twinstack", 2, True, [])
    assert made.description == "dual-stack, IPv4 first"


def test_what_is_acted_on() -> None:
    made, remarks = read(
        name="demo",
        networking={
            "ipFamily": "dual",
            "podSubnet": "fd00:7::/56,10.7.0.0/16",
            "serviceSubnet": "fd00:8::/112,10.8.0.0/16",
            "apiServerPort": 7443,
            "apiServerAddress": "127.0.0.1",
            "disableDefaultCNI": False,
            "kubeProxyMode": "nftables",
        },
        nodes=[{"role": "worker", "labels": {"tier": "front"}}, {"role": "worker"}, {"role": "worker"}],
    )
    assert (made.name, made.nodes, made.api_port, made.proxy) == ("demo", 3, 7443, True)
    assert made.description == "dual-stack, IPv6 first"
    assert made.labels(1) == {"tier": "front"}
    assert remarks == []
    assert read(networking={"kubeProxyMode": "none"})[0].proxy is False
    assert read(networking={"ipFamily": "ipv6"})[0].description == "IPv6 only"
    assert read(networking={"apiServerPort": -1})[0].api_port == 6443


def test_what_is_not_acted_on_is_said() -> None:
    _, remarks = read(
        featureGates={"X": True},
        networking={"dnsSearch": ["a"], "kubeProxyMode": "iptables"},
        nodes=[{"role": "control-plane", "image": "kindest/node"}, {"extraMounts": []}],
    )
    assert remarks == [
        "featureGates: not acted on",
        "networking.dnsSearch: not acted on",
        "nodes[0].image: not acted on",
        "role control-plane: a node as the others; the control plane is processes of this machine",
        "nodes[1].extraMounts: not acted on",
        "networking.kubeProxyMode iptables: the proxy here works with nftables",
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "Pod"}, "the file is 'Pod' of 'kind.x-k8s.io/v1alpha4'; write kind: Cluster"),
        ({"network": {}}, "unknown field network; known here: "),
        ({"networking": {"podCIDR": "10.0.0.0/8"}}, "unknown field networking.podCIDR"),
        ({"nodes": [{"rank": 1}]}, "unknown field nodes[0].rank"),
        ({"nodes": []}, "nodes is no list of nodes"),
        ({"nodes": [{"role": "master"}]}, "nodes[0].role 'master' is not one of control-plane, worker"),
        ({"nodes": [{"labels": {"a": True}}]}, "nodes[0].labels: 'a': True is not text; put it into quotes"),
        ({"nodes": [{"labels": []}, {"labels": [1]}]}, "nodes[1].labels is no mapping"),
        (
            {"nodes": [{"labels": {"node-role.kubernetes.io/x": ""}}]},
            "nodes[0].labels: node-role.kubernetes.io/x is not a node's own to set; set it by kubectl label node",
        ),
        ({"networking": [1]}, "networking is no mapping"),
        ({"networking": {"ipFamily": "both"}}, "networking.ipFamily 'both' is not one of dual, ipv4, ipv6"),
        ({"networking": {"apiServerPort": "7"}}, "networking.apiServerPort must be a number, not '7'"),
        ({"networking": {"apiServerAddress": "0.0.0.0"}}, "the API server listens on 127.0.0.1 of this machine alone"),
        ({"networking": {"disableDefaultCNI": True}}, "networking.disableDefaultCNI: nodes here have the built-in"),
        ({"networking": {"kubeProxyMode": "ebpf"}}, "networking.kubeProxyMode 'ebpf' is not one of"),
        ({"networking": {"podSubnet": "10.0.0.1/16"}}, "networking.podSubnet: 10.0.0.1/16 has bits set"),
        ({"networking": {"serviceSubnet": "10.244.0.0/24"}}, "networking.serviceSubnet 10.244.0.0/24 overlaps"),
        ({"networking": {"ipFamily": "ipv6", "podSubnet": "10.7.0.0/16"}}, "networking.ipFamily ipv6 contradicts"),
        ({"name": "Kind"}, "'Kind' is not a cluster name"),
    ],
)
def test_what_cannot_be_is_refused_with_its_path(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ClusterError, match=re.escape(words)):
        read(**fields)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "kind.yaml"
    for text, words in (
        ("a: [", "is no YAML"),
        ("- 1", "the file is no mapping"),
        ("x: 1", "is None of None"),
    ):
        file.write_text(text)
        with pytest.raises(ClusterError, match=words):
            kindconfig.load(str(file))
    with pytest.raises(ClusterError, match="No such file"):
        kindconfig.load(str(tmp_path / "none"))


def test_flags_go_before_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kind.yaml"
    file.write_text(
        json.dumps({**HEAD, "name": "of-file", "networking": {"ipFamily": "ipv6"}, "nodes": [{"image": "x"}]})
    )
    parser = argparse.ArgumentParser()
    up.add_flags(parser)
    wishes = up.read_wishes(parser.parse_args(["--config", str(file)]), up.Progress(0.0))
    assert (wishes.name, wishes.nodes, wishes.ip_family) == ("of-file", 1, "ipv6")
    assert f"{file}: nodes[0].image: not acted on" in capsys.readouterr().out
    flags = ["--config", str(file), "--name", "of-flag", "--nodes", "3", "--ip-family", "dual"]
    wishes = up.read_wishes(parser.parse_args(flags), up.Progress(0.0))
    assert (wishes.name, wishes.nodes, wishes.ip_family) == ("of-flag", 3, "dual")
    assert up.read_wishes(parser.parse_args([]), up.Progress(0.0)) == Wishes()
