"""Times, quantities and base64 in their canonical texts."""

from __future__ import annotations

import base64
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api import scalars


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"), ("0m", "0"), ("1", "1"), ("110", "110"), ("1000", "1k"), ("1500", "1500"), ("1000m", "1"),
        ("0.5", "500m"), (".5", "500m"), ("5.", "5"), ("+5", "5"), ("-5m", "-5m"), ("10000k", "10M"), ("1E", "1E"),
        ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("1Ki", "1Ki"), ("0.5Ki", "512"), ("1023", "1023"), ("2048", "2048"),
        ("1e3", "1e3"), ("1000e0", "1e3"), ("12e6", "12e6"), ("1E3", "1e3"), ("0.1n", "1n"),
    ],
)  # fmt: skip
def test_quantities(text: str, canonical: str) -> None:
    assert scalars.canonical_quantity(text) == canonical


@pytest.mark.parametrize("text", ["", "many", "1 Gi", "Gi", "--1", "1.2.3x"])
def test_texts_that_are_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match the regular expression"):
        scalars.canonical_quantity(text)


@pytest.mark.parametrize(("text", "error"), [("1.2.3", "numeric part"), ("1KiB1", "must match"), ("1kk", "suffix")])
def test_malformed_quantities(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        scalars.canonical_quantity(text)


suffixes = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e0", "e3", "e6"])


@given(st.integers(-(10**6), 10**6), suffixes)
def test_canonical_quantities_keep_their_value_and_are_fixed_points(number: int, suffix: str) -> None:
    canonical = scalars.canonical_quantity(f"{number}{suffix}")
    assert scalars.quantity(canonical) == scalars.quantity(f"{number}{suffix}")
    assert scalars.canonical_quantity(canonical) == canonical


def test_quantity_is_exact_and_bounded() -> None:
    assert scalars.quantity("100m") == Decimal("0.1")
    assert scalars.quantity("9" * 30) == 2**63 - 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", 'cannot parse "" as "2006"'),
        ("2024-1-01T00:00:00Z", 'cannot parse "1-01T00:00:00Z" as "01"'),
        ("2024-01-01 00:00:00Z", 'cannot parse " 00:00:00Z" as "T"'),
        ("2024-01-01T00:00:00", 'cannot parse "" as "Z07:00"'),
        ("2024-01-01T00:00:00Zx", 'parsing time "2024-01-01T00:00:00Zx": extra text: "x"'),
        ("2024-13-01T00:00:00Z", "month out of range"),
        ("2023-02-29T00:00:00Z", "day out of range"),
        ("2024-01-01T24:00:00Z", "hour out of range"),
    ],
)
def test_malformed_times(text: str, error: str) -> None:
    with pytest.raises(ValueError, match="parsing time") as caught:
        scalars.canonical_time(text)
    assert str(caught.value).endswith(error)


def test_times_become_utc() -> None:
    assert scalars.canonical_time("2024-01-01T01:30:00+01:30") == "2024-01-01T00:00:00Z"
    assert scalars.canonical_time("2023-12-31T23:00:00.999-01:00") == "2024-01-01T00:00:00Z"
    assert scalars.canonical_micro_time("2024-01-01T00:00:00.000001Z") == "2024-01-01T00:00:00.000001Z"


@given(st.binary(max_size=40), st.integers(0, 60))
def test_base64_round_trip_with_line_breaks(data: bytes, cut: int) -> None:
    text = base64.b64encode(data).decode()
    assert scalars.canonical_base64(text[:cut] + "\r\n" + text[cut:]) == text


@pytest.mark.parametrize(
    ("text", "offset"), [("not base64!", 3), ("YQ", 0), ("YQ=", 3), ("YQ=a", 2), ("YQ==a", 4), ("=", 0), ("YWJjZ", 4)]
)
def test_malformed_base64(text: str, offset: int) -> None:
    with pytest.raises(ValueError, match=f"illegal base64 data at input byte {offset}$"):
        scalars.canonical_base64(text)
