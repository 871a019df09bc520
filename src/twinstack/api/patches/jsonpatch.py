"""JSON patch (RFC 6902), as lenient as the API server's library.

`replace` and `copy` take what is missing in an object for null, indices may have leading zeros or count from the end,
and a path needs no leading slash. Everything that fails is one and the same 422.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from twinstack.api import nesting
from twinstack.api.errors import StatusError, bad_request
from twinstack.api.schema import kind_of

JSON = dict[str, Any]
Container = dict[str, Any] | list[Any]

_TEXTS = ("op", "path", "from")
_MOST_COPIED = 3 << 20  # bytes of JSON that all copies of one patch may add


class _Failed(Exception):
    """An operation that does not apply."""


def apply_json_patch(document: JSON, operations: Any) -> Any:
    """`document` after all operations; it is not changed, but the result may share parts with it.

    Raises StatusError: 400 for what is no list of operations, 422 when one does not apply.
    """
    _check_form(operations)
    edited = _Document(document)
    try:
        for operation in operations:
            _OPERATIONS.get(operation.get("op") or "", _unknown)(edited, operation)
        problem = nesting.problem(edited.root)
        if problem:
            raise _Failed(problem)
    except (_Failed, RecursionError) as error:
        text = "the server rejected our request due to an error in our request"
        raise StatusError(422, "Invalid", text) from error
    return edited.root


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


class _Document:
    """The document as far as it is edited. A container is copied before its first change."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._own: dict[int, Container] = {}  # copies that nobody else has, by identity
        self._copied = 0

    def edit(self, path: str, change: Callable[[Container, str], None]) -> None:
        """Change the container that holds what `path` names."""
        keys = _keys(path)
        at = self.root = self._owned(self.root, path)
        for key in keys[:-1]:
            below = self._owned(_child(at, key), path)
            if isinstance(at, dict):
                at[key] = below
            else:
                at[_index(key, len(at))] = below
            at = below
        change(at, keys[-1])

    def _owned(self, container: Any, path: str) -> Container:
        if not isinstance(container, dict | list):
            raise _Failed(f"missing path: {path}")
        if id(container) in self._own:
            return container
        copy = container.copy()
        self._own[id(copy)] = copy
        return copy

    def share(self, value: Any) -> None:
        """`value` will have a second place. Raises _Failed when what has been copied so far is too much."""
        self._own.clear()
        self._copied += len(json.dumps(value))
        if self._copied > _MOST_COPIED:
            raise _Failed("the accumulated size of copies is too large")


def _unknown(_document: _Document, operation: JSON) -> None:
    raise _Failed(f"unexpected kind: {operation.get('op')}")


def _add(document: _Document, operation: JSON) -> None:
    document.edit(_path(operation, "path"), lambda at, key: _insert(at, key, operation.get("value")))


def _remove(document: _Document, operation: JSON) -> None:
    document.edit(_path(operation, "path"), _delete)


def _replace(document: _Document, operation: JSON) -> None:
    value, path = operation.get("value"), _path(operation, "path")
    if not path:
        if not isinstance(value, dict | list):
            raise _Failed("a whole document is an object or a list")
        document.root = value
        return

    def put(at: Container, key: str) -> None:
        if isinstance(at, dict):
            at[key] = value
        else:
            at[_index(key, len(at))] = value

    document.edit(path, put)


def _move(document: _Document, operation: JSON) -> None:
    source = _path(operation, "from")
    value = _get(document.root, source)
    document.edit(source, _delete)
    document.edit(_path(operation, "path"), lambda at, key: _insert(at, key, value))


def _copy(document: _Document, operation: JSON) -> None:
    value = _get(document.root, _path(operation, "from"))
    document.share(value)
    document.edit(_path(operation, "path"), lambda at, key: _insert(at, key, value))


def _test(document: _Document, operation: JSON) -> None:
    path = _path(operation, "path")
    found = _get(document.root, path) if path else document.root
    if not _equal(found, operation.get("value")):
        raise _Failed(f"testing value {path} failed")


_OPERATIONS: dict[str, Callable[[_Document, JSON], None]] = {
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
    if not re.fullmatch(r"[-+]?[0-9]{1,20}", key, re.ASCII):
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
