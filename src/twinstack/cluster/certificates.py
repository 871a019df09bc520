"""The certificates of a local cluster, and the kubeconfigs that carry the clients' ones.

Importing this module loads `cryptography`: `up` does so in the one case that it has certificates to make.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from twinstack.cluster import policy
from twinstack.cluster.configuration import ClusterConfiguration
from twinstack.cluster.state import ClusterPaths
from twinstack.cluster.yamltext import to_yaml
from twinstack.ip import Address
from twinstack.pki.ca import CertificateAuthority
from twinstack.pki.files import write_secret
from twinstack.pki.signatures import new_key, public_pem

LOOPBACK = (Address.parse("127.0.0.1"), Address.parse("::1"))
SERVICE_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)


def issue(configuration: ClusterConfiguration, paths: ClusterPaths) -> None:
    """Write every certificate and kubeconfig; the authority is kept when there is one.

    The kubeconfig for people comes last: where it stands, all the others do.
    """
    authority = _authority(configuration, paths.pki)
    _issue_servers(configuration, paths, authority)
    _make_token_keys(paths.pki)
    host = f"https://127.0.0.1:{configuration.api_port}"
    switch = f"https://{_host(configuration.switch_addresses[0])}:{configuration.api_port}"
    users = [
        ("controllers", "system:kube-controller-manager", "", host),
        ("scheduler", "system:kube-scheduler", "", host),
        ("proxy", "system:kube-proxy", "", switch),
    ]
    users += [
        (f"node-{index}", f"system:node:{configuration.node_name(index)}", "system:nodes", switch)
        for index in configuration.node_indexes
    ]
    for file, user, group, server in users:
        access = _issue_access(authority, configuration.name, user, group, server)
        write_secret(paths.kubeconfigs / f"{file}.json", json.dumps(access).encode())
    access = _issue_access(authority, configuration.name, "kubernetes-super-admin", "system:masters", host)
    write_secret(paths.kubeconfigs / "admin.json", json.dumps(access).encode())
    # As kubeadm: people are admins by a binding, which can be taken away; a certificate of system:masters cannot.
    access = _issue_access(authority, configuration.name, "kubernetes-admin", policy.ADMINS, host)
    write_secret(paths.kubeconfig, to_yaml(access).encode())


def _authority(configuration: ClusterConfiguration, directory: Path) -> CertificateAuthority:
    certificate, key = directory / "ca.crt", directory / "ca.key"
    if certificate.exists():
        return CertificateAuthority.load(certificate, key)
    authority = CertificateAuthority.create(f"{configuration.name}-ca")
    write_secret(key, authority.key_pem)
    write_secret(certificate, authority.certificate_pem, 0o644)
    return authority


def _issue_servers(configuration: ClusterConfiguration, paths: ClusterPaths, authority: CertificateAuthority) -> None:
    """What the API server and the node agents show to their clients, and the API server to node agents."""
    first_services = [block.address(1) for block in configuration.service_cidrs]
    addresses = [*LOOPBACK, *configuration.switch_addresses, *first_services]
    pair = authority.issue("kube-apiserver", (), SERVICE_NAMES, addresses, server=True)
    _write_pair(paths.pki, "apiserver", pair)
    pair = authority.issue("kube-apiserver-kubelet-client", [policy.ADMINS], client=True)
    _write_pair(paths.pki, "apiserver-kubelet-client", pair)
    for index in configuration.node_indexes:
        name = configuration.node_name(index)
        pair = authority.issue(
            f"system:node:{name}", ["system:nodes"], [name], configuration.node_addresses(index), server=True
        )
        _write_pair(paths.pki, f"kubelet-{index}", pair)


def _make_token_keys(directory: Path) -> None:
    """What service accounts' tokens are signed with; kept, so that tokens go on to count."""
    if not (directory / "sa.key").exists():
        key = new_key()
        write_secret(directory / "sa.pub", public_pem(key), 0o644)
        write_secret(directory / "sa.key", key)


def _write_pair(directory: Path, name: str, pair: tuple[bytes, bytes]) -> None:
    write_secret(directory / f"{name}.key", pair[1])
    write_secret(directory / f"{name}.crt", pair[0], 0o644)


def _issue_access(
    authority: CertificateAuthority, cluster: str, user: str, group: str, server: str
) -> dict[str, object]:
    """A kubeconfig with one cluster, one user and one context."""
    certificate, key = authority.issue(user, [group] if group else [], client=True)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster,
                "cluster": {"server": server, "certificate-authority-data": _base64(authority.certificate_pem)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _host(address: Address) -> str:
    return f"[{address}]" if address.family == "IPv6" else str(address)
