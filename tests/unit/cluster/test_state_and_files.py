"""Names of namespaces, kubeconfigs, flags of parts, times."""

from __future__ import annotations

import argparse
import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from twinstack.client import kubeconfig
from twinstack.cluster import certificates, laying, policy, state
from twinstack.cluster.parts import cluster_parts
from twinstack.cluster.readiness import age
from twinstack.cluster.state import ClusterPaths
from twinstack.cluster.supervisor import describe_exit, restart_delay
from twinstack.cluster.up import duration
from twinstack.cluster.wishes import Wishes, configure
from twinstack.server.authorization.rbac import bootstrap_policy


def test_a_cluster_never_takes_the_namespaces_of_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(state, "NAMESPACES", tmp_path)
    of_a = {"a-switch", "a-1", "a-12", "a-1-0123456789ab", "a-12-deadbeef"}
    of_a_1 = {"a-1-switch", "a-1-1", "a-1-12", "a-1-1-0123456789ab"}
    for name in of_a | of_a_1 | {"a", "ab-1", "other"}:
        (tmp_path / name).touch()
    assert {path.name for path in ClusterPaths("a", tmp_path).namespaces()} == of_a
    assert {path.name for path in ClusterPaths("a-1", tmp_path).namespaces()} == of_a_1


def test_ports_of_all_clusters_of_the_machine_are_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(state, "RUN", tmp_path / "run")
    for home, name, port in (("mine", "a", 6443), ("mine", "b", 6444), ("other", "c", 6445)):
        monkeypatch.setenv("TWINSTACK_HOME", str(tmp_path / home))
        own = state.paths(name)
        laying.mirror(configure(Wishes(name=name), port), own)
        own.run.mkdir(parents=True)
        own.owner.symlink_to(own.root)
    (tmp_path / "run" / "remainder").mkdir()
    state.paths("b").root.mkdir()
    state.paths("b").configuration.write_text("damaged")
    assert state.api_ports() == {6443, 6444, 6445}


def test_what_is_no_clusters_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWINSTACK_HOME", str(tmp_path))
    for directory in ("documents", "bin", "empty", "Upper", "half/processes"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "documents" / "letter").touch()
    laying.mirror(configure(Wishes(name="whole"), 6443), state.paths("whole"))
    assert state.clusters() == ["empty", "half", "whole"]


def who(config: Any) -> tuple[str, list[str]]:
    """User and groups of a kubeconfig's certificate."""
    data = base64.b64decode(config["users"][0]["user"]["client-certificate-data"])
    subject = x509.load_pem_x509_certificate(data).subject
    groups = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value), groups


@pytest.mark.parametrize("family", ["dual", "ipv4", "ipv6"])
def test_certificates_and_kubeconfigs(tmp_path: Path, family: str) -> None:
    paths = ClusterPaths("demo", tmp_path)
    cluster = configure(Wishes(name="demo", ip_family=family), 7443)
    certificates.issue(cluster, paths)
    server = x509.load_pem_x509_certificate((paths.pki / "apiserver.crt").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    first = {str(block.address(1)) for block in cluster.service_cidrs}
    assert addresses == {"127.0.0.1", "::1", *map(str, cluster.switch_addresses), *first}
    assert who(yaml.safe_load(paths.kubeconfig.read_text())) == ("kubernetes-admin", ["kubeadm:cluster-admins"])
    files = {path.stem: who(json.loads(path.read_text())) for path in paths.kubeconfigs.iterdir()}
    assert files == {
        "admin": ("kubernetes-super-admin", ["system:masters"]),
        "controllers": ("system:kube-controller-manager", []),
        "scheduler": ("system:kube-scheduler", []),
        "proxy": ("system:kube-proxy", []),
        "node-1": ("system:node:demo-1", ["system:nodes"]),
        "node-2": ("system:node:demo-2", ["system:nodes"]),
    }
    assert kubeconfig.load(str(paths.kubeconfig)).server == "https://127.0.0.1:7443"
    node = kubeconfig.load(str(paths.kubeconfigs / "node-2.json"))
    assert node.server == ("https://[fd00:30::1]:7443" if family == "ipv6" else "https://172.30.0.1:7443")
    authority = (paths.pki / "ca.crt").read_bytes()
    certificates.issue(cluster, paths)
    assert (paths.pki / "ca.crt").read_bytes() == authority
    secret = [path for path in tmp_path.rglob("*") if path.suffix in (".key", ".json") or path.name == "kubeconfig"]
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}


def test_what_is_bound_is_there() -> None:
    """Every binding of a cluster is of a role that the server makes, or of one beside it."""
    items = policy.manifest()
    roles = {role["metadata"]["name"] for role in bootstrap_policy.read().roles}
    roles |= {item["metadata"]["name"] for item in items if item["kind"] == "ClusterRole"}
    assert {item["roleRef"]["name"] for item in items if "roleRef" in item} <= roles


def test_flags_of_parts() -> None:
    paths = ClusterPaths("demo", Path("/s/demo"))
    cluster = configure(Wishes(name="demo", service_cidr="fd00:1::/112,10.1.0.0/16"), 7443)
    parts = {part.name: part for part in cluster_parts(cluster, paths)}
    assert list(parts) == [
        "server",
        "controllers",
        "scheduler",
        "node-1",
        "node-2",
        "proxy-1",
        "proxy-2",
        "configuration",
    ]

    def flag(part: str, name: str) -> str:
        words = parts[part].arguments
        return words[words.index(f"--{name}") + 1]

    assert flag("server", "service-cluster-ip-range") == "fd00:1::/112,10.1.0.0/16"
    assert flag("server", "advertise-address") == "fd00:30::1,172.30.0.1"
    assert flag("server", "network-namespace") == "/run/netns/demo-switch"
    assert flag("node-2", "node-ip") == "fd00:30::12,172.30.0.12"
    assert flag("node-2", "non-masquerade-cidr") == "fd00:10:244::/56,10.244.0.0/16"
    assert flag("controllers", "node-cidr-mask-size-ipv6") == "64"
    assert {name: str(part.namespace) for name, part in parts.items() if part.namespace} == {
        "node-1": "/run/netns/demo-1",
        "proxy-1": "/run/netns/demo-1",
        "node-2": "/run/netns/demo-2",
        "proxy-2": "/run/netns/demo-2",
    }


def test_restarts_back_off() -> None:
    assert [restart_delay(n) for n in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, 0.8]
    assert restart_delay(8) == 10.0
    assert restart_delay(10_000) == 10.0


def test_exits_are_described() -> None:
    assert describe_exit(0) == "exit code 0"
    assert describe_exit(3 << 8) == "exit code 3"
    assert describe_exit(9) == "killed by SIGKILL"
    assert describe_exit(None) == "unknown"


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("500ms", 0.5), ("2m", 120), ("3", 3), ("1.5s", 1.5)])
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1h", "1.2.3s"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "3s"), (60, "1m"), (192, "3m12s"), (7260, "2h1m"), (3 * 86400 + 3600, "3d1h")]
)
def test_ages(seconds: int, text: str) -> None:
    assert age(time.time() - seconds) == text
