"""TLS of a client: which servers to believe, and the certificate to show."""

from __future__ import annotations

import os
import ssl

from twinstack.client.kubeconfig import ClusterAccess, KubeconfigError


def context(access: ClusterAccess) -> ssl.SSLContext:
    """The TLS context of `access`. Raises KubeconfigError for PEM that OpenSSL refuses."""
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    result.minimum_version = ssl.TLSVersion.TLSv1_2
    result.set_alpn_protocols(["http/1.1"])
    try:
        if access.insecure:
            result.check_hostname = False
            result.verify_mode = ssl.CERT_NONE
        elif access.ca_data is not None:
            result.load_verify_locations(cadata=access.ca_data.decode("ascii"))
        else:
            result.load_default_certs()
        if access.client_cert is not None and access.client_key is not None:
            _load_pair(result, access.client_cert + b"\n" + access.client_key)
    except (ssl.SSLError, ValueError) as error:
        raise KubeconfigError(f"certificates for {access.server} cannot be used: {error}") from None
    return result


def _load_pair(target: ssl.SSLContext, pem: bytes) -> None:
    """OpenSSL reads certificate and key from files only: give it one in memory, so the key never meets a disk."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        target.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
