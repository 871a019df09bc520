"""Counts that may be percentages (`25%`): surge, unavailable and available Pods."""

from __future__ import annotations

import re

from twinstack.api.errors import FieldError, invalid
from twinstack.api.validation import non_negative

_percent = re.compile("[0-9]+%").fullmatch
_PERCENT_ERROR = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
)


def amount_errors(value: int | str, field: str) -> list[FieldError]:
    if isinstance(value, int):
        return non_negative(field, value)
    return [] if _percent(value) else [invalid(field, value, _PERCENT_ERROR)]


def amount(value: int | str) -> int:
    """The number, of a percentage too; 0 for a text that is none."""
    if isinstance(value, int):
        return value
    return int(value[:-1]) if _percent(value) else 0


def at_most_all(value: int | str, field: str) -> list[FieldError]:
    """A percentage of no more than the whole."""
    if isinstance(value, str) and amount(value) > 100:
        return [invalid(field, value, "must not be greater than 100%")]
    return []
