"""The parameters of requests, as OpenAPI v3 says them: those that the server reads, by what is asked for."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]


def _query(name: str, kind: str = "string") -> JSON:
    return {"name": name, "in": "query", "schema": {"type": kind}}


def in_path(name: str) -> JSON:
    """A part of the path that stands in braces."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


PRETTY = _query("pretty")
_WRITE = [_query("dryRun"), _query("fieldManager"), _query("fieldValidation")]
_LIST = [
    _query("allowWatchBookmarks", "boolean"),
    _query("continue"),
    _query("fieldSelector"),
    _query("labelSelector"),
    _query("limit", "integer"),
    _query("resourceVersion"),
    _query("resourceVersionMatch"),
    _query("sendInitialEvents", "boolean"),
    _query("timeoutSeconds", "integer"),
    _query("watch", "boolean"),
]
_DELETE = [
    _query("dryRun"),
    _query("gracePeriodSeconds", "integer"),
    _query("orphanDependents", "boolean"),
    _query("propagationPolicy"),
]
BY_VERB: dict[str, list[JSON]] = {
    "list": _LIST,
    "create": _WRITE,
    "get": [],
    "update": _WRITE,
    "patch": [*_WRITE, _query("force", "boolean")],
    "delete": _DELETE,
    # what is to go is chosen as in a list, and none of it is watched
    "deletecollection": [
        *_DELETE,
        *(each for each in _LIST if each["name"] not in ("allowWatchBookmarks", "watch")),
    ],
}

_STREAM = [_query("container"), *(_query(name, "boolean") for name in ("stderr", "stdin", "stdout", "tty"))]
BY_SUBRESOURCE: dict[str, list[JSON]] = {
    "attach": _STREAM,
    "exec": [_query("command"), *_STREAM],
    "log": [
        _query("container"),
        _query("follow", "boolean"),
        _query("limitBytes", "integer"),
        _query("previous", "boolean"),
        _query("sinceSeconds", "integer"),
        _query("tailLines", "integer"),
        _query("timestamps", "boolean"),
    ],
    "portforward": [_query("ports", "integer")],
    "proxy": [_query("path")],
}
