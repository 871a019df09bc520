"""Which certificate requests the built-in signers take (kubernetes.io/docs, "Certificates and Certificate Signing
Requests"). Pure: a request is judged by what it says of itself.

Messages are kube-controller-manager's, which a Failed condition shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
SIGNERS = (CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY)

_NODES = "system:nodes"
_NODE = "system:node:"
_ENCIPHERMENT, _SIGNATURE = "key encipherment", "digital signature"


class Asked(Protocol):
    """What a request says: `pki.ca.CertificateRequest`."""

    @property
    def common_name(self) -> str: ...
    @property
    def organizations(self) -> Sequence[str]: ...
    @property
    def dns_names(self) -> Sequence[str]: ...
    @property
    def addresses(self) -> Sequence[str]: ...
    @property
    def emails(self) -> Sequence[str]: ...
    @property
    def uris(self) -> Sequence[str]: ...


def refusal(signer: str, asked: Asked, usages: Sequence[str]) -> str:
    """Why a signer does not sign; empty if it does."""
    if signer == CLIENT:
        return _client_usages(usages)
    if signer == KUBELET_CLIENT:
        return kubelet_client_refusal(asked, usages)
    if signer == KUBELET_SERVING:
        return _serving_refusal(asked, usages)
    return ""


def kubelet_client_refusal(asked: Asked, usages: Sequence[str]) -> str:
    """Why this is no request of a kubelet for its own client certificate."""
    if list(asked.organizations) != [_NODES]:
        return "subject organization is not system:nodes"
    for names, what in (
        (asked.dns_names, "DNS"),
        (asked.emails, "Email"),
        (asked.addresses, "IP"),
        (asked.uris, "URI"),
    ):
        if names:
            return f"{what} subjectAltNames are not allowed"
    if not asked.common_name.startswith(_NODE):
        return "subject common name does not begin with system:node: "
    if not _is(usages, "client auth"):
        return (
            "usages did not match [client auth digital signature] or [client auth digital signature key encipherment]"
        )
    return ""


def _serving_refusal(asked: Asked, usages: Sequence[str]) -> str:
    if list(asked.organizations) != [_NODES]:
        return "subject organization is not system:nodes"
    if not asked.dns_names and not asked.addresses:
        return "DNS or IP subjectAltName is required"
    if asked.emails:
        return "Email subjectAltNames are not allowed"
    if asked.uris:
        return "URI subjectAltNames are not allowed"
    if not asked.common_name.startswith(_NODE):
        return "subject common name does not begin with system:node: "
    if not _is(usages, "server auth"):
        return (
            "usages did not match [digital signature key encipherment server auth] or [digital signature server auth]"
        )
    return ""


def _client_usages(usages: Sequence[str]) -> str:
    for usage in usages:
        if usage not in (_SIGNATURE, _ENCIPHERMENT, "client auth"):
            return f"invalid usage for client certificate: {usage}"
    return "" if "client auth" in usages else "missing required usage for client certificate: client auth"


def _is(usages: Sequence[str], purpose: str) -> bool:
    """Exactly what a kubelet's certificate is for; an elliptic-curve key enciphers no keys."""
    return set(usages) - {_ENCIPHERMENT} == {_SIGNATURE, purpose}
