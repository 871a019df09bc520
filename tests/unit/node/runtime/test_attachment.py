"""The line that had been begun when somebody attached: what of a log's end was heard as well."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.node.runtime.attachment import begun


@pytest.mark.parametrize(
    ("said", "heard", "least", "line"),
    [
        (b"one\n$ ", b"", 0, b"$ "),
        (b"one\n", b"", 0, b""),
        (b"", b"", 0, b""),
        (b"one\n$ two\n", b"two\n", 4, b"$ "),
        (b"one\n$ tw", b"two\n", 0, b"$ "),  # the rest came when the log had been read
        (b"one\n$ ", b"two\n", 0, b"$ "),
        (b"00", b"000001\n", 0, b""),  # it is in the log before it is heard
        (b"000001\n00", b"000001\n000002\n", 0, b""),
        (b"$ ", b"two\n", 1, b""),  # the log was begun anew
    ],
)
def test_what_came_before(said: bytes, heard: bytes, least: int, line: bytes) -> None:
    assert begun(said, heard, least) == line


@given(st.text("ab\n", max_size=50), st.text("xy\n", max_size=300), st.data())
def test_whatever_is_heard_is_heard_once(before: str, after: str, data: st.DataObject) -> None:
    """Unless the log ends as what comes begins, which may be taken for the same."""
    after = f"x{after}"
    read = data.draw(st.integers(0, len(after)))
    least = data.draw(st.integers(0, read))
    line = begun((before + after[:read]).encode(), after.encode(), least)
    assert line == before.rpartition("\n")[2].encode()
