"""certificates.k8s.io/v1: requests for certificates."""

from __future__ import annotations

import msgspec

from twinstack.api.meta import Condition, Object, Struct

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"


class CertificateSigningRequestSpec(Struct):
    """`request` is PEM in base64; `username` and what follows are of who asked, written by the server."""

    request: str = ""
    signer_name: str = ""
    expiration_seconds: int | None = None
    usages: list[str] = []
    username: str = ""
    uid: str = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}


class CertificateSigningRequestStatus(Struct):
    conditions: list[Condition] = []
    certificate: str = ""  # PEM in base64


class CertificateSigningRequest(Object):
    spec: CertificateSigningRequestSpec = msgspec.field(default_factory=CertificateSigningRequestSpec)
    status: CertificateSigningRequestStatus = msgspec.field(default_factory=CertificateSigningRequestStatus)

    def has(self, *conditions: str) -> bool:
        """Whether any of these conditions is there."""
        return any(condition.type in conditions for condition in self.status.conditions)
