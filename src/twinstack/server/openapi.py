"""The OpenAPI v2 document: the definitions of all kinds, and for each one PATCH operation with `fieldValidation`.

The operation is what `kubectl create`, `apply` and `replace` look for before they leave validation to the server
(kubectl 1.27 to 1.36). They read the document as protobuf (gnostic's `openapi.v2.Document`), others as JSON; both
are made from the same definitions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache

from twinstack.api.resources import RESOURCES, Resource
from twinstack.server.accept import media_types
from twinstack.server.conditional import is_known
from twinstack.server.messages import Request, Response
from twinstack.server.openapi_definitions import definitions, field, messages, text
from twinstack.server.version import GIT_VERSION

_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_PROTOBUF_TYPES = (_PROTOBUF, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
_JSON_TYPES = ("application/json", "*/*", "application/*")
_TITLE = "Kubernetes"
_KIND_EXTENSION = "x-kubernetes-group-version-kind"


def answer(request: Request, resources: Sequence[Resource] = RESOURCES) -> Response:
    """`/openapi/v2` in the first accepted form we have; 406 when there is none."""
    resources = tuple(resources)
    for media in media_types(request.headers.get("accept", "")):
        if media.type in _PROTOBUF_TYPES:
            return _cached(request, *protobuf_document(resources), _PROTOBUF)
        if media.type in _JSON_TYPES:
            return _cached(request, *json_document(resources), "application/json")
    told = f"406: Not Acceptable\n\nAvailable representations: application/json, {_PROTOBUF}"
    return Response(status=406, body=told.encode(), content_type="text/plain; charset=utf-8")


def _cached(request: Request, body: bytes, etag: str, content_type: str) -> Response:
    headers = [("ETag", etag), ("Vary", "Accept")]
    if is_known(etag, request.headers):
        return Response(status=304, headers=headers)
    return Response(status=200, body=body, content_type=content_type, headers=headers)


def _template(resource: Resource) -> str:
    """`/api/v1/namespaces/{namespace}/services/{name}`."""
    return resource.path("{namespace}", "{name}")


@lru_cache(maxsize=1)
def json_document(resources: Sequence[Resource]) -> tuple[bytes, str]:
    """The document as JSON, and its ETag."""
    parameter = {"name": "fieldValidation", "in": "query", "type": "string", "uniqueItems": True}
    paths = {
        _template(resource): {
            "patch": {
                "operationId": f"patch{resource.kind}",
                "parameters": [parameter],
                "responses": {"200": {"description": "OK"}},
                _KIND_EXTENSION: {"group": resource.group, "kind": resource.kind, "version": resource.version},
            }
        }
        for resource in resources
    }
    document = {
        "swagger": "2.0",
        "info": {"title": _TITLE, "version": GIT_VERSION},
        "paths": paths,
        "definitions": definitions(resources),
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    return body, _etag(body)


@lru_cache(maxsize=1)
def protobuf_document(resources: Sequence[Resource]) -> tuple[bytes, str]:
    """The document as protobuf, and its ETag. Numbers are the fields of gnostic's messages."""
    paths = b"".join(
        field(2, text(1, _template(resource)) + field(2, field(8, _patch_operation(resource))))
        for resource in resources
    )
    info = text(1, _TITLE) + text(2, GIT_VERSION)
    body = text(1, "2.0") + field(2, info) + field(8, paths) + field(9, messages(definitions(resources)))
    return body, _etag(body)


def _patch_operation(resource: Resource) -> bytes:
    in_query = text(2, "query") + text(4, "fieldValidation") + text(6, "string")
    parameter = field(1, field(2, field(3, in_query)))  # Parameter.non_body.query
    kind = f'group: "{resource.group}"\nkind: {resource.kind}\nversion: {resource.version}\n'
    extension = text(1, _KIND_EXTENSION) + field(2, text(2, kind))  # Any.yaml
    return text(5, f"patch{resource.kind}") + field(8, parameter) + field(9, b"") + field(13, extension)


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha512(body).hexdigest().upper()}"'
