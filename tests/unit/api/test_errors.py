"""How much is told of what is wrong with one object."""

from __future__ import annotations

from twinstack.api.errors import invalid, invalid_object


def test_errors_beyond_what_anybody_reads_are_counted() -> None:
    error = invalid_object("Pod", "a", [invalid(f"spec.a[{n}]", n, "no") for n in range(1500)])
    assert error.details is not None
    assert len(error.details["causes"]) == 1000
    assert error.message.endswith(", and 500 more errors]")


def test_errors_that_quote_long_values_are_bounded_by_their_text() -> None:
    long = ["x" * 100] * 1000
    error = invalid_object("Pod", "a", [invalid("spec.a", long, "no"), *[invalid("spec.b", long, "no")] * 200])
    assert error.details is not None
    assert 5 < len(error.details["causes"]) < 20
    assert "more errors" in error.message
    one = invalid_object("Pod", "a", [invalid("spec.a", "x" * (2 << 20), "no")])
    assert "more errors" not in one.message, "one is always told"
