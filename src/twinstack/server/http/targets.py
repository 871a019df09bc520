"""Request targets (RFC 9112 section 3.2) to path and query. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus, urlsplit

_broken_escape = re.compile(r"%(?![0-9a-fA-F]{2}).{0,2}", re.DOTALL).search


def parse_target(target: bytes) -> tuple[str, dict[str, list[str]]]:
    """The percent-decoded path and every value of every query parameter.

    Raises ValueError for a path that cannot be decoded; in the query such a text stands for itself.
    """
    text = target.decode("utf-8", "replace")
    if not text.startswith("/") and "://" in text:  # absolute form, as sent to proxies
        parts = urlsplit(text)
        text = f"{parts.path or '/'}?{parts.query}"
    path, _, query = text.partition("?")
    if "%" in path:
        broken = _broken_escape(path)
        if broken is not None:
            raise ValueError(f'invalid URL escape "{broken[0]}"')
        path = unquote(path)
    return path, parse_query(query) if query else {}


def parse_query(query: str) -> dict[str, list[str]]:
    """`a=1&b=&a=2` as `{"a": ["1", "2"], "b": [""]}`; a name without `=` has an empty value."""
    fields: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        if "%" in value or "+" in value:
            value = unquote_plus(value)
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        values = fields.get(name)
        if values is None:
            fields[name] = [value]
        else:
            values.append(value)
    return fields
