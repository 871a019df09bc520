"""Signs approved requests of the built-in signers with the cluster's authority (`--cluster-signing-cert-file`)."""

from __future__ import annotations

import base64
import datetime
import logging
from pathlib import Path

from twinstack.api import times
from twinstack.api.certificates import APPROVED, DENIED, FAILED, CertificateSigningRequest
from twinstack.api.kinds import CERTIFICATE_SIGNING_REQUESTS
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.csrwriting import write_status
from twinstack.controllers.signers import SIGNERS, refusal

log = logging.getLogger(__name__)

_SHORTEST = 600.0  # seconds


class CSRSigningController:
    """`certificate` and `key` are the authority's files, read when a certificate is signed; `longest` in seconds."""

    def __init__(self, context: Context, certificate: Path, key: Path, longest: float) -> None:
        self._client = context.client
        self._requests = context.informers.of(CERTIFICATE_SIGNING_REQUESTS)
        self._certificate = certificate
        self._key = key
        self._longest = longest
        self._queue = WorkQueue("csrsigning")

    async def run(self) -> None:
        await synced(self._requests)
        self._requests.subscribe(self._changed)
        await self._queue.run(self._sync, workers=2)

    def _changed(self, old: CertificateSigningRequest | None, new: CertificateSigningRequest | None) -> None:
        if new is not None and _is_due(new):
            self._queue.add(new.metadata.name)

    async def _sync(self, name: str) -> None:
        request = self._requests.objects.get(name)
        if request is None or not _is_due(request):
            return
        from twinstack.pki.ca import CertificateAuthority, CertificateRequest  # heavy, and requests are rare

        spec = request.spec
        try:
            asked = CertificateRequest(base64.b64decode(spec.request))
            problem = refusal(spec.signer_name, asked, spec.usages)
        except ValueError as error:
            problem = f"unable to parse csr {name!r}: {error}"
        if problem:
            await write_status(self._client, request, "status", {"conditions": [_failed(problem)]})
            return
        authority = CertificateAuthority.load(self._certificate, self._key)
        wanted = self._longest if spec.expiration_seconds is None else float(spec.expiration_seconds)
        seconds = min(max(wanted, _SHORTEST), self._longest)
        pem = authority.sign(asked, spec.usages, datetime.timedelta(seconds=seconds))
        await write_status(self._client, request, "status", {"certificate": base64.b64encode(pem).decode()})
        log.info("signed certificate request %s of %s for %s", name, spec.username, spec.signer_name)


def _is_due(request: CertificateSigningRequest) -> bool:
    return (
        request.spec.signer_name in SIGNERS
        and request.has(APPROVED)
        and not request.has(DENIED, FAILED)
        and not request.status.certificate
    )


def _failed(problem: str) -> dict[str, str]:
    now = times.now()
    return {
        "type": FAILED,
        "status": "True",
        "reason": "SignerValidationFailure",
        "message": problem,
        "lastUpdateTime": now,
        "lastTransitionTime": now,
    }
