"""What a request asks for, whether or not such a resource is served (apiserver's RequestInfo). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from twinstack.api.selectors import exact_fields
from twinstack.api.validation import path_segment
from twinstack.server.authorization.decisions import Attributes
from twinstack.server.messages import Request, UserInfo

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = ("status", "finalize")
_OLD_PREFIXES = ("proxy", "watch")  # `/api/v1/watch/pods`: the verb in front of the resource
_NO_FIELDS: Mapping[str, str] = {}


def attributes_of(request: Request, user: UserInfo) -> Attributes:
    """The question that `request`, asked by `user`, puts to authorizers."""
    parts = request.path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        return _resource_attributes(request, user, "", parts[1], parts[2:])
    if parts[0] == "apis" and len(parts) > 3:
        return _resource_attributes(request, user, parts[1], parts[2], parts[3:])
    return Attributes(user=user, verb=request.method.lower(), resource_request=False, path=request.path)


def _resource_attributes(request: Request, user: UserInfo, group: str, version: str, parts: list[str]) -> Attributes:
    verb = _VERBS.get(request.method, "")
    old = parts[0] if parts[0] in _OLD_PREFIXES else ""
    if old:
        verb, parts = old, parts[1:]
    namespace = ""
    if len(parts) > 1 and parts[0] == "namespaces":
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    resource = parts[0] if parts else ""
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 and old != "proxy" else ""
    fields = _NO_FIELDS
    if not name and verb in ("get", "delete", "watch"):
        fields = exact_fields(request.parameter("fieldSelector"))
        if verb == "get":
            wanted = fields.get("metadata.name", "")
            name = wanted if wanted and not path_segment(wanted) else ""
            verb = "watch" if _is_true(request.parameter("watch", "0")) else "list"
        elif verb == "delete":
            verb = "deletecollection"
    return Attributes(
        user=user,
        verb=verb,
        group=group,
        version=version,
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name=name,
        path=request.path,
        fields=fields,
    )


def _is_true(text: str) -> bool:
    return text.lower() not in ("0", "false")
