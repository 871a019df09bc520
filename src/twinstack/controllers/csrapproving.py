"""Approves the client certificates of kubelets, when whoever asks may: `create` on
certificatesigningrequests/nodeclient for a node that is new, …/selfnodeclient for a node that renews its own."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.certificates import APPROVED, DENIED, CertificateSigningRequest
from twinstack.api.kinds import CERTIFICATE_SIGNING_REQUESTS
from twinstack.client.workqueue import NotYet, WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.csrwriting import write_status
from twinstack.controllers.signers import KUBELET_CLIENT, kubelet_client_refusal

_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_MESSAGES = {
    "selfnodeclient": "Auto approving self kubelet client certificate after SubjectAccessReview.",
    "nodeclient": "Auto approving kubelet client certificate after SubjectAccessReview.",
}


class _ReviewStatus(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _ReviewStatus = msgspec.field(default_factory=_ReviewStatus)


class CSRApprovingController:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._requests = context.informers.of(CERTIFICATE_SIGNING_REQUESTS)
        self._queue = WorkQueue("csrapproving")

    async def run(self) -> None:
        await synced(self._requests)
        self._requests.subscribe(self._changed)
        await self._queue.run(self._sync, workers=2)

    def _changed(self, old: CertificateSigningRequest | None, new: CertificateSigningRequest | None) -> None:
        if new is not None and new.spec.signer_name == KUBELET_CLIENT and not new.has(APPROVED, DENIED):
            self._queue.add(new.metadata.name)

    async def _sync(self, name: str) -> None:
        """Raises StatusError; NotYet when nobody has allowed it so far."""
        request = self._requests.objects.get(name)
        if request is None or request.has(APPROVED, DENIED) or request.status.certificate:
            return
        kinds = recognized(request)
        for kind in kinds:
            if await self._may(request, kind):
                await self._approve(request, _MESSAGES[kind])
                return
        if kinds:
            raise NotYet(f"recognized csr {name!r} as {kinds} but subject access review was not approved")

    async def _may(self, request: CertificateSigningRequest, kind: str) -> bool:
        spec = request.spec
        attributes = {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "subresource": kind,
            "verb": "create",
            "version": "*",
        }
        asked: dict[str, Any] = {"user": spec.username, "resourceAttributes": attributes}
        asked |= {"uid": spec.uid, "groups": spec.groups, "extra": spec.extra}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked}
        answer = await self._client.request("POST", _REVIEWS, msgspec.json.encode(body))
        return msgspec.json.decode(answer, type=_Review).status.allowed

    async def _approve(self, request: CertificateSigningRequest, message: str) -> None:
        now = times.now()
        condition = {
            "type": APPROVED,
            "status": "True",
            "reason": "AutoApproved",
            "message": message,
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        }
        await write_status(self._client, request, "approval", {"conditions": [condition]})


def recognized(request: CertificateSigningRequest) -> list[str]:
    """As which kinds of request it may be approved: the names of subresources."""
    from twinstack.pki.ca import CertificateRequest  # heavy, and requests are rare

    try:
        asked = CertificateRequest(base64.b64decode(request.spec.request))
    except ValueError:
        return []
    if kubelet_client_refusal(asked, request.spec.usages):
        return []
    own = request.spec.username == asked.common_name
    return ["selfnodeclient", "nodeclient"] if own else ["nodeclient"]
