"""If-None-Match."""

from __future__ import annotations

import pytest

from twinstack.server.conditional import is_known

TAG = '"0A1B"'


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (None, False),
        ("", False),
        (TAG, True),
        (f"W/{TAG}", True),
        (f'"other", {TAG}', True),
        (f'W/"other" ,W/{TAG}', True),
        ("*", True),
        ("0A1B", False),
        ('"0a1b"', False),
        ('"other"', False),
    ],
)
def test_what_a_client_knows(header: str | None, known: bool) -> None:
    assert is_known(TAG, {} if header is None else {"if-none-match": header}) is known
