"""Request options read from queries, and refused in the server's words."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.server.messages import Request, UserInfo
from twinstack.server.options import (
    DeleteOptions,
    ListOptions,
    WriteOptions,
    delete_options,
    list_options,
    object_version,
    write_options,
)


def request(**query: str | list[str]) -> Request:
    values = {name: value if isinstance(value, list) else [value] for name, value in query.items()}
    return Request("GET", "/", values, {}, b"", UserInfo("u"))


def refusal(function: Any, *arguments: Any, **more: Any) -> tuple[int, str, str]:
    with pytest.raises(StatusError) as caught:
        function(*arguments, **more)
    return caught.value.code, caught.value.reason, caught.value.message


def test_write_options() -> None:
    assert write_options(request(), "CreateOptions") == WriteOptions(field_manager="unknown")
    wanted = request(dryRun="All", fieldManager="kubectl", fieldValidation="Strict")
    assert write_options(wanted, "PatchOptions") == WriteOptions(
        dry_run=True, field_manager="kubectl", field_validation="Strict"
    )


def test_the_manager_is_named_by_the_query_or_the_user_agent() -> None:
    def manager(agent: str, **query: str) -> str:
        asked = request(**query)
        asked.headers["user-agent"] = agent
        return write_options(asked, "UpdateOptions").field_manager

    assert manager("kubectl/v1.36.2 (linux/amd64)") == "kubectl"
    assert manager("kubectl/v1.36.2", fieldManager="me") == "me"
    assert manager("a\x00b\x7f/1") == "ab"
    assert manager("é" * 100) == "é" * 64
    assert manager("/1") == manager("") == "unknown"


def test_an_apply_needs_a_manager_and_may_force() -> None:
    needed = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
    assert refusal(write_options, request(), "PatchOptions", apply=True) == (422, "Invalid", needed)
    for text, force in {"true": True, "1": True, "bogus": True, "false": False, "0": False, "": False}.items():
        options = write_options(request(fieldManager="me", force=text), "PatchOptions", apply=True)
        assert options.force is force


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"dryRun": "Bogus"}, 'dryRun: Unsupported value: ["Bogus"]: supported values: "All"'),
        (
            {"fieldValidation": "X"},
            'fieldValidation: Unsupported value: "X": supported values: "", "Ignore", "Strict", "Warn"',
        ),
        ({"fieldManager": "m" * 129}, "fieldManager: Too long: may not be more than 128 bytes"),
        ({"force": "true"}, "force: Forbidden: may not be specified for non-apply patch"),
    ],
)
def test_write_options_refused(query: dict[str, str], detail: str) -> None:
    assert refusal(write_options, request(**query), "PatchOptions") == (
        422,
        "Invalid",
        f'PatchOptions.meta.k8s.io "" is invalid: {detail}',
    )


def test_delete_options_from_body_or_query() -> None:
    body = {
        "gracePeriodSeconds": 5,
        "preconditions": {"uid": "u", "resourceVersion": "7"},
        "propagationPolicy": "Foreground",
        "dryRun": ["All"],
    }
    assert delete_options(body, {"gracePeriodSeconds": ["9"]}) == DeleteOptions(
        grace_period=5, uid="u", resource_version="7", propagation="Foreground", dry_run=True
    )
    query = {"gracePeriodSeconds": ["0"], "orphanDependents": ["true"]}
    assert delete_options(None, query) == DeleteOptions(grace_period=0, orphan=True)
    assert delete_options({}, query) == DeleteOptions()


def test_delete_options_refused() -> None:
    assert refusal(delete_options, {"propagationPolicy": "Bogus"}, {})[2] == (
        'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Bogus": supported values: '
        '"Foreground", "Background", "Orphan", "nil"'
    )
    assert refusal(delete_options, {"propagationPolicy": "Orphan", "orphanDependents": True}, {})[2] == (
        'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "Orphan": orphanDependents and '
        "deletionPropagation cannot be both set"
    )


def test_list_options() -> None:
    wanted = request(
        labelSelector="a=b",
        fieldSelector="metadata.name=x",
        limit="5",
        resourceVersion="12",
        timeoutSeconds="30",
        allowWatchBookmarks="true",
    )
    assert list_options(wanted, watch=False) == ListOptions(
        label_selector="a=b",
        field_selector="metadata.name=x",
        limit=5,
        resource_version=12,
        timeout=30,
        bookmarks=True,
    )
    initial = request(sendInitialEvents="true", resourceVersionMatch="NotOlderThan")
    assert list_options(initial, watch=True).initial_events is True


@pytest.mark.parametrize(
    ("query", "watch", "details"),
    [
        (
            {"resourceVersionMatch": "Exact"},
            False,
            ["resourceVersionMatch is forbidden unless resourceVersion is provided"],
        ),
        (
            {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
            False,
            ['resourceVersionMatch "exact" is forbidden for resourceVersion "0"'],
        ),
        ({"sendInitialEvents": "false"}, False, ["sendInitialEvents is forbidden for list"]),
        (
            {"sendInitialEvents": "true"},
            True,
            ["sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"],
        ),
        (
            {"resourceVersionMatch": "NotOlderThan"},
            True,
            ["resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"],
        ),
        (
            {"sendInitialEvents": "true", "resourceVersionMatch": "Exact"},
            True,
            ["sendInitialEvents requires", 'Unsupported value: "Exact": supported values: "NotOlderThan"'],
        ),
        (
            {"continue": "x", "resourceVersionMatch": "Exact", "resourceVersion": "3"},
            False,
            ["resourceVersionMatch is forbidden when continue is provided"],
        ),
    ],
)
def test_list_options_refused(query: dict[str, str], watch: bool, details: list[str]) -> None:
    code, reason, message = refusal(list_options, request(**query), watch=watch)
    assert (code, reason) == (422, "Invalid")
    assert all(detail in message for detail in details)


def test_versions_that_are_no_numbers() -> None:
    bad = 'strconv.ParseUint: parsing "abc": invalid syntax'
    invalid = f'resourceVersion: Invalid value: "abc": {bad}'
    assert refusal(list_options, request(resourceVersion="abc"), watch=False) == (
        400,
        "BadRequest",
        f"invalid resource version: {invalid}",
    )
    assert refusal(list_options, request(resourceVersion="abc"), watch=True) == (500, "", invalid)
    assert refusal(object_version, "abc") == (500, "", bad)
    large = "9" * 20
    assert refusal(object_version, large)[2] == f'strconv.ParseUint: parsing "{large}": value out of range'
    assert refusal(list_options, request(limit="1.5"), watch=False) == (
        400,
        "BadRequest",
        'strconv.ParseInt: parsing "1.5": invalid syntax',
    )
