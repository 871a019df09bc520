"""PATCH bodies by content type, and the check of what they make. Raises StatusError in the API server's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from twinstack.api import jsontext
from twinstack.api.errors import StatusError, bad_request, invalid, invalid_object, unsupported_media_type
from twinstack.api.gotext import go_print
from twinstack.api.objects import check_object
from twinstack.api.patches.jsonpatch import apply_json_patch
from twinstack.api.patches.merge import apply_merge_patch
from twinstack.api.patches.strategic import apply_strategic_merge
from twinstack.api.resources import Resource
from twinstack.api.schema import TypeMismatch, kind_of

JSON = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_MAX_OPERATIONS = 10_000
_DECODING = "error decoding patch: "
_ANY_MAP = "map[string]interface {}"
_MISMATCH = re.compile(r"json: cannot unmarshal (\w+)(?: \S+)? into Go struct field \S+ of type (.+)")
_GO_KINDS = {"number": "int64", "string": "string", "bool": "bool", "array": "slice", "object": "map"}


def patched(
    document: JSON, body: bytes, content_type: str, resource: Resource, field_validation: str
) -> tuple[JSON, list[str]]:
    """`document`, which is consumed, with the patch applied, and warnings about unknown fields.

    `content_type` has no parameters; the document is an object of `resource`.
    """
    custom = resource.custom is not None
    if content_type == JSON_PATCH:
        result = apply_json_patch(document, _operations(body))
        return _checked(result, None, resource, field_validation, lambda detail: _invalid(_as_json(result), detail))
    if content_type == MERGE_PATCH:
        patch = _decode_map(body, _DECODING)
        merged = apply_merge_patch(document, patch)
        return _checked(merged, document, resource, field_validation, lambda detail: _invalid(_as_json(merged), detail))
    if content_type == STRATEGIC_PATCH and not custom:
        patch = _decode_map(body, "")
        result = apply_strategic_merge(document, patch or {}, resource.schema)
        return _checked(
            result,
            document,
            resource,
            field_validation,
            lambda detail: _invalid(go_print(patch), _converter_words(detail)),
        )
    if custom:
        accepted = ", ".join((JSON_PATCH, MERGE_PATCH, APPLY_PATCH))
        raise unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        )
    raise unsupported_media_type("415: Unsupported Media Type")


def applied_configuration(body: bytes, field_validation: str) -> tuple[JSON, list[str]]:
    """The configuration of an apply, YAML or JSON, and a warning about keys that it sets twice."""
    repeated: list[str] = []
    try:
        value = jsontext.decode(body)
        if jsontext.has_repeated_keys(body, value):
            repeated = _yaml(body)[1]
    except jsontext.JSONSyntaxError:
        value, repeated = _yaml(body)
    if value is not None and not isinstance(value, dict):
        problem = f"json: cannot unmarshal {kind_of(value)} into Go value of type {_ANY_MAP}"
        raise bad_request(f"error decoding YAML: error unmarshaling JSON: while decoding JSON: {problem}")
    if not repeated or field_validation == "Ignore":
        return value or {}, []
    lines = "\n".join(f"  {line}" for line in repeated)
    problem = f"error converting YAML to JSON: yaml: unmarshal errors:\n{lines}"
    if field_validation == "Strict":
        raise bad_request(f"error strict decoding YAML: {problem}")
    return value or {}, [problem]


def _yaml(body: bytes) -> tuple[Any, list[str]]:
    from twinstack.api import yamltext

    try:
        return yamltext.decode(body)
    except yamltext.YAMLSyntaxError as error:
        raise bad_request(f"error decoding YAML: error converting YAML to JSON: {error}") from error


def _checked(
    result: Any,
    stored: JSON | None,
    resource: Resource,
    field_validation: str,
    refusal: Callable[[str], StatusError],
) -> tuple[JSON, list[str]]:
    """`stored`: the object, still unchanged, that `result` may share parts with."""
    if not isinstance(result, dict):
        raise refusal(f"json: cannot unmarshal {kind_of(result)} into Go value of type {_ANY_MAP}")
    try:
        checked, findings = check_object(result, resource, stored)
    except TypeMismatch as error:
        raise refusal(str(error)) from error
    if findings and field_validation == "Strict":
        raise refusal(f"strict decoding error: {', '.join(findings)}")
    return checked, findings if field_validation == "Warn" else []


def _operations(body: bytes) -> Any:
    operations = _decode(body, _DECODING)
    if isinstance(operations, list) and len(operations) > _MAX_OPERATIONS:
        detail = f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(operations)}"
        raise StatusError(413, "RequestEntityTooLarge", f"Request entity too large: {detail}")
    return operations


def _decode_map(body: bytes, prefix: str) -> JSON | None:
    patch = _decode(body, prefix)
    if patch is not None and not isinstance(patch, dict):
        kind = kind_of(patch)
        raise bad_request(f"{prefix}json: cannot unmarshal {kind} into Go value of type {_ANY_MAP}")
    return patch


def _decode(body: bytes, prefix: str) -> Any:
    try:
        return jsontext.decode(body)
    except jsontext.JSONSyntaxError as error:
        raise bad_request(f"{prefix}{error}") from error


def _invalid(value: str, detail: str) -> StatusError:
    return invalid_object("", "", [invalid("patch", value, detail)])


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _converter_words(detail: str) -> str:
    """A mismatch as the API server puts it after a strategic merge, whose result it does not read as JSON."""
    match = _MISMATCH.fullmatch(detail)
    if match is None:
        return detail
    found, wanted = _GO_KINDS[match[1]], match[2]
    if wanted.startswith("map["):
        return f"cannot restore map from {found}"
    if wanted.startswith("[]"):
        return f"cannot restore slice from {found}"
    if "." in wanted:
        return f"cannot restore struct from: {found}"
    if (found, wanted) == ("int64", "string"):
        return "cannot convert int64 to string"
    return f"unrecognized type: {wanted}"
