"""JSON merge patch (RFC 7386)."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]


def apply_merge_patch(document: Any, patch: Any) -> Any:
    """`document` with `patch` merged in.

    Neither argument is changed; the result may share parts with both. Objects inside lists of the patch lose their
    null fields, as in the API server.
    """
    if not isinstance(patch, dict):
        return _without_nulls(patch)
    result = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = apply_merge_patch(result.get(name), value)
    return result


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
