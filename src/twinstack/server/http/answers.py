"""Answers that the engine makes or changes itself."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping

import msgspec

from twinstack.api.errors import StatusError
from twinstack.server.messages import Response

_GZIP_FROM = 128 << 10  # bytes; smaller bodies are not worth the time, as upstream


def failure(error: StatusError) -> Response:
    """A Status object as an answer."""
    headers = [("Retry-After", str(error.retry_after))] if error.retry_after is not None else []
    body = json.dumps(error.status(), ensure_ascii=False, separators=(",", ":")).encode()
    return Response(status=error.code, body=body, headers=headers, warnings=error.warnings)


def has_body(status: int) -> bool:
    """Whether an answer of this status has a body at all (RFC 9110 section 6.4.1)."""
    return status >= 200 and status not in (204, 304)


def wants_gzip(answer: Response, headers: Mapping[str, str]) -> bool:
    """Whether the client asked for gzip, by that word alone as upstream, and the body is long enough."""
    size = len(answer.body) if isinstance(answer.body, bytes) else sum(map(len, answer.body))
    return size > _GZIP_FROM and "gzip" in map(str.strip, headers.get("accept-encoding", "").split(","))


def compressed(answer: Response) -> Response:
    """The same answer with a gzip body."""
    body = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
    return msgspec.structs.replace(
        answer,
        body=gzip.compress(body, compresslevel=1, mtime=0),
        headers=[*answer.headers, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")],
    )
