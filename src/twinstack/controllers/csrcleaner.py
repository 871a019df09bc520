"""Takes away certificate requests that are settled, or that nobody looks at any more."""

from __future__ import annotations

import base64
import time

from twinstack.api import times
from twinstack.api.certificates import APPROVED, DENIED, FAILED, CertificateSigningRequest
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CERTIFICATE_SIGNING_REQUESTS
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced

SETTLED = 3600.0  # seconds that a signed, denied or failed request stays
PENDING = 24 * 3600.0  # and one that nobody has decided, or signed


class CSRCleanerController:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._requests = context.informers.of(CERTIFICATE_SIGNING_REQUESTS)
        self._queue = WorkQueue("csrcleaner")

    async def run(self) -> None:
        await synced(self._requests)
        self._requests.subscribe(self._changed)
        await self._queue.run(self._sync, workers=1)

    def _changed(self, old: CertificateSigningRequest | None, new: CertificateSigningRequest | None) -> None:
        if new is not None:
            self._queue.add(new.metadata.name, delay=max(end_of(new) - time.time(), 0.0) + 1.0)

    async def _sync(self, name: str) -> None:
        request = self._requests.objects.get(name)
        if request is None:
            return
        left = end_of(request) - time.time()
        if left > 0:
            self._queue.add(name, delay=left + 1.0)
            return
        try:
            await self._client.delete(CERTIFICATE_SIGNING_REQUESTS, name, uid=request.metadata.uid)
        except StatusError as error:
            if error.code not in (404, 409):
                raise


def end_of(request: CertificateSigningRequest) -> float:
    """When a request goes, Unix seconds: some time after its last decision, or when its certificate expires."""
    if not request.has(APPROVED, DENIED, FAILED):
        return times.parse_time(request.metadata.creation_timestamp) + PENDING
    decided = max(
        times.parse_time(condition.last_update_time or request.metadata.creation_timestamp)
        for condition in request.status.conditions
    )
    if request.has(DENIED, FAILED):
        return decided + SETTLED
    if not request.status.certificate:
        return decided + PENDING
    return min(decided + SETTLED, _expiry(request.status.certificate))


def _expiry(certificate: str) -> float:
    from twinstack.pki.ca import not_valid_after  # heavy, and requests are rare

    try:
        return not_valid_after(base64.b64decode(certificate))
    except ValueError:
        return float("inf")
