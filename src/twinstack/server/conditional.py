"""Conditional requests (RFC 9110 section 13.1.2). Pure."""

from __future__ import annotations

from collections.abc import Mapping


def is_known(etag: str, headers: Mapping[str, str]) -> bool:
    """Whether `If-None-Match` says that the client has this version: then 304 is the answer."""
    known = headers.get("if-none-match", "").split(",")
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in known)
