"""Certificate requests and tokens in Secrets, with the real API server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.integration.controllers.bed import Bed, bed, eventually
from tests.integration.controllers.running import run, running

from twinstack.api.certificates import CertificateSigningRequest
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CERTIFICATE_SIGNING_REQUESTS, SECRETS, SERVICE_ACCOUNTS
from twinstack.client.rest import Client
from twinstack.controllers.csrapproving import CSRApprovingController
from twinstack.controllers.csrsigning import CSRSigningController
from twinstack.controllers.tokens import TYPE, TokensController
from twinstack.pki.ca import CertificateAuthority

YEAR = 365 * 24 * 3600.0
CLIENT_USAGES = ["digital signature", "client auth"]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    directory = tmp_path_factory.mktemp("bed")
    authority = CertificateAuthority.create("signers")
    (directory / "ca.crt").write_bytes(authority.certificate_pem)
    (directory / "ca.key").write_bytes(authority.key_pem)
    with bed(directory, server_only=True) as it:
        yield it


def request_for(common_name: str, *organizations: str, dns: str = "") -> str:
    """A PKCS #10 request as the API carries it."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    names.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()


async def ask(client: Client, name: str, signer: str, request: str, usages: list[str], **spec: Any) -> None:
    spec |= {"signerName": f"kubernetes.io/{signer}", "request": request, "usages": usages}
    await client.create(CERTIFICATE_SIGNING_REQUESTS, {"metadata": {"name": name}, "spec": spec})


async def decide(client: Client, name: str, decision: str = "Approved") -> None:
    """As `kubectl certificate` does."""
    path = CERTIFICATE_SIGNING_REQUESTS.resource.path("", name)
    obj = json.loads(await client.request("GET", path))
    condition = {"type": decision, "status": "True", "reason": "Test", "message": "by a test"}
    obj.setdefault("status", {})["conditions"] = [condition]
    await client.update(CERTIFICATE_SIGNING_REQUESTS, obj, subresource="approval")


async def settled(client: Client, name: str) -> CertificateSigningRequest:
    read = partial(client.get, CERTIFICATE_SIGNING_REQUESTS, name)
    return await eventually(read, lambda found: bool(found.status.certificate) or found.has("Failed"), timeout=30)


def signing(directory: Path) -> Any:
    return lambda context: CSRSigningController(context, directory / "ca.crt", directory / "ca.key", YEAR)


def test_a_kubelet_gets_its_certificate(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, CSRApprovingController, signing(server.directory)):
            request = request_for("system:node:n1", "system:nodes")
            await ask(client, "n1", "kube-apiserver-client-kubelet", request, CLIENT_USAGES, expirationSeconds=3600)
            found = await settled(client, "n1")
            (condition,) = found.status.conditions
            assert (condition.type, condition.reason) == ("Approved", "AutoApproved")
            assert condition.message == "Auto approving kubelet client certificate after SubjectAccessReview."
            certificate = x509.load_pem_x509_certificate(base64.b64decode(found.status.certificate))
            names = [attribute.value for attribute in certificate.subject]
            assert names == ["system:nodes", "system:node:n1"]
            usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
            lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
            assert lifetime.total_seconds() == 3600 + 300

    run(server, scenario)


def test_signers_take_what_is_theirs(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, CSRApprovingController, signing(server.directory)):
            serving = ["digital signature", "server auth"]
            await ask(
                client, "good", "kubelet-serving", request_for("system:node:n1", "system:nodes", dns="n1"), serving
            )
            await ask(client, "nameless", "kubelet-serving", request_for("system:node:n1", "system:nodes"), serving)
            await ask(client, "person", "kube-apiserver-client", request_for("ann", "devs"), ["client auth"])
            await ask(client, "server", "kube-apiserver-client", request_for("ann"), serving)
            await ask(client, "no", "kube-apiserver-client", request_for("bob"), CLIENT_USAGES)
            for name in ("good", "nameless", "person", "server"):
                await decide(client, name)
            await decide(client, "no", "Denied")
            assert (await settled(client, "good")).status.certificate
            person = base64.b64decode((await settled(client, "person")).status.certificate)
            with pytest.raises(x509.ExtensionNotFound):  # an empty one would make the certificate invalid
                x509.load_pem_x509_certificate(person).extensions.get_extension_for_class(x509.KeyUsage)
            for name, problem in (
                ("nameless", "DNS or IP subjectAltName is required"),
                ("server", "invalid usage for client certificate: server auth"),
            ):
                failed = (await settled(client, name)).status.conditions[-1]
                assert (failed.type, failed.reason) == ("Failed", "SignerValidationFailure")
                assert failed.message == problem
            assert not (await client.get(CERTIFICATE_SIGNING_REQUESTS, "no")).status.certificate
            with pytest.raises(StatusError, match='may not remove a condition of type "Approved"'):
                await decide(client, "good", "Denied")
            with pytest.raises(StatusError, match="signer with system:masters group is not allowed"):
                await ask(client, "root", "kube-apiserver-client", request_for("x", "system:masters"), CLIENT_USAGES)

    run(server, scenario)


def test_tokens_in_secrets_live_and_die_with_their_account(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        key = server.directory / "sa.key"
        async with running(client, lambda context: TokensController(context, key, "PEM")):
            await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "bot", "namespace": "default"}})
            named = {"kubernetes.io/service-account.name": "bot"}
            meta = {"name": "s", "namespace": "default", "annotations": named}
            await client.create(SECRETS, {"metadata": meta, "type": TYPE})
            read = partial(client.get, SECRETS, "s", "default")
            secret = await eventually(read, lambda found: "token" in found.data, timeout=30)
            assert base64.b64decode(secret.data["namespace"]) == b"default"
            assert base64.b64decode(secret.data["ca.crt"]) == b"PEM"
            body = {"spec": {"token": base64.b64decode(secret.data["token"]).decode()}}
            path = "/apis/authentication.k8s.io/v1/tokenreviews"
            review = json.loads(await client.request("POST", path, json.dumps(body).encode()))
            assert review["status"]["user"]["username"] == "system:serviceaccount:default:bot"
            await client.delete(SERVICE_ACCOUNTS, "bot", "default")
            await eventually(partial(client.list, SECRETS, "default"), lambda found: found[0] == [], timeout=30)
            refused = json.loads(await client.request("POST", path, json.dumps(body).encode()))
            assert "authenticated" not in refused["status"]

    run(server, scenario)
