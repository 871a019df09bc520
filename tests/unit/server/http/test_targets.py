"""Request targets."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode

from hypothesis import given
from hypothesis import strategies as st

from twinstack.server.http.targets import parse_query, parse_target


def test_forms_of_targets() -> None:
    assert parse_target(b"/a/b") == ("/a/b", {})
    assert parse_target(b"/a%2fb?x=1") == ("/a/b", {"x": ["1"]})
    assert parse_target(b"http://host:1/a?x=1") == ("/a", {"x": ["1"]})
    assert parse_target(b"http://host") == ("/", {})
    assert parse_target(b"*") == ("*", {})
    assert parse_target("/ä".encode()) == ("/ä", {})
    assert parse_target(b"/a?") == ("/a", {})


@given(st.lists(st.tuples(st.text(min_size=1), st.text())))
def test_reads_what_urllib_writes(pairs: list[tuple[str, str]]) -> None:
    text = urlencode(pairs)
    assert parse_query(text) == parse_qs(text, keep_blank_values=True)
