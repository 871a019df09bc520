"""A node joins as kubelet does: bootstrap token, certificate request, its own certificate, Node, Lease, statuses.

The requests are those of the recorded kubelet 1.36, in its order; certificates are approved and signed by our own
controllers, and what the node may do is decided by the authorizer Node and the admission NodeRestriction.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.integration.controllers.bed import Bed, connected, empty_bed, eventually, make_node

from twinstack.api.certificates import CertificateSigningRequest
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CERTIFICATE_SIGNING_REQUESTS, LEASES, NODES, PODS, SECRETS
from twinstack.api.times import micro_now, now
from twinstack.client import kubeconfig
from twinstack.client.rest import Client
from twinstack.pki.ca import CertificateAuthority

ID, SECRET = "abcdef", "0123456789abcdef"
GROUP = "system:bootstrappers:kubeadm:default-node-token"
NODE, USER = "n1", "system:node:n1"
SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
RBAC = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
BOUND = {  # as kubeadm binds them
    "kubelet-bootstrap": "system:node-bootstrapper",
    "node-autoapprove-bootstrap": "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
}
TYPES = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Bed]:
    authority = CertificateAuthority.create("cluster")
    (tmp_path / "cluster-ca.crt").write_bytes(authority.certificate_pem)
    (tmp_path / "cluster-ca.key").write_bytes(authority.key_pem)
    with empty_bed(tmp_path) as it:
        it.start_server(
            f"--client-ca-file={tmp_path / 'cluster-ca.crt'}",
            "--enable-bootstrap-token-auth",
            "--authorization-mode=Node,RBAC",
        )
        it.start_controllers(
            f"--cluster-signing-cert-file={tmp_path / 'cluster-ca.crt'}",
            f"--cluster-signing-key-file={tmp_path / 'cluster-ca.key'}",
        )
        yield it


def client_of(site: Bed, **user: str) -> Client:
    """Of somebody else than the administrator."""
    document = json.loads(Path(site.kubeconfig).read_text())
    document["users"][0]["user"] = user
    path = site.directory / f"{'-'.join(user)}.json"
    path.write_text(json.dumps(document))
    return Client(kubeconfig.load(str(path)), user_agent="kubelet")


async def prepare(admin: Client) -> None:
    """What `kubeadm init` leaves for those who join."""
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    data = {
        "token-id": ID,
        "token-secret": SECRET,
        "expiration": until,
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": GROUP,
    }
    secret = {
        "metadata": {"name": f"bootstrap-token-{ID}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": data,
    }
    await admin.create(SECRETS, secret, "kube-system")
    for name, role in BOUND.items():
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"kubeadm:{name}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "Group", "name": GROUP}],
        }
        await admin.request("POST", RBAC, json.dumps(binding).encode())


async def certificate(site: Bed) -> Client:
    """With a bootstrap token: ask for the node's certificate, wait for it, and go on as the node."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, USER),
    ]
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names)).sign(key, hashes.SHA256())
    spec = {
        "request": base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode(),
        "signerName": SIGNER,
        "usages": ["digital signature", "client auth"],
    }
    bootstrap = client_of(site, token=f"{ID}.{SECRET}")
    try:
        with pytest.raises(StatusError) as caught:  # it may ask, and nothing else
            await bootstrap.list(NODES)
        assert caught.value.code == 403
        made = await bootstrap.create(
            CERTIFICATE_SIGNING_REQUESTS, {"metadata": {"generateName": "csr-"}, "spec": spec}
        )

        async def look() -> CertificateSigningRequest:
            return await bootstrap.get(CERTIFICATE_SIGNING_REQUESTS, made.metadata.name)

        issued = await eventually(look, lambda csr: bool(csr.status.certificate), 30)
    finally:
        await bootstrap.close()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    encoded = base64.b64encode(key.private_bytes(*form)).decode()
    data = {"client-certificate-data": str(issued.status.certificate), "client-key-data": encoded}
    return client_of(site, **data)


