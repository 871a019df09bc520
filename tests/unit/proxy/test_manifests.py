"""What a node would do for manifests: no cluster is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twinstack.dataplane.model import Action
from twinstack.ip import IPFamily
from twinstack.proxy import manifests
from twinstack.proxy.configuration import Configuration
from twinstack.proxy.dry_run import show_manifests

V4, V6 = FAMILIES = list(IPFamily)
YAML = """
kind: Service
apiVersion: v1
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.7
  clusterIPs: [10.96.0.7, "fd00:96::7"]
  ports: [{name: http, port: 80, nodePort: 30080}]
---
kind: Service
apiVersion: v1
metadata: {name: new}
spec: {ports: [{port: 80}]}
---
kind: List
apiVersion: v1
items:
- kind: EndpointSlice
  metadata: {name: web-a, namespace: shop, labels: {kubernetes.io/service-name: web}}
  addressType: IPv6
  ports: [{name: http, port: 8080}]
  endpoints: [{addresses: ["fd00::1"], nodeName: n1}]
- kind: Node
  metadata: {name: n1}
  spec: {podCIDRs: [10.244.1.0/24]}
  status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
- {kind: ServiceCIDR, metadata: {name: kubernetes}, spec: {cidrs: [10.96.0.0/16]}}
- {kind: ConfigMap, metadata: {name: other}}
"""


def test_manifests_become_front_ends(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(YAML)
    found, remarks = manifests.snapshot(manifests.read(str(path)), Configuration("n1"), FAMILIES)
    assert {f.via.name: f.action for f in found.claims[V6]} == {
        "CLUSTER_IP": Action.FORWARD,
        "NODE_PORT": Action.FORWARD,
    }
    assert {f.action for f in found.claims[V4]} == {Action.REJECT}
    around = found.surroundings[V4]
    assert [str(each) for each in (*around.node_ips, *around.service_cidrs, *(around.local_pods or ()))] == [
        "192.0.2.1",
        "10.96.0.0/16",
        "10.244.1.0/24",
    ]
    assert remarks == [
        "ConfigMap other: not a matter of the proxy",
        "Service default/new has no address yet: spec.clusterIPs is empty or None",
    ]


def test_json_and_lists_of_a_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "list.json"
    items = [{"metadata": {"name": "a"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}]
    path.write_text(json.dumps({"kind": "ServiceList", "apiVersion": "v1", "items": items}))
    assert show_manifests(str(path), Configuration("n1"), "json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [each["address"] for each in shown["IPv4"]["frontEnds"]] == ["10.96.0.1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b: c", "cannot read"),
        ("just text", "no Kubernetes object"),
        ("kind: Service\nmetadata: {name: a}\nspec: {ports: 80}", "Service a: Expected"),
    ],
)
def test_other_input_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str) -> None:
    path = tmp_path / "bad"
    path.write_text(text)
    assert show_manifests(str(path), Configuration("n1"), "text") == 2
    assert words in capsys.readouterr().err
    assert show_manifests("/nowhere", Configuration("n1"), "text") == 2
