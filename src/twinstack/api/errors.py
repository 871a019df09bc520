"""Failures in the Kubernetes form: field errors, and the Status object that carries them (meta/v1)."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from twinstack.api.gotext import go_quote

JSON = dict[str, Any]


class ErrorType(enum.StrEnum):
    """`reason` of a Status cause."""

    REQUIRED = "FieldValueRequired"
    INVALID = "FieldValueInvalid"
    NOT_SUPPORTED = "FieldValueNotSupported"
    DUPLICATE = "FieldValueDuplicate"
    FORBIDDEN = "FieldValueForbidden"
    TOO_LONG = "FieldValueTooLong"
    TOO_MANY = "FieldValueTooMany"
    NOT_FOUND = "FieldValueNotFound"
    TYPE_INVALID = "FieldValueTypeInvalid"
    INTERNAL = "InternalError"


class FieldError(NamedTuple):
    """One rule broken by one field. `body` is the message without the path, as a cause carries it."""

    type: ErrorType
    field: str
    body: str

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"


def go_json(value: object) -> str:
    """`value` as Go's encoding/json prints it: compact, `<`, `>` and `&` escaped."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def go_value(value: object) -> str:
    """A bad value as field errors print it: plain strings quoted, everything else as JSON."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value.isprintable() else go_quote(value)
    return go_json(value)


def required(field: str, detail: str = "") -> FieldError:
    return FieldError(ErrorType.REQUIRED, field, f"Required value: {detail}" if detail else "Required value")


def invalid(field: str, value: object, detail: str) -> FieldError:
    return FieldError(ErrorType.INVALID, field, f"Invalid value: {go_value(value)}: {detail}")


def not_supported(field: str, value: object, supported: Sequence[str]) -> FieldError:
    """`supported` is printed in the order given; callers sort where upstream does."""
    names = ", ".join(json.dumps(name) for name in supported)
    return FieldError(
        ErrorType.NOT_SUPPORTED, field, f"Unsupported value: {go_value(value)}: supported values: {names}"
    )


def duplicate(field: str, value: object) -> FieldError:
    return FieldError(ErrorType.DUPLICATE, field, f"Duplicate value: {go_value(value)}")


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError(ErrorType.FORBIDDEN, field, f"Forbidden: {detail}")


def too_long(field: str, limit: int) -> FieldError:
    return FieldError(ErrorType.TOO_LONG, field, f"Too long: may not be more than {limit} bytes")


def too_many(field: str, actual: int, limit: int) -> FieldError:
    return FieldError(ErrorType.TOO_MANY, field, f"Too many: {actual}: must have at most {limit} items")


class StatusError(Exception):
    """A request's failure. `status()` is the body of the answer, `code` its HTTP status."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: JSON | None = None,
        retry_after: int | None = None,
        metadata: JSON | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after = retry_after
        self.metadata = metadata or {}  # ListMeta: a continue token may come with a failure
        self.warnings: list[str] = []  # what was worth a warning before it came to this

    def status(self) -> JSON:
        body: JSON = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        details = dict(self.details or {})
        if self.retry_after is not None:
            details["retryAfterSeconds"] = self.retry_after
        if details:
            body["details"] = details
        body["code"] = self.code
        return body


def qualified(resource: str, group: str) -> str:
    """`services`, `deployments.apps`: how messages name a resource."""
    return f"{resource}.{group}" if group else resource


def _details(name: str, group: str, kind: str, **more: Any) -> JSON:
    details: JSON = {"name": name} if name else {}
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    return details | more


def not_found(resource: str, name: str, group: str = "") -> StatusError:
    """`resource` is the plural."""
    return StatusError(
        404, "NotFound", f'{qualified(resource, group)} "{name}" not found', details=_details(name, group, resource)
    )


def already_exists(resource: str, name: str, group: str = "", prefix: str = "") -> StatusError:
    return StatusError(
        409,
        "AlreadyExists",
        f'{prefix}{qualified(resource, group)} "{name}" already exists',
        details=_details(name, group, resource),
    )


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: str, name: str, cause: str = MODIFIED, group: str = "") -> StatusError:
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {cause}',
        details=_details(name, group, resource),
    )


_MOST_ERRORS = 1000  # shown of one object; a body of some megabytes may have a hundred thousand
_MOST_TEXT = 1 << 20  # characters of them: each may quote a value as long as the body


def invalid_object(kind: str, name: str, errors: Sequence[FieldError], group: str = "") -> StatusError:
    """422. The message drops duplicates and keeps the order; the causes keep every error that anybody reads."""
    shown, room = 0, _MOST_TEXT
    while shown < min(len(errors), _MOST_ERRORS) and room > 0:
        room -= len(errors[shown].body)
        shown += 1
    left, errors = len(errors) - shown, errors[:shown]
    distinct = list(dict.fromkeys(str(error) for error in errors))
    if left > 0:
        distinct.append(f"and {left} more errors")
    text = distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"
    causes = [{"reason": str(e.type), "message": e.body, "field": e.field} for e in errors]
    return StatusError(
        422,
        "Invalid",
        f'{qualified(kind, group)} "{name}" is invalid: {text}',
        details=_details(name, group, kind, causes=causes),
    )


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def forbidden(resource: str, name: str, detail: str, group: str = "") -> StatusError:
    return StatusError(
        403,
        "Forbidden",
        f'{qualified(resource, group)} "{name}" is forbidden: {detail}',
        details=_details(name, group, resource),
    )


def method_not_allowed(verb: str, kind: str) -> StatusError:
    return StatusError(405, "MethodNotAllowed", f'{verb} is not supported on resources of kind "{kind}"')


def internal_error(message: str) -> StatusError:
    return StatusError(
        500,
        "InternalError",
        f"Internal error occurred: {message}",
        details={"causes": [{"message": message}]},
    )


def too_many_requests(message: str, cause: JSON, retry_after: int | None = None) -> StatusError:
    """`retry_after` in seconds; `cause` is a StatusCause."""
    return StatusError(429, "TooManyRequests", message, details={"causes": [cause]}, retry_after=retry_after)


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def timeout(message: str, **details: Any) -> StatusError:
    return StatusError(504, "Timeout", message, details=details or None)


def unsupported_media_type(message: str) -> StatusError:
    return StatusError(415, "UnsupportedMediaType", message)
