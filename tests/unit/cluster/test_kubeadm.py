"""The configuration object: what is written is read again, what others wrote is taken, named, or refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from twinstack.cluster import kubeadm
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.wishes import Wishes, configure
from twinstack.cluster.yamltext import to_yaml

CLUSTER = configure(Wishes(name="demo", node_labels=({"tier": "front"},)), 6443)


def test_the_form_is_kubeadms() -> None:
    found = yaml.safe_load(kubeadm.data(CLUSTER)["ClusterConfiguration"])
    assert (found["apiVersion"], found["kind"]) == ("kubeadm.k8s.io/v1beta4", "ClusterConfiguration")
    assert found["networking"] == {
        "dnsDomain": "cluster.local",
        "podSubnet": "10.244.0.0/16,fd00:10:244::/56",
        "serviceSubnet": "10.96.0.0/16,fd00:10:96::/112",
    }
    assert found["apiServer"]["extraArgs"] == [{"name": "service-node-port-range", "value": "30000-32767"}]
    nodes = yaml.safe_load(kubeadm.data(CLUSTER)["Nodes"])
    assert nodes == [{"name": "demo-1", "labels": {"tier": "front"}}, {"name": "demo-2", "labels": {}}]


def edited(**changes: Any) -> dict[str, str]:
    """The object with fields changed; `networking__dnsDomain` stands for networking.dnsDomain, None removes."""
    document = yaml.safe_load(kubeadm.data(CLUSTER)["ClusterConfiguration"])
    for path, value in changes.items():
        *parents, field = path.split("__")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
        place[field] = value
        if value is None:
            del place[field]
    return {**kubeadm.data(CLUSTER), "ClusterConfiguration": yaml.safe_dump(document)}


@pytest.mark.parametrize("family", ["dual", "ipv4", "ipv6"])
@pytest.mark.parametrize("proxy", [True, False])
def test_what_is_written_is_read(family: str, proxy: bool) -> None:
    made = configure(Wishes(name="demo", nodes=3, ip_family=family, proxy=proxy, node_labels=({"a": "1"},)), 7000)
    assert kubeadm.read(kubeadm.data(made), made) == (made, [])
    other = configure(Wishes(name="demo", nodes=1), 6443)
    read, without_effect = kubeadm.read(kubeadm.data(made), other)
    assert without_effect == []
    assert read._replace(node_labels=made.node_labels) == made
    assert [dict(read.labels(index)) for index in read.node_indexes] == [{"a": "1"}, {}, {}]
    reformatted = {key: yaml.safe_dump(yaml.safe_load(text)) for key, text in kubeadm.data(made).items()}
    assert kubeadm.read(reformatted, made) == (made, [])


def test_fields_that_change_the_cluster() -> None:
    read, _ = kubeadm.read({**kubeadm.data(CLUSTER), "Nodes": "[{name: demo-1}]"}, CLUSTER)
    assert (read.nodes, read.labels(1)) == (1, {})
    arguments = [{"name": "service-node-port-range", "value": "31000-31010"}]
    assert kubeadm.read(edited(apiServer__extraArgs=arguments), CLUSTER)[0].node_ports == "31000-31010"
    assert kubeadm.read(edited(proxy=None), CLUSTER)[0].proxy


def test_fields_without_effect_are_named() -> None:
    arguments = [{"name": "service-node-port-range", "value": "1-2"}, {"name": "v", "value": "4"}]
    found = edited(kubernetesVersion="v1.36.2", etcd={"local": {}}, proxy__x=1, apiServer__extraArgs=arguments)
    assert kubeadm.read(found, CLUSTER)[1] == ["etcd", "kubernetesVersion", "proxy.x", "apiServer.extraArgs v"]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "data.ClusterConfiguration is missing"),
        (edited() | {"ClusterConfiguration": "a: ["}, "data.ClusterConfiguration is no YAML"),
        (edited() | {"ClusterConfiguration": "- a"}, "data.ClusterConfiguration is no mapping"),
        (edited(apiVersion="kubeadm.k8s.io/v1beta3"), "not a ClusterConfiguration of kubeadm.k8s.io/v1beta4"),
        (edited(clusterName=None), "clusterName is missing"),
        (edited(clusterName=7), "clusterName is no text"),
        (edited(networking="x"), "networking is no mapping"),
        (edited(networking__podSubnet=None), "networking.podSubnet is missing"),
        (
            edited(networking__serviceSubnet="10.0.0.1/16,fd00:1::/112"),
            "networking.serviceSubnet: 10.0.0.1/16",
        ),
        (edited(networking__serviceSubnet="10.244.0.0/20,fd00:1::/112"), "overlaps networking.podSubnet"),
        (edited(networking__dnsDomain="my.home"), "the domain is cluster.local"),
        (edited(controlPlaneEndpoint="10.0.0.1:6443"), "listens on 127.0.0.1"),
        (edited(apiServer__extraArgs=[]), "apiServer.extraArgs has no service-node-port-range"),
        (edited(apiServer__extraArgs="x"), "apiServer.extraArgs is no list"),
        (edited(apiServer__extraArgs=[{"name": "service-node-port-range", "value": "9-3"}]), "'9-3' is no range of"),
        (edited() | {"Nodes": "{}"}, "data.Nodes is no list"),
        (edited() | {"Nodes": "[]"}, "Nodes: 0: a local cluster has 1 to 100 nodes"),
        (edited() | {"Nodes": "[{name: demo-2}]"}, "Nodes[0] must have the name demo-1"),
        (edited() | {"Nodes": "[{name: demo-1, labels: {a: 1}}]"}, "Nodes[0].labels: 'a': 1 is not text"),
        (edited() | {"Nodes": "[{name: demo-1, labels: {'a b': x}}]"}, "Nodes[0].labels: a b=x is no label"),
    ],
)
def test_what_cannot_be_is_refused_with_its_path(found: dict[str, str], words: str) -> None:
    with pytest.raises(ClusterError, match=re.escape(words)):
        kubeadm.read(found, CLUSTER)


PLAIN = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=12)
KEYS = PLAIN.filter(bool) | st.sampled_from(["yes", "null", "a.b/c-d", "7"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    PLAIN | st.integers() | st.booleans() | st.none(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(KEYS, children, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_yaml_is_what_readers_take_it_for(value: Any) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


def test_a_way_to_the_outside() -> None:
    assert kubeadm.read(edited(egress={"enabled": True}), CLUSTER) == (CLUSTER._replace(egress=True), [])
    assert kubeadm.read(edited(egress=None), CLUSTER._replace(egress=True))[0] == CLUSTER
