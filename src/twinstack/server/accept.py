"""The Accept header (RFC 9110 section 12.5.1). Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class MediaType(NamedTuple):
    """One clause: a lower-case type and its parameters without `q`."""

    type: str
    parameters: dict[str, str]


@lru_cache(maxsize=256)
def media_types(header: str) -> tuple[MediaType, ...]:
    """The clauses of a header, best first; a missing header accepts anything. Not to be changed: shared."""
    clauses: list[tuple[float, MediaType]] = []
    for text in header.split(","):
        name, *parts = (part.strip() for part in text.split(";"))
        if not name:
            continue
        parameters = dict(part.partition("=")[::2] for part in parts)
        quality = _quality(parameters.pop("q", "1"))
        if quality > 0:
            clauses.append((quality, MediaType(name.lower(), parameters)))
    clauses.sort(key=lambda clause: -clause[0])
    return tuple(media for _, media in clauses) or (MediaType("*/*", {}),)


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
