"""The requests that a resource answers, as OpenAPI v3 path items. Pure.

`x-kubernetes-action` and `x-kubernetes-group-version-kind` tell clients which operation serves which kind: kubectl
looks for a PATCH that takes `fieldValidation` before it leaves validation to the server, and for the media type of
strategic merge patches before it makes one from the schemas.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from twinstack.api.resource import Resource, Subresource
from twinstack.api.schema_table import type_of_kind
from twinstack.server.openapi_v3 import parameters
from twinstack.server.openapi_v3.schemas import KIND_EXTENSION, PATCH_BODY, reference

JSON = dict[str, Any]

DELETE_OPTIONS = "meta.v1.DeleteOptions"
STATUS = "meta.v1.Status"
PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)

_ANSWER_TYPES = ("application/json", "application/yaml")
_CONNECTED = ("attach", "exec", "portforward", "proxy")  # raw connections, not objects
_TEXT: JSON = {"type": "string"}


class _Verb(NamedTuple):
    """How a verb of the API shows: method, `x-kubernetes-action`, and the first word of the operation's id."""

    method: str
    action: str
    word: str


_COLLECTION = {
    "list": _Verb("get", "list", "list"),
    "create": _Verb("post", "post", "create"),
    "deletecollection": _Verb("delete", "deletecollection", "deleteCollection"),
}
_OBJECT = {
    "get": _Verb("get", "get", "read"),
    "update": _Verb("put", "put", "replace"),
    "patch": _Verb("patch", "patch", "patch"),
    "delete": _Verb("delete", "delete", "delete"),
}
_SUBRESOURCE = _OBJECT | {"create": _COLLECTION["create"]}


class _Subject(NamedTuple):
    """What the operations of one path are about: the kind, its type (empty for raw connections), and a name."""

    group: str
    version: str
    kind: str
    type_name: str
    resource: Resource
    title: str


def roots(resource: Resource) -> list[str]:
    """The types that requests on a resource carry, both ways."""
    names = [resource.schema]
    if resource.custom is not None:
        names += ["meta.v1.ObjectMeta", "meta.v1.ListMeta"]
    if "list" in resource.verbs:
        names.append(f"{resource.schema}List")
    found = (_of_subresource(resource, each).type_name for each in resource.subresources)
    return [*names, *(name for name in found if name), DELETE_OPTIONS, STATUS]


def path_items(resource: Resource) -> dict[str, JSON]:
    """Every path of a resource, with its operations."""
    scope = "Namespaced" if resource.namespaced else ""
    subject = _subject(resource, f"{scope}{resource.kind}")
    items: dict[str, JSON] = {}
    if resource.namespaced and "list" in resource.verbs:
        everywhere = subject._replace(title=f"{resource.kind}ForAllNamespaces")
        items[resource.path()] = _item(resource.path(), {"get": _operation("list", _COLLECTION["list"], everywhere)})
    for path, verbs in (
        (resource.path("{namespace}"), _COLLECTION),
        (resource.path("{namespace}", "{name}"), _OBJECT),
    ):
        operations = {
            verb.method: _operation(name, verb, subject) for name, verb in verbs.items() if name in resource.verbs
        }
        if operations:
            items[path] = _item(path, operations)
    for subresource in resource.subresources:
        items |= _subresource_items(resource, subresource)
    return items


def _subject(resource: Resource, title: str) -> _Subject:
    return _Subject(resource.group, resource.version, resource.kind, resource.schema, resource, title)


def _of_subresource(resource: Resource, subresource: Subresource) -> _Subject:
    scope = "Namespaced" if resource.namespaced else ""
    subject = _subject(resource, f"{scope}{resource.kind}{subresource.name.capitalize()}")
    if subresource.version:
        subject = subject._replace(group=subresource.group, version=subresource.version)
    if subresource.kind:
        api_version = f"{subject.group}/{subject.version}" if subject.group else subject.version
        type_name = "" if subresource.name in _CONNECTED else type_of_kind(api_version, subresource.kind) or ""
        subject = subject._replace(kind=subresource.kind, type_name=type_name)
    return subject


