"""A running cluster becomes another one: through `up` with other flags, and through its configuration object."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tests.e2e.cluster import EXAMPLES, Cluster, until
from tests.e2e.test_failures import Traffic
from tests.e2e.test_lifecycle import part_ids, supervisor

import twinstack
from twinstack.dataplane.model import Target
from twinstack.ip import Address

CONFIG_MAP = ("configmap", "kubeadm-config", "-n", "kube-system")


def pod_blocks(cluster: Cluster) -> dict[str, int]:
    """How many blocks of addresses for pods each node has."""
    return {node["metadata"]["name"]: len(node["spec"]["podCIDRs"]) for node in cluster.get("nodes")["items"]}


def edit(cluster: Cluster, **values: Any) -> None:
    """Change the object's ClusterConfiguration: `networking.podSubnet` is written networking__podSubnet."""
    document = yaml.safe_load(cluster.get(*CONFIG_MAP)["data"]["ClusterConfiguration"])
    for path, value in values.items():
        *parents, field = path.split("__")
        place = document
        for parent in parents:
            place = place[parent]
        place[field] = value
    patch = {"data": {"ClusterConfiguration": yaml.safe_dump(document)}}
    cluster.kubectl("patch", *CONFIG_MAP, "--type", "merge", "-p", json.dumps(patch))


def configuration(cluster: Cluster) -> tuple[str, str]:
    found = cluster.status()["configuration"]
    return found["state"], found["message"]


def events(cluster: Cluster, reason: str) -> Any:
    return cluster.get("events", "-n", "kube-system", "--field-selector", f"reason={reason}")["items"]


def test_nodes_come_and_go_under_traffic(new_cluster: Callable[[str], Cluster]) -> None:
    cluster = new_cluster("grow")
    cluster.up("--nodes", "1")
    cluster.run_hello()
    pids = part_ids(cluster)
    with Traffic(cluster, cluster.addresses("hello-prefer")) as traffic:
        assert "1 node becomes 3" in cluster.up("--nodes", "3")
        assert pod_blocks(cluster) == {f"{cluster.name}-{index}": 2 for index in (1, 2, 3)}
        assert part_ids(cluster).items() >= pids.items()  # nothing that ran was touched
        cluster.kubectl("rollout", "restart", "deployment/hello")
        cluster.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")
        cluster.kubectl("scale", "deployment/hello", "--replicas=6")  # one stays on the node that stays
        cluster.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")
        assert {pod["spec"]["nodeName"] for pod in cluster.pods()} == {f"{cluster.name}-{i}" for i in (1, 2, 3)}
        cluster.up("--nodes", "1")
        assert list(pod_blocks(cluster)) == [f"{cluster.name}-1"]
        cluster.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")
        assert {pod["spec"]["nodeName"] for pod in cluster.pods()} == {f"{cluster.name}-1"}
    assert traffic.failures == []
    assert traffic.answered > 50
    assert part_ids(cluster) == pids
    names = {path.name for path in cluster.paths.namespaces()}
    assert not any(name.startswith((f"{cluster.name}-2", f"{cluster.name}-3")) for name in names)
    assert [path.name for path in (cluster.paths.root / "nodes").iterdir()] == ["1"]
    assert cluster.status()["healthy"]


def test_a_cluster_of_one_family_gets_the_second_one(new_cluster: Callable[[str], Cluster]) -> None:
    cluster = new_cluster("widened")
    cluster.up("--nodes", "1", "--ip-family", "ipv4")
    cluster.kubectl("apply", "-f", "examples/dual-stack.yaml", expect=1)  # what one family cannot have is refused
    cluster.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")
    with Traffic(cluster, cluster.addresses("hello")) as traffic:
        printed = cluster.up("--ip-family", "dual", "--nodes", "2")
        assert traffic.failures == []
    assert "Services also in fd00:10:96::/112" in printed
    assert f"kubectl delete node {cluster.name}-1" in printed
    assert pod_blocks(cluster) == {f"{cluster.name}-1": 1, f"{cluster.name}-2": 2}
    assert len(cluster.node_addresses(1)) == 2
    assert configuration(cluster)[0] == "done"
    # The node that was there registers anew.
    cluster.kubectl("cordon", f"{cluster.name}-1")
    cluster.kubectl("delete", "pods", "--all", "--wait=true")
    cluster.kubectl("delete", "node", f"{cluster.name}-1")
    until(lambda: pod_blocks(cluster) == dict.fromkeys((f"{cluster.name}-1", f"{cluster.name}-2"), 2), "both")
    cluster.run_hello()
    cluster.kubectl("rollout", "restart", "deployment/hello")
    cluster.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")
    assert {len(pod["status"]["podIPs"]) for pod in cluster.pods()} == {2}
    for address in cluster.addresses("hello-require"):
        assert cluster.answers(address)


