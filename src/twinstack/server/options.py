"""The options of requests (meta/v1 CreateOptions, UpdateOptions, PatchOptions, DeleteOptions, ListOptions)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from twinstack.api.errors import (
    FieldError,
    StatusError,
    bad_request,
    forbidden_field,
    invalid,
    invalid_object,
    not_supported,
    required,
    too_long,
)
from twinstack.server.messages import Request

JSON = dict[str, Any]

_META_GROUP = "meta.k8s.io"
_FIELD_VALIDATION = ("", "Ignore", "Strict", "Warn")
_PROPAGATION = ("Foreground", "Background", "Orphan", "nil")
_MANAGER_LENGTH = 128
_MAX_INT64 = (1 << 63) - 1
_MAX_UINT64 = (1 << 64) - 1
_LONGEST_NUMBER = 1000  # digits, leading zeros included, that are worth reading


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of create, update and patch."""

    dry_run: bool = False
    field_manager: str = ""  # who writes, by the request or its User-Agent; nothing for the server's own writes
    field_validation: str = "Warn"
    force: bool = False  # of an apply


class DeleteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """meta/v1 DeleteOptions."""

    grace_period: int | None = None  # seconds
    uid: str = ""
    resource_version: str = ""
    propagation: str = ""  # Foreground, Background, Orphan or nothing said
    orphan: bool | None = None  # the older spelling of propagation
    dry_run: bool = False


class ListOptions(msgspec.Struct, frozen=True, kw_only=True):
    """meta/v1 ListOptions; `resource_version` None means not given."""

    label_selector: str = ""
    field_selector: str = ""
    resource_version: int | None = None
    match: str = ""  # resourceVersionMatch
    limit: int = 0
    continue_token: str = ""
    timeout: int | None = None  # seconds
    bookmarks: bool = False
    initial_events: bool | None = None  # sendInitialEvents


def write_options(request: Request, kind: str, *, apply: bool = False) -> WriteOptions:
    """From the query. `kind` is CreateOptions, UpdateOptions or PatchOptions. Raises StatusError 422.

    `apply`: the patch is an applied configuration.
    """
    dry_run = request.query.get("dryRun", [])
    manager = request.parameter("fieldManager")
    validation = request.parameter("fieldValidation")
    errors = _dry_run_errors(dry_run)
    if apply and not manager:
        errors.append(required("fieldManager", "is required for apply patch"))
    if not apply and kind == "PatchOptions" and request.parameter("force"):
        errors.append(forbidden_field("force", "may not be specified for non-apply patch"))
    errors += _manager_errors(manager)
    if validation not in _FIELD_VALIDATION:
        errors.append(not_supported("fieldValidation", validation, _FIELD_VALIDATION))
    _raise(kind, errors)
    return WriteOptions(
        dry_run=bool(dry_run),
        field_manager=manager or _manager_of_agent(request.headers.get("user-agent", "")),
        field_validation=validation or "Warn",
        force=apply and boolean(request.parameter("force")),
    )


def _manager_of_agent(agent: str) -> str:
    """The field manager of requests that name none: the User-Agent up to its first `/`."""
    name = "".join(filter(str.isprintable, agent.partition("/")[0])).encode()[:_MANAGER_LENGTH]
    return name.decode(errors="ignore") or "unknown"


def delete_options(body: JSON | None, request_query: dict[str, list[str]]) -> DeleteOptions:
    """From the decoded body, or without one from the query. Raises StatusError 400, 422."""
    fields = _delete_query(request_query) if body is None else body
    preconditions = fields.get("preconditions") or {}
    propagation = fields.get("propagationPolicy")
    orphan = fields.get("orphanDependents")
    dry_run = fields.get("dryRun") or []
    errors: list[FieldError] = []
    if propagation is not None and orphan is not None:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        errors.append(invalid("propagationPolicy", propagation, detail))
    if propagation is not None and propagation not in _PROPAGATION[:3]:
        errors.append(not_supported("propagationPolicy", propagation, _PROPAGATION))
    errors += _dry_run_errors(dry_run)
    _raise("DeleteOptions", errors)
    return DeleteOptions(
        grace_period=fields.get("gracePeriodSeconds"),
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        propagation=propagation or "",
        orphan=orphan,
        dry_run=bool(dry_run),
    )


def _delete_query(query: dict[str, list[str]]) -> JSON:
    fields: JSON = {}
    if "gracePeriodSeconds" in query:
        fields["gracePeriodSeconds"] = integer(query["gracePeriodSeconds"][0])
    if "orphanDependents" in query:
        fields["orphanDependents"] = boolean(query["orphanDependents"][0])
    if "propagationPolicy" in query:
        fields["propagationPolicy"] = query["propagationPolicy"][0]
    if "dryRun" in query:
        fields["dryRun"] = query["dryRun"]
    return fields