def _subresource_items(resource: Resource, subresource: Subresource) -> dict[str, JSON]:
    subject = _of_subresource(resource, subresource)
    path = resource.path("{namespace}", "{name}", subresource.name)
    if subresource.name not in _CONNECTED:
        operations = {
            verb.method: _operation(name, verb, subject)
            for name, verb in _SUBRESOURCE.items()
            if name in subresource.verbs
        }
        if subresource.name == "log":
            log = operations["get"]
            log["parameters"] = parameters.BY_SUBRESOURCE["log"]
            log["responses"] = _responses({"text/plain": {"schema": _TEXT}})
        return {path: _item(path, operations)}
    methods = [_SUBRESOURCE[name].method for name in subresource.verbs]
    items = {path: _item(path, {method: _connection(method, subject, subresource.name) for method in methods})}
    if subresource.name == "proxy":
        deeper = subject._replace(title=f"{subject.title}WithPath")
        operations = {method: _connection(method, deeper, subresource.name) for method in methods}
        items[f"{path}/{{path}}"] = _item(f"{path}/{{path}}", operations)
    return items


def _item(path: str, operations: dict[str, JSON]) -> JSON:
    """Operations with the parameters that all of them share."""
    shared = [parameters.in_path(name) for name in ("name", "namespace", "path") if f"{{{name}}}" in path]
    return operations | {"parameters": [*shared, parameters.PRETTY]}


def _operation(name: str, verb: _Verb, subject: _Subject) -> JSON:
    operation: JSON = {
        "tags": [_tag(subject.resource)],
        "operationId": f"{verb.word}{_group_title(subject.resource)}{subject.title}",
    }
    wanted = parameters.BY_VERB[name]
    if wanted:
        operation["parameters"] = wanted
    body = _body(name, subject)
    if body:
        operation["requestBody"] = body
    answer = subject.type_name
    if name == "list":
        answer += "List"
    elif name == "deletecollection" or (name == "delete" and not subject.resource.returns_deleted):
        answer = STATUS
    types = (*_ANSWER_TYPES, "application/json;stream=watch") if name == "list" else _ANSWER_TYPES
    content = {media: {"schema": reference(answer)} for media in types}
    codes = {"create": ("200", "201"), "update": ("200", "201"), "patch": ("200", "201"), "delete": ("200", "202")}
    operation["responses"] = _responses(content, codes.get(name, ("200",)))
    return operation | _about(verb.action, subject)


def _body(name: str, subject: _Subject) -> JSON:
    if name in ("create", "update"):
        return {"content": {"*/*": {"schema": reference(subject.type_name)}}, "required": True}
    if name == "patch":
        types = PATCH_TYPES if subject.resource.custom is None else PATCH_TYPES[:-1]  # nothing to merge by
        return {"content": {media: {"schema": reference(PATCH_BODY)} for media in types}, "required": True}
    if name in ("delete", "deletecollection"):
        return {"content": {"*/*": {"schema": reference(DELETE_OPTIONS)}}}
    return {}


def _connection(method: str, subject: _Subject, subresource: str) -> JSON:
    return {
        "tags": [_tag(subject.resource)],
        "operationId": f"connect{_group_title(subject.resource)}{method.capitalize()}{subject.title}",
        "parameters": parameters.BY_SUBRESOURCE[subresource],
        "responses": _responses({"*/*": {"schema": _TEXT}}),
    } | _about("connect", subject)


_REASONS = {"200": "OK", "201": "Created", "202": "Accepted"}


def _responses(content: JSON, codes: tuple[str, ...] = ("200",)) -> JSON:
    return {code: {"description": _REASONS[code], "content": content} for code in codes}


def _about(action: str, subject: _Subject) -> JSON:
    kind = {"group": subject.group, "kind": subject.kind, "version": subject.version}
    return {"x-kubernetes-action": action, KIND_EXTENSION: kind}


def _group_words(resource: Resource) -> list[str]:
    return (resource.group.removesuffix(".k8s.io") or "core").split(".")


def _group_title(resource: Resource) -> str:
    return "".join(word.capitalize() for word in (*_group_words(resource), resource.version))


def _tag(resource: Resource) -> str:
    """`rbacAuthorization_v1`."""
    first, *others = _group_words(resource)
    return f"{first}{''.join(map(str.capitalize, others))}_{resource.version}"
