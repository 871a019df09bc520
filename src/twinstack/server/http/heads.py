"""Response heads as bytes, with what every answer of an API server carries."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from http import HTTPStatus

from twinstack.server.uuids import random_uuid

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_WARNINGS_LIMIT = 4096  # characters of all warnings of one answer, as upstream
_WARNING_CUT = 256  # length each is cut to beyond that

_date_second = 0
_date_text = ""


def http_date() -> str:
    """Now, as the Date header writes it (RFC 9110 section 5.6.7)."""
    global _date_second, _date_text
    second = int(time.time())
    if second != _date_second:
        _date_second = second
        _date_text = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
    return _date_text


def warning_fields(warnings: Sequence[str]) -> list[str]:
    """Values of `Warning` headers (RFC 7234 section 5.5), one a warning."""
    texts = [_CONTROL.sub(" ", text) for text in dict.fromkeys(warnings)]
    if sum(map(len, texts)) > _WARNINGS_LIMIT:
        texts = [text[:_WARNING_CUT] for text in texts]
    fields, total = [], 0
    for text in texts:
        total += len(text)
        if total > _WARNINGS_LIMIT:
            break
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        fields.append(f'299 - "{escaped}"')
    return fields


def response_head(
    status: int,
    content_type: str,
    headers: Sequence[tuple[str, str]],
    warnings: Sequence[str],
    request_id: str,
    framing: str,
) -> bytes:
    """The head of an answer. `framing` is its last lines: length or transfer coding, and `Connection`.

    An answer without a body needs an empty `content_type`: caches put the headers of a 304 on what they hold.
    """
    lines = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n"
    lines += f"Audit-Id: {request_id or random_uuid()}\r\nDate: {http_date()}\r\n"
    if content_type:
        lines += f"Content-Type: {content_type}\r\n"
    cached = False
    for name, value in headers:
        lines += f"{name}: {value}\r\n"
        cached = cached or name.lower() == "cache-control"
    if not cached:
        lines += "Cache-Control: no-cache, private\r\n"
    if warnings:
        for value in warning_fields(warnings):
            lines += f"Warning: {value}\r\n"
    return f"{lines}{framing}\r\n".encode()
