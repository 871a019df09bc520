"""The failure of a request, read from the Status object that answers it (meta/v1 Status)."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api.errors import StatusError


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    details: dict[str, Any] | None = None
    code: int = 0


def status_error(code: int, body: bytes) -> StatusError:
    """The error of an answer. A body that is no Status (a proxy's page) becomes the message."""
    try:
        status = msgspec.json.decode(body, type=_Status)
    except msgspec.DecodeError:
        text = body[:200].decode("utf-8", "replace").strip()
        return StatusError(code, "", f"HTTP {code}: {text}" if text else f"HTTP {code}")
    details = dict(status.details or {})
    retry_after = details.pop("retryAfterSeconds", None)
    return StatusError(
        status.code or code,
        status.reason,
        status.message or f"HTTP {code}",
        details=details or None,
        retry_after=retry_after,
    )
