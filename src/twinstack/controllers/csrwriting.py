"""How controllers change a certificate request: whole, as their roles allow it, and only the one they have judged."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api.certificates import CertificateSigningRequest
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CERTIFICATE_SIGNING_REQUESTS
from twinstack.client.rest import Client


async def write_status(
    client: Client, request: CertificateSigningRequest, subresource: str, status: dict[str, Any]
) -> None:
    """Put `status` over what stands there; a condition comes to the others. Raises StatusError, for one a 409.

    A request that is gone, or another one of its name, is left alone.
    """
    name = request.metadata.name
    try:
        obj: dict[str, Any] = msgspec.json.decode(
            await client.request("GET", CERTIFICATE_SIGNING_REQUESTS.resource.path("", name))
        )
        if obj["metadata"]["uid"] != request.metadata.uid:
            return
        stored: dict[str, Any] = obj.get("status") or {}
        conditions = [*(stored.get("conditions") or []), *status.get("conditions", [])]
        obj["status"] = stored | status | ({"conditions": conditions} if conditions else {})
        await client.update(CERTIFICATE_SIGNING_REQUESTS, obj, subresource=subresource)
    except StatusError as error:
        if error.code != 404:
            raise
