"""Who shows what: tokens of accounts, certificates that are asked for, and what a Pod finds in its own directory."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.e2e.cluster import Cluster, until

from twinstack.cluster.state import ClusterPaths

ASK = """
D=/var/run/secrets/kubernetes.io/serviceaccount
URL=https://$1/api/v1/namespaces/$(cat $D/namespace)/pods/asker
curl -sS -m 20 --cacert $D/ca.crt -H "Authorization: Bearer $(cat $D/token)" $URL
"""


@pytest.fixture
def account(dual: Cluster) -> Iterator[str]:
    """An account that may read Pods, and nothing else."""
    dual.kubectl("create", "serviceaccount", "reader")
    dual.kubectl("create", "role", "reader", "--verb=get", "--resource=pods")
    dual.kubectl("create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:reader")
    yield "reader"
    dual.kubectl("delete", "pod/asker", "--ignore-not-found", "--now")
    dual.kubectl("delete", "serviceaccount/reader", "role/reader", "rolebinding/reader")


def test_a_pod_asks_the_api_over_both_families(dual: Cluster, account: str) -> None:
    container = {"name": "c", "image": "twinstack.local/host", "command": ["sleep", "300"]}
    spec = {"serviceAccountName": account, "containers": [container], "terminationGracePeriodSeconds": 0}
    dual.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asker"}, "spec": spec})
    dual.kubectl("wait", "--for=condition=Ready", "pod/asker", "--timeout=60s")
    inside = dual.get("endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes")
    port = inside["items"][0]["ports"][0]["port"]
    service = dual.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    for host in (service, f"[fd00:30::1]:{port}"):
        answer = json.loads(dual.kubectl("exec", "asker", "--", "sh", "-c", ASK, "sh", host))
        assert answer["metadata"]["name"] == "asker", answer
    mode = "stat -Lc %a /var/run/secrets/kubernetes.io/serviceaccount/token"
    assert dual.kubectl("exec", "asker", "--", "sh", "-c", mode).strip() == "644"


def test_a_token_ends_with_its_account(dual: Cluster, account: str) -> None:
    token = dual.kubectl("create", "token", account, "--duration=10m").strip()
    whoami = json.loads(dual.kubectl("auth", "whoami", "-o", "json", f"--token={token}", *_nobody(dual)))
    assert whoami["status"]["userInfo"]["username"] == "system:serviceaccount:default:reader"
    assert "system:serviceaccounts:default" in whoami["status"]["userInfo"]["groups"]
    refused = dual.kubectl("get", "secrets", f"--token={token}", *_nobody(dual), expect=1)
    assert 'User "system:serviceaccount:default:reader" cannot list resource "secrets"' in refused
    dual.kubectl("delete", "serviceaccount", account)
    assert "must be logged in" in dual.kubectl("get", "pods", f"--token={token}", *_nobody(dual), expect=1)
    dual.kubectl("create", "serviceaccount", account)


def test_a_person_gets_a_certificate(dual: Cluster, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, "ann"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "devs")]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    spec = {
        "request": base64.b64encode(request).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"],
    }
    meta = {"name": "ann"}
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    dual.apply({**kind, "metadata": meta, "spec": spec})
    try:
        dual.kubectl("certificate", "approve", "ann")
        issued = until(lambda: dual.get("csr", "ann")["status"].get("certificate"), "no certificate")
    finally:
        dual.kubectl("delete", "csr", "ann")
    (tmp_path / "ann.crt").write_bytes(base64.b64decode(issued))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "ann.key").write_bytes(key.private_bytes(*form))
    shown = (f"--client-certificate={tmp_path / 'ann.crt'}", f"--client-key={tmp_path / 'ann.key'}")
    whoami = json.loads(dual.kubectl("auth", "whoami", "-o", "json", *shown, *_nobody(dual)))
    assert whoami["status"]["userInfo"]["username"] == "ann"
    assert "devs" in whoami["status"]["userInfo"]["groups"]
    assert "X509SHA256=" in json.dumps(whoami["status"]["userInfo"]["extra"])


def _nobody(cluster: Cluster) -> list[str]:
    """Flags for kubectl to reach the cluster without a user's credentials."""
    paths: ClusterPaths = cluster.paths
    server = cluster.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    return ["--kubeconfig=/dev/null", f"--server={server}", f"--certificate-authority={paths.pki / 'ca.crt'}"]
