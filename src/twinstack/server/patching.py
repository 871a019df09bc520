"""PATCH bodies by content type, and the check of what they make. Raises StatusError in the API server's words."""

from __future__ import annotations

import json
from typing import Any

from twinstack.api import jsontext
from twinstack.api.errors import StatusError, bad_request, invalid, invalid_object, unsupported_media_type
from twinstack.api.patches.jsonpatch import apply_json_patch
from twinstack.api.patches.merge import apply_merge_patch
from twinstack.api.patches.strategic import apply_strategic_merge
from twinstack.api.schema import TypeMismatch, check

JSON = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_MAX_OPERATIONS = 10_000


def patched(
    document: JSON, body: bytes, content_type: str, schema: str, field_validation: str
) -> tuple[JSON, list[str]]:
    """`document`, which is consumed, with the patch applied, and warnings about unknown fields.

    `content_type` has no parameters; `schema` is the document's type in the schema table.
    """
    if content_type == JSON_PATCH:
        result = apply_json_patch(document, _operations(body))
    elif content_type == MERGE_PATCH:
        result = apply_merge_patch(document, _merge_body(body))
    elif content_type == STRATEGIC_PATCH:
        result = apply_strategic_merge(document, _strategic_body(body), schema)
    else:
        raise unsupported_media_type("415: Unsupported Media Type")
    if not isinstance(result, dict):
        raise _invalid_patch(result, f"json: cannot unmarshal {jsontext.kind_of(result)} into Go value")
    try:
        checked, findings = check(result, schema)
    except TypeMismatch as error:
        raise _invalid_patch(result, str(error)) from error
    if findings and field_validation == "Strict":
        raise _invalid_patch(result, f"strict decoding error: {', '.join(findings)}")
    return checked, findings if field_validation == "Warn" else []


def _operations(body: bytes) -> list[Any]:
    operations = _decode(body, "error decoding patch: ")
    if not isinstance(operations, list):
        kind = jsontext.kind_of(operations)
        raise bad_request(f"error decoding patch: json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch")
    if len(operations) > _MAX_OPERATIONS:
        detail = f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(operations)}"
        raise StatusError(413, "RequestEntityTooLarge", f"Request entity too large: {detail}")
    return operations


def _merge_body(body: bytes) -> Any:
    patch = _decode(body, "error decoding patch: ")
    if patch is not None and not isinstance(patch, dict):
        detail = f"json: cannot unmarshal {jsontext.kind_of(patch)} into Go value of type map[string]interface {{}}"
        raise bad_request(f"error decoding patch: {detail}")
    return patch


def _strategic_body(body: bytes) -> JSON:
    patch = _decode(body, "")
    if patch is None:
        return {}
    if not isinstance(patch, dict):
        detail = f"json: cannot unmarshal {jsontext.kind_of(patch)} into Go value of type map[string]interface {{}}"
        raise bad_request(detail)
    return patch


def _decode(body: bytes, prefix: str) -> Any:
    try:
        return jsontext.decode(body)
    except jsontext.JSONSyntaxError as error:
        raise bad_request(f"{prefix}{error}") from error


def _invalid_patch(result: object, detail: str) -> StatusError:
    text = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    return invalid_object("", "", [invalid("patch", text, detail)])