def test_the_configuration_object(new_cluster: Callable[[str], Cluster]) -> None:
    cluster = new_cluster("object")
    cluster.up("--nodes", "1")
    pids = part_ids(cluster)
    edit(cluster, networking__serviceSubnet="10.98.0.0/16,fd00:10:96::/112")
    until(lambda: configuration(cluster)[0] == "refused", "refused")
    assert "`twinstack down` first" in configuration(cluster)[1]
    until(lambda: events(cluster, "Refused"), "it is told")
    assert [event["involvedObject"]["name"] for event in events(cluster, "Refused")] == ["kubeadm-config"]
    edit(cluster, networking__serviceSubnet="10.96.0.0/16", networking__podSubnet="no block")
    until(lambda: "not an IP address" in configuration(cluster)[1], "the path of what is wrong")
    assert part_ids(cluster) == pids
    edit(
        cluster,
        networking={"serviceSubnet": "10.96.0.0/16,fd00:10:96::/112", "podSubnet": "10.244.0.0/16,fd00:10:244::/56"},
        apiServer__extraArgs=[{"name": "service-node-port-range", "value": "31000-31099"}],
        certificatesDir="/etc/kubernetes/pki",
    )
    until(lambda: part_ids(cluster)["server"] != pids["server"], "the server is replaced")
    until(lambda: configuration(cluster) == ("done", ""), "done")
    cluster.run_hello()
    assert 31000 <= cluster.node_port("hello-nodeport") <= 31099
    assert {name for name, pid in part_ids(cluster).items() if pid != pids[name]} == {"server"}
    assert [event["message"] for event in events(cluster, "WithoutEffect")] == ["not acted on: certificatesDir"]
    cluster.kubectl("delete", *CONFIG_MAP)
    until(lambda: cluster.kubectl("get", *CONFIG_MAP, "--ignore-not-found"), "it is written again")


def test_a_rollout_goes_on_after_the_end_of_who_made_it(new_cluster: Callable[[str], Cluster]) -> None:
    cluster = new_cluster("killed")
    cluster.up("--nodes", "1")
    pids = part_ids(cluster)
    with cluster.locked():  # it waits for who lays files, so it cannot have come to its end
        edit(cluster, apiServer__extraArgs=[{"name": "service-node-port-range", "value": "31000-31099"}])
        until(lambda: configuration(cluster)[0] == "rolling", "it rolls")
        os.kill(pids["configuration"], signal.SIGKILL)
    until(lambda: configuration(cluster)[0] == "done", "done")
    assert part_ids(cluster)["server"] != pids["server"]
    # Without a supervisor nothing rolls; `up` starts one, which takes over what runs, and then makes the change.
    os.kill(supervisor(cluster), signal.SIGKILL)
    assert "1 node becomes 2" in cluster.up("--nodes", "2")
    until(lambda: cluster.status()["healthy"], "healthy")
    assert len(pod_blocks(cluster)) == 2


def test_a_file_of_kind(new_cluster: Callable[[str], Cluster], tmp_path: Path) -> None:
    cluster = new_cluster("kind")
    file = tmp_path / "kind.yaml"
    file.write_text(
        """
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  ipFamily: dual
  podSubnet: fd00:7::/56,10.7.0.0/16
  serviceSubnet: fd00:8::/112,10.8.0.0/16
  kubeProxyMode: none
nodes:
- role: control-plane
- role: worker
  labels: {tier: front, "topology.kubernetes.io/zone": "a"}
  extraMounts: [{hostPath: /tmp, containerPath: /tmp}]
"""
    )
    printed = cluster.up("--config", str(file))
    assert "nodes[1].extraMounts: not acted on" in printed
    assert "dual-stack, IPv6 first, 2 nodes" in printed
    report = cluster.status()
    assert not any(part["name"].startswith("proxy") for part in report["parts"])
    labels = cluster.get("node", f"{cluster.name}-2")["metadata"]["labels"]
    assert (labels["tier"], labels["topology.kubernetes.io/zone"]) == ("front", "a")
    assert report["serviceCIDRs"] == ["fd00:8::/112", "10.8.0.0/16"]
    file.write_text(file.read_text().replace("tier: front", "tier: back"))
    assert "labels of nodes" in cluster.up("--config", str(file))
    until(lambda: cluster.get("node", f"{cluster.name}-2")["metadata"]["labels"]["tier"] == "back", "it is changed")
    cluster.run_hello()
    addresses = cluster.addresses("hello")
    assert all(cluster.is_silent(each) for each in addresses)
    run_proxy_of_ours(cluster)
    for address in addresses:
        until(lambda: cluster.answers(address), f"{address} answers")  # noqa: B023
    told = cluster.kubectl("logs", "-n", "kube-system", "-l", "k8s-app=twinstack-proxy")
    assert ("proxy of node" in told, "answers only where a proxy has run" in told) == (True, False)


def run_proxy_of_ours(cluster: Cluster) -> None:
    """The DaemonSet of the documentation, with this program in the machine's own files for an image."""
    objects = {each["kind"]: each for each in yaml.safe_load_all((EXAMPLES / "proxy" / "daemonset.yaml").read_bytes())}
    pod = objects["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    server = cluster.get("endpointslices", "kubernetes", "-n", "default")
    address = Target(Address.parse(server["endpoints"][0]["addresses"][0]), server["ports"][0]["port"])
    container["args"] = [
        f"--master=https://{address}" if each.startswith("--master") else each for each in container["args"]
    ]
    container |= {"image": "twinstack.local/host", "command": [sys.executable, "-m", "twinstack.cli.main"]}
    for number, path in enumerate([sys.prefix, str(Path(twinstack.__file__).parents[1])]):
        pod["volumes"].append({"name": f"program-{number}", "hostPath": {"path": path}})
        container["volumeMounts"].append({"name": f"program-{number}", "mountPath": path, "readOnly": True})
    configuration = objects["ConfigMap"]["data"]
    ranges = "fd00:7::/56,10.7.0.0/16"
    configuration["config.yaml"] = configuration["config.yaml"].replace("10.244.0.0/16,fd00:10:244::/56", ranges)
    for each in objects.values():
        cluster.apply(each)
    cluster.kubectl("-n", "kube-system", "rollout", "status", "daemonset/twinstack-proxy", "--timeout=60s")