def list_options(request: Request, *, watch: bool) -> ListOptions:
    """From the query. Raises StatusError 400, 422."""
    text = request.parameter("resourceVersion")
    match = request.parameter("resourceVersionMatch")
    token = request.parameter("continue")
    initial = request.query.get("sendInitialEvents")
    timeout = request.parameter("timeoutSeconds")
    options = ListOptions(
        label_selector=request.parameter("labelSelector"),
        field_selector=request.parameter("fieldSelector"),
        match=match,
        limit=integer(request.parameter("limit") or "0"),
        continue_token=token,
        timeout=integer(timeout) if timeout else None,
        bookmarks=boolean(request.parameter("allowWatchBookmarks")),
        initial_events=None if initial is None else boolean(initial[0]),
    )
    _raise("ListOptions", _list_errors(options, text, watch=watch))
    return msgspec.structs.replace(options, resource_version=resource_version(text, listing=not watch))


def _list_errors(options: ListOptions, version: str, *, watch: bool) -> list[FieldError]:
    """The combinations of ListOptions that mean nothing (KEP-2340, KEP-3157)."""
    match, initial = options.match, options.initial_events is not None
    errors: list[FieldError] = []
    if watch:
        if match and not initial:
            detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(forbidden_field("resourceVersionMatch", detail))
        if initial and match != "NotOlderThan":
            detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            errors.append(forbidden_field("resourceVersionMatch", detail))
        if match and match != "NotOlderThan":
            errors.append(not_supported("resourceVersionMatch", match, ["NotOlderThan"]))
        if options.continue_token:
            errors.append(forbidden_field("continue", "continue is forbidden for watch"))
        return errors
    if match:
        if not version:
            detail = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            errors.append(forbidden_field("resourceVersionMatch", detail))
        if options.continue_token:
            detail = "resourceVersionMatch is forbidden when continue is provided"
            errors.append(forbidden_field("resourceVersionMatch", detail))
        if match not in ("NotOlderThan", "Exact"):
            errors.append(not_supported("resourceVersionMatch", match, ["Exact", "NotOlderThan", ""]))
        if match == "Exact" and version == "0":
            detail = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            errors.append(forbidden_field("resourceVersionMatch", detail))
    if initial:
        errors.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return errors


def resource_version(text: str, *, listing: bool) -> int | None:
    """A resourceVersion parameter. Raises StatusError: 400 when listing, else a 500 without reason, as upstream."""
    if not text:
        return None
    problem = _unsigned_problem(text)
    if problem:
        message = f'resourceVersion: Invalid value: "{text}": {problem}'
        raise bad_request(f"invalid resource version: {message}") if listing else StatusError(500, "", message)
    return int(text)


def object_version(text: str) -> int:
    """The resourceVersion in a body, 0 if empty. Raises StatusError 500 without reason, as upstream."""
    if not text:
        return 0
    problem = _unsigned_problem(text)
    if problem:
        raise StatusError(500, "", problem)
    return int(text)


def _unsigned_problem(text: str) -> str:
    if not (text.isascii() and text.isdigit()):
        return f'strconv.ParseUint: parsing "{text}": invalid syntax'
    if len(text) > _LONGEST_NUMBER or int(text) > _MAX_UINT64:
        return f'strconv.ParseUint: parsing "{text}": value out of range'
    return ""


def integer(text: str) -> int:
    """An int64 parameter. Raises StatusError 400."""
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if len(text) > _LONGEST_NUMBER or not -_MAX_INT64 - 1 <= int(text) <= _MAX_INT64:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
    return int(text)


def boolean(text: str) -> bool:
    """A bool parameter: false is nothing, `0` or `false`; everything else is true."""
    return text.lower() not in ("", "0", "false")


def _dry_run_errors(values: Sequence[str]) -> list[FieldError]:
    if all(value == "All" for value in values):
        return []
    return [not_supported("dryRun", list(values), ["All"])]


def _manager_errors(manager: str) -> list[FieldError]:
    if len(manager) > _MANAGER_LENGTH:
        return [too_long("fieldManager", _MANAGER_LENGTH)]
    for i, character in enumerate(manager):
        if not character.isprintable():
            return [invalid("fieldManager", manager, f"invalid character U+{ord(character):04X} (at position {i})")]
    return []


def _raise(kind: str, errors: list[FieldError]) -> None:
    if errors:
        raise invalid_object(kind, "", errors, _META_GROUP)
