"""Admission plugins CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may decide on
certificate requests, who may sign them, and what nobody can ask for."""

from __future__ import annotations

import base64
from typing import Any

from twinstack.api.errors import StatusError, forbidden, go_value
from twinstack.server.admission import Attempt
from twinstack.server.authorization.decisions import MASTERS, Attributes, Authorizer
from twinstack.server.messages import UserInfo

JSON = dict[str, Any]

_GROUP, _PLURAL = "certificates.k8s.io", "certificatesigningrequests"
_CLIENT = "kubernetes.io/kube-apiserver-client"


class CertificateChecks:
    """`admission.Check` of writes to certificate requests."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def __call__(self, attempt: Attempt) -> None:
        row, new, old = attempt.route.resource, attempt.new, attempt.old
        if (row.plural, row.group) != (_PLURAL, _GROUP) or new is None:
            return
        if old is None:
            _check_subject(attempt, new)
            return
        signer = old["spec"].get("signerName", "")
        match attempt.route.subresource:
            case "approval":
                self._check_signer(attempt, "approve", signer)
            case "status" if _signed(new) != _signed(old):
                self._check_signer(attempt, "sign", signer)

    def _check_signer(self, attempt: Attempt, verb: str, signer: str) -> None:
        """Whether the user has a verb on a signer, or on all of its domain."""
        if not any(self._may(attempt.user, verb, name) for name in (signer, f"{signer.partition('/')[0]}/*")):
            raise _refusal(attempt, f"user not permitted to {verb} requests with signerName {go_value(signer)}")

    def _may(self, user: UserInfo, verb: str, name: str) -> bool:
        asked = Attributes(user=user, verb=verb, group=_GROUP, version="*", resource="signers", name=name)
        return self._authorizer.authorize(asked).allowed


def _signed(obj: JSON) -> tuple[object, object]:
    status = obj.get("status") or {}
    return status.get("certificate"), status.get("conditions") or []


def _check_subject(attempt: Attempt, request: JSON) -> None:
    """Nobody becomes a member of system:masters by a certificate of the signer for clients."""
    spec = request.get("spec") or {}
    if spec.get("signerName") != _CLIENT:
        return
    from twinstack.pki.ca import CertificateRequest  # heavy, and requests are rare

    try:
        asked = CertificateRequest(base64.b64decode(spec.get("request") or ""))
    except ValueError as error:
        raise _refusal(attempt, f"unable to parse CSR: {error}") from None
    if MASTERS in asked.organizations:
        raise _refusal(attempt, f"use of {_CLIENT} signer with {MASTERS} group is not allowed")


def _refusal(attempt: Attempt, problem: str) -> StatusError:
    row = attempt.route.resource
    return forbidden(row.plural, attempt.name, problem, row.group)