def conditions(ready: str, reason: str, message: str) -> list[dict[str, Any]]:
    times = {"lastHeartbeatTime": now(), "lastTransitionTime": now()}
    usual = [{"type": kind, "status": "False", "reason": f"KubeletHas{kind}", **times} for kind in TYPES[:3]]
    return [*usual, {"type": "Ready", "status": ready, "reason": reason, "message": message, **times}]


async def register(node: Client) -> None:
    addresses = [("InternalIP", "172.31.0.11"), ("InternalIP", "fd00:31::11"), ("Hostname", NODE)]
    status = {
        "addresses": [{"type": kind, "address": text} for kind, text in addresses],
        "capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"},
        "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"},
        "conditions": conditions("False", "KubeletNotReady", "CSINode is not yet initialized"),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "declaredFeatures": ["ExtendWebSocketsToKubelet"],
    }
    labels = {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}
    made = await node.create(NODES, {"metadata": {"name": NODE, "labels": labels}, "status": status})
    assert [(a.type, a.address) for a in made.status.addresses] == addresses
    await node.patch(NODES, NODE, "", {}, subresource="status")
    order = [{"type": kind} for kind in TYPES]
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}
    patch = {"status": {"$setElementOrder/conditions": order, "conditions": [ready]}}
    known = await node.patch(NODES, NODE, "", patch, subresource="status")
    assert [(c.type, c.status) for c in known.status.conditions] == [
        *((kind, "False") for kind in TYPES[:3]),
        ("Ready", "True"),
    ]
    owner = {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": made.metadata.uid}
    meta = {"name": NODE, "namespace": "kube-node-lease", "ownerReferences": [owner]}
    spec = {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": micro_now()}
    lease = await node.create(LEASES, {"metadata": meta, "spec": spec}, "kube-node-lease")
    lease.spec.renew_time = micro_now()
    await node.update(LEASES, lease)


async def run_pod(admin: Client, node: Client) -> None:
    """A pod that is bound to it is seen and reported with an address of each family; those of others are not."""
    for name, place in (("mine", NODE), ("others", "n2")):
        spec = {"nodeName": place, "containers": [{"name": "c", "image": "registry.example/app:1"}]}
        await admin.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec}, "default")
    pods, _ = await node.list(PODS, field_selector=f"spec.nodeName={NODE}")
    assert [pod.metadata.name for pod in pods] == ["mine"]
    addresses = [{"ip": "10.244.0.2"}, {"ip": "fd00:10:244::2"}]
    status = {"phase": "Running", "podIP": "10.244.0.2", "podIPs": addresses, "hostIP": "172.31.0.11"}
    patch = {"metadata": {"uid": pods[0].metadata.uid}, "status": status}
    known = await node.patch(PODS, "mine", "default", patch, subresource="status")
    assert [entry.ip for entry in known.status.pod_ips] == ["10.244.0.2", "fd00:10:244::2"]
    await make_node(admin, "n2")
    for refused in (
        lambda: node.patch(PODS, "others", "default", {"status": {"phase": "Running"}}, subresource="status"),
        lambda: node.patch(NODES, "n2", "", {"metadata": {"labels": {"a": "b"}}}),
        lambda: node.list(SECRETS, "kube-system"),
    ):
        with pytest.raises(StatusError) as caught:
            await refused()
        assert caught.value.code == 403


def test_a_kubelet_joins(site: Bed) -> None:
    async def main() -> None:
        async with connected(site) as admin:
            await prepare(admin)
            node = await certificate(site)
            try:
                await register(node)
                found = await eventually(lambda: admin.get(NODES, NODE), lambda node: bool(node.spec.pod_cidrs), 30)
                assert len(found.spec.pod_cidrs) == 2
                await run_pod(admin, node)
            finally:
                await node.close()

    asyncio.run(main())
