"""Durations as Go writes and reads them."""

from __future__ import annotations

import pytest

from twinstack.api.times import format_duration, parse_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.02, "20ms"),
        (0.5, "500ms"),
        (1.5, "1.5s"),
        (10, "10s"),
        (60, "1m0s"),
        (80, "1m20s"),
        (300, "5m0s"),
        (3660.25, "1h1m0.25s"),
        (86400, "24h0m0s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == seconds
