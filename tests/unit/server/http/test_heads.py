"""Response heads."""

from __future__ import annotations

import email.utils
import time

from hypothesis import given
from hypothesis import strategies as st

from twinstack.server.http.heads import http_date, response_head, warning_fields


def head(status: int = 200, **more: object) -> list[str]:
    arguments: dict[str, object] = {
        "content_type": "application/json",
        "headers": [],
        "warnings": [],
        "request_id": "id",
        "framing": "Content-Length: 0\r\n",
    }
    text = response_head(status, **(arguments | more)).decode()  # type: ignore[arg-type]
    assert text.endswith("\r\n\r\n")
    return text.removesuffix("\r\n\r\n").split("\r\n")


def test_what_every_head_has() -> None:
    lines = head()
    assert lines[0] == "HTTP/1.1 200 OK"
    names = [line.split(": ")[0] for line in lines[1:]]
    assert names == ["Audit-Id", "Date", "Content-Type", "Cache-Control", "Content-Length"]
    assert head(599)[0].startswith("HTTP/1.1 599 ")


def test_a_handler_may_say_how_to_cache() -> None:
    assert "Cache-Control: no-cache, private" not in head(headers=[("Cache-Control", "public")])


def test_the_date_is_now() -> None:
    parsed = email.utils.parsedate_to_datetime(http_date()).timestamp()
    assert abs(parsed - time.time()) < 2


def test_warnings_are_quoted_said_once_and_bounded() -> None:
    assert warning_fields(['a "b" \\ c', 'a "b" \\ c', "two\nlines"]) == [
        '299 - "a \\"b\\" \\\\ c"',
        '299 - "two lines"',
    ]
    many = warning_fields([f"{n:04d}" + "x" * 500 for n in range(50)])
    assert len(many) == 16
    assert all(len(field) == len('299 - ""') + 256 for field in many)


@given(st.lists(st.text(max_size=40), max_size=5))
def test_no_warning_breaks_the_head(warnings: list[str]) -> None:
    lines = head(warnings=warnings)
    assert len(lines) == 6 + len(warning_fields(warnings))
