"""The server's TLS: its certificate, and client certificates asked for but not demanded."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from twinstack.ip import Address

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy and authenticated encryption; 1.3 has no others


def server_context(certificate: str, key: str, client_ca: str) -> ssl.SSLContext:
    """TLS 1.2 and later, HTTP/1.1 alone. An empty `client_ca` asks for no client certificate.

    Raises OSError and ssl.SSLError with the file's name.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0  # Go's clients keep connections, none resumes a session
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise OSError(f"server certificate {certificate} with key {key}: {error}") from error
    if client_ca:
        try:
            context.load_verify_locations(cafile=client_ca)
        except (OSError, ssl.SSLError) as error:
            raise OSError(f"client CA {client_ca}: {error}") from error
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def self_signed(directory: Path, names: Sequence[str], addresses: Sequence[Address]) -> tuple[str, str]:
    """Certificate and key `apiserver.crt`, `apiserver.key` in `directory`; made, with a CA of their own, if absent.

    The certificate file holds the CA's certificate too, so a client can trust the file.
    """
    certificate, key = directory / "apiserver.crt", directory / "apiserver.key"
    if not (certificate.exists() and key.exists()):
        # Only here is a certificate made, and the library costs 40 ms to import.
        from twinstack.pki.ca import CertificateAuthority
        from twinstack.pki.files import write_secret

        authority = CertificateAuthority.create("twinstack-self-signed")
        cert_pem, key_pem = authority.issue("kube-apiserver", dns_names=names, addresses=addresses, server=True)
        write_secret(key, key_pem)
        write_secret(certificate, cert_pem + authority.certificate_pem)
    return str(certificate), str(key)
