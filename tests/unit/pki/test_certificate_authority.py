"""Certificates as TLS sees them: chains verify, both families match, strangers are refused."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinstack.ip import Address
from twinstack.pki.ca import LEAF_LIFETIME, CertificateAuthority
from twinstack.pki.files import write_secret

ADDRESSES = [Address.parse("127.0.0.1"), Address.parse("fd00:10:96::1")]


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("test-ca")


def contexts(
    directory: Path, authority: CertificateAuthority, pair: tuple[bytes, bytes]
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    write_secret(directory / "ca.crt", authority.certificate_pem)
    write_secret(directory / "pair.pem", pair[0] + pair[1])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "pair.pem")
    client = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    return server, client


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """Both ends over memory, so that no thread and no port is needed."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(10):
        done = 0
        for side in (here, there):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
        if done == 2:
            return
    raise AssertionError("the handshake does not end")


@pytest.mark.parametrize("host", ["127.0.0.1", "fd00:10:96::1", "kubernetes.default.svc"])
def test_a_server_certificate_is_accepted_for_its_names(
    tmp_path: Path, authority: CertificateAuthority, host: str
) -> None:
    pair = authority.issue("kube-apiserver", (), ["kubernetes.default.svc"], ADDRESSES, server=True)
    handshake(*contexts(tmp_path, authority, pair), host)


@pytest.mark.parametrize("host", ["127.0.0.2", "fd00:10:96::2", "kubernetes.other"])
def test_other_names_are_refused(tmp_path: Path, authority: CertificateAuthority, host: str) -> None:
    pair = authority.issue("kube-apiserver", (), ["kubernetes.default.svc"], ADDRESSES, server=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*contexts(tmp_path, authority, pair), host)


def test_a_client_certificate_does_not_serve(tmp_path: Path, authority: CertificateAuthority) -> None:
    pair = authority.issue("admin", (), (), ADDRESSES, client=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*contexts(tmp_path, authority, pair), "127.0.0.1")


def test_another_authority_is_refused(tmp_path: Path, authority: CertificateAuthority) -> None:
    pair = CertificateAuthority.create("test-ca").issue("kube-apiserver", (), (), ADDRESSES, server=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*contexts(tmp_path, authority, pair), "127.0.0.1")


def test_subject_is_user_and_groups(authority: CertificateAuthority) -> None:
    pem, _ = authority.issue("system:node:n1", ["system:nodes", "extra"], client=True)
    subject = x509.load_pem_x509_certificate(pem).subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:n1"]
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:nodes", "extra"]


def test_contents(authority: CertificateAuthority) -> None:
    pem, _ = authority.issue("both", (), ["a.b"], ADDRESSES, server=True, client=True)
    leaf = x509.load_pem_x509_certificate(pem)
    now = datetime.datetime.now(datetime.UTC)
    assert leaf.not_valid_before_utc < now < leaf.not_valid_after_utc <= now + LEAF_LIFETIME
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    expected = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("fd00:10:96::1")]
    assert names.get_values_for_type(x509.IPAddress) == expected
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    parent = x509.load_pem_x509_certificate(authority.certificate_pem)
    leaf.verify_directly_issued_by(parent)
    identifier = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert identifier == parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_an_authority_survives_its_files(tmp_path: Path, authority: CertificateAuthority) -> None:
    write_secret(tmp_path / "ca.crt", authority.certificate_pem, 0o644)
    write_secret(tmp_path / "ca.key", authority.key_pem)
    again = CertificateAuthority.load(tmp_path / "ca.crt", tmp_path / "ca.key")
    pem, _ = again.issue("x", client=True)
    x509.load_pem_x509_certificate(pem).verify_directly_issued_by(
        x509.load_pem_x509_certificate(authority.certificate_pem)
    )


def test_files_that_do_not_belong_together(tmp_path: Path, authority: CertificateAuthority) -> None:
    write_secret(tmp_path / "ca.crt", authority.certificate_pem)
    write_secret(tmp_path / "ca.key", CertificateAuthority.create("other").key_pem)
    with pytest.raises(ValueError, match="do not belong together"):
        CertificateAuthority.load(tmp_path / "ca.crt", tmp_path / "ca.key")
