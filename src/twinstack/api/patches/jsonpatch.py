"""JSON patch (RFC 6902), as lenient as the API server's library.

`replace` and `copy` take what is missing in an object for null, indices may have leading zeros or count from the end,
and a path needs no leading slash. Everything that fails is one and the same 422.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twinstack.api.errors import StatusError, bad_request
from twinstack.api.schema import kind_of

JSON = dict[str, Any]
Container = dict[str, Any] | list[Any]

_TEXTS = ("op", "path", "from")


class _Failed(Exception):
    """An operation that does not apply."""


def apply_json_patch(document: JSON, operations: Any) -> Any:
    """`document` after all operations; it is not changed, but the result may share parts with it.

    Raises StatusError: 400 for what is no list of operations, 422 when one does not apply.
    """
    _check_form(operations)
    root: Any = document
    try:
        for operation in operations:
            root = _OPERATIONS.get(operation.get("op") or "", _unknown)(root, operation)
    except _Failed as error:
        text = "the server rejected our request due to an error in our request"
        raise StatusError(422, "Invalid", text) from error
    return root


def _check_form(operations: Any) -> None:
    prefix = "error decoding patch: json: cannot unmarshal"
    if not isinstance(operations, list):
        raise bad_request(f"{prefix} {kind_of(operations)} into Go value of type []handlers.jsonPatchOp")
    for operation in operations:
        if not isinstance(operation, dict):
            raise bad_request(f"{prefix} {kind_of(operation)} into Go value of type handlers.jsonPatchOp")
        for name in _TEXTS:
            value = operation.get(name)
            if value is not None and not isinstance(value, str):
                raise bad_request(f"{prefix} {kind_of(value)} into Go struct field jsonPatchOp.{name} of type string")


def _unknown(_root: Any, operation: JSON) -> Any:
    raise _Failed(f"unexpected kind: {operation.get('op')}")


def _add(root: Any, operation: JSON) -> Any:
    return _edit(root, _path(operation, "path"), lambda at, key: _insert(at, key, operation.get("value")))


def _remove(root: Any, operation: JSON) -> Any:
    return _edit(root, _path(operation, "path"), _delete)


def _replace(root: Any, operation: JSON) -> Any:
    value, path = operation.get("value"), _path(operation, "path")
    if not path:
        if not isinstance(value, dict | list):
            raise _Failed("a whole document is an object or a list")
        return value

    def put(at: Container, key: str) -> None:
        if isinstance(at, dict):
            at[key] = value
        else:
            at[_index(key, len(at))] = value

    return _edit(root, path, put)


def _move(root: Any, operation: JSON) -> Any:
    source = _path(operation, "from")
    value = _get(root, source)
    root = _edit(root, source, _delete)
    return _edit(root, _path(operation, "path"), lambda at, key: _insert(at, key, value))


def _copy(root: Any, operation: JSON) -> Any:
    value = _get(root, _path(operation, "from"))
    return _edit(root, _path(operation, "path"), lambda at, key: _insert(at, key, value))


def _test(root: Any, operation: JSON) -> Any:
    path = _path(operation, "path")
    found = _get(root, path) if path else root
    if not _equal(found, operation.get("value")):
        raise _Failed(f"testing value {path} failed")
    return root


_OPERATIONS: dict[str, Callable[[Any, JSON], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _path(operation: JSON, name: str) -> str:
    path = operation.get(name)
    if path is None:
        raise _Failed(f"missing {name}")
    return str(path)


def _keys(path: str) -> list[str]:
    """The unescaped parts behind the first slash."""
    parts = path.split("/")[1:]
    if not parts:
        raise _Failed(f"missing path: {path}")
    return [part.replace("~1", "/").replace("~0", "~") for part in parts]


def _child(at: Any, key: str) -> Any:
    """What an object or list holds at `key`; None for a key that an object lacks."""
    if isinstance(at, dict):
        return at.get(key)
    if isinstance(at, list):
        return at[_index(key, len(at))]
    raise _Failed(f"nothing below {key}")


def _get(root: Any, path: str) -> Any:
    for key in _keys(path):
        root = _child(root, key)
    return root


def _edit(root: Any, path: str, change: Callable[[Container, str], None]) -> Any:
    """A copy of `root`, along the path only, whose last container is changed."""
    keys = _keys(path)
    result: Any = root.copy() if isinstance(root, dict | list) else root
    at = result
    for key in keys[:-1]:
        below = _child(at, key)
        if not isinstance(below, dict | list):
            raise _Failed(f"missing path: {path}")
        below = below.copy()
        if isinstance(at, dict):
            at[key] = below
        else:
            at[_index(key, len(at))] = below
        at = below
    if not isinstance(at, dict | list):
        raise _Failed(f"missing path: {path}")
    change(at, keys[-1])
    return result


def _insert(at: Container, key: str, value: Any) -> None:
    if isinstance(at, dict):
        at[key] = value
    else:
        at.insert(len(at) if key == "-" else _index(key, len(at) + 1), value)


def _delete(at: Container, key: str) -> None:
    if isinstance(at, list):
        del at[_index(key, len(at))]
    elif key in at:
        del at[key]
    else:
        raise _Failed(f"unable to remove nonexistent key: {key}")


def _index(key: str, size: int) -> int:
    if not re.fullmatch(r"[-+]?[0-9]+", key, re.ASCII):
        raise _Failed(f"not an index: {key}")
    index = int(key)
    if not -size <= index < size:
        raise _Failed(f"unable to access invalid index: {key}")
    return index + size if index < 0 else index


def _equal(left: Any, right: Any) -> bool:
    """Equality of JSON values: 1, 1.0 and true are three."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return type(left) is type(right) and bool(left == right)
