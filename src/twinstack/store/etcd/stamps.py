"""The resourceVersion in a stored API object. Pure.

etcd says which revision a value has only once it is stored, so the text of an object says "0" there, and readers
put the key's own revision in its place. It is looked for in one place alone: the first field of the metadata.
"""

from __future__ import annotations

import re

_HEAD = re.compile(
    rb'\{"(?:kind|apiVersion)":"[^"\\]*","(?:kind|apiVersion)":"[^"\\]*","metadata":\{"resourceVersion":"'
)
_UNKNOWN = b'0"'


def stamped(value: bytes, revision: int) -> bytes:
    """The value with its revision. What is no API object stays as it is."""
    found = _HEAD.match(value)
    if found is None or not value.startswith(_UNKNOWN, found.end()):
        return value
    at = found.end()
    return b"%b%d%b" % (value[:at], revision, value[at + 1 :])
