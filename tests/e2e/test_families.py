"""Clusters of one family, and of both with IPv6 first: what upstream allows works, what it forbids is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from tests.e2e.cluster import EXAMPLES, Cluster

from twinstack.ip import IPFamily

V4, V6 = IPFamily.IPV4, IPFamily.IPV6

FLAGS = {
    "v4": ["--ip-family", "ipv4"],
    "v6": ["--ip-family", "ipv6"],
    "v6v4": ["--service-cidr", "fd00:10:96::/112,10.96.0.0/16", "--pod-cidr", "fd00:10:244::/56,10.244.0.0/16"],
}
FAMILIES = {"v4": [V4], "v6": [V6], "v6v4": [V6, V4]}
REQUESTS = 90


@pytest.fixture
def cluster(new_cluster: Callable[[str], Cluster], request: pytest.FixtureRequest) -> tuple[Cluster, str]:
    kind: str = request.param
    made = new_cluster(kind)
    made.up(*FLAGS[kind])
    return made, kind


def documents() -> dict[str, dict[str, Any]]:
    """The Services of the example by name, and its Deployment as `deployment`."""
    found = list(yaml.safe_load_all((EXAMPLES / "dual-stack.yaml").read_text()))
    return {"deployment" if d["kind"] == "Deployment" else d["metadata"]["name"]: d for d in found}


def expected(name: str, families: list[IPFamily]) -> list[IPFamily] | str:
    """What a cluster of `families` makes of a Service of the example: its families, or the words of refusal."""
    if len(families) == 2:
        single = {"hello": families[:1], "hello-ipv6": [V6]}
        reversed_ = {"hello-prefer-ipv6": [V6, V4]}
        return single.get(name) or reversed_.get(name) or families
    if name == "hello-require":
        return 'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack'
    if name == "hello-ipv6" and families == [V4]:
        return 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'
    if name == "hello-prefer-ipv6":
        position = 0 if families == [V4] else 1
        return f'spec.ipFamilies[{position}]: Invalid value: "{families[0].other}": not configured on this cluster'
    if name == "hello-headless-manual":
        return [
            families[0],
            families[0].other,
        ]  # of both families on every cluster: it has no selector
    return families


@pytest.mark.parametrize("cluster", FLAGS, indirect=True)
def test_families_of_a_cluster(cluster: tuple[Cluster, str]) -> None:
    made, kind = cluster
    families = FAMILIES[kind]
    found = documents()
    made.apply(found.pop("deployment"))
    for name, document in found.items():
        wanted = expected(name, families)
        text = json.dumps(document)
        if isinstance(wanted, str):
            assert wanted in made.kubectl("apply", "-f", "-", stdin=text, expect=1)
        else:
            made.kubectl("apply", "-f", "-", stdin=text)
            assert made.get("service", name)["spec"]["ipFamilies"] == wanted
    made.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")
    kubernetes = made.get("service", "kubernetes")["spec"]
    assert (kubernetes["ipFamilyPolicy"], kubernetes["ipFamilies"]) == ("SingleStack", families[:1])
    check_pods(made, families)
    check_traffic(made, [name for name in found if not isinstance(expected(name, families), str)])


def check_pods(cluster: Cluster, families: list[IPFamily]) -> None:
    """Pods and nodes have one address a family, the primary one first."""
    for pod in cluster.pods():
        for field, single in (("podIPs", "podIP"), ("hostIPs", "hostIP")):
            texts = [entry["ip"] for entry in pod["status"][field]]
            assert [":" in text for text in texts] == [family is V6 for family in families]
            assert pod["status"][single] == texts[0]
    blocks = cluster.get("node", f"{cluster.name}-1")["spec"]["podCIDRs"]
    assert [":" in block for block in blocks] == [family is V6 for family in families]


def check_traffic(cluster: Cluster, names: list[str]) -> None:
    pods = {pod["metadata"]["name"] for pod in cluster.pods()}
    for name in names:
        for address in cluster.addresses(name):
            assert set(cluster.ask_many(address, count=REQUESTS)) == pods, f"{name} at {address}"
    port = cluster.node_port("hello-nodeport")
    for address in cluster.node_addresses(2):
        assert cluster.answers(address, port)
