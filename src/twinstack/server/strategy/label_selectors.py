"""Rules of meta/v1 LabelSelectors inside objects."""

from __future__ import annotations

from typing import Any

from twinstack.api import meta, validation
from twinstack.api.errors import FieldError, forbidden_field, invalid, required
from twinstack.api.selectors import LabelSelector
from twinstack.api.validation import each, label_value, qualified_name

JSON = dict[str, Any]


def selector_errors(selector: JSON, field: str) -> list[FieldError]:
    errors = validation.labels(f"{field}.matchLabels", selector.get("matchLabels") or {})
    for i, wanted in enumerate(selector.get("matchExpressions") or []):
        errors += _requirement_errors(wanted, f"{field}.matchExpressions[{i}]")
    return errors


def _requirement_errors(wanted: JSON, field: str) -> list[FieldError]:
    key, values = wanted.get("key", ""), wanted.get("values") or []
    errors = operator_errors(wanted, field) + each(f"{field}.key", key, qualified_name(key))
    for i, value in enumerate(values):
        errors += each(f"{field}.values[{i}]", value, label_value(value))
    return errors


def operator_errors(wanted: JSON, field: str) -> list[FieldError]:
    """What is wrong with the operator of a requirement, or with how many values it has."""
    operator, values = wanted.get("operator", ""), wanted.get("values") or []
    if operator in ("In", "NotIn"):
        missing = required(f"{field}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        return [] if values else [missing]
    if operator in ("Exists", "DoesNotExist"):
        detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        return [forbidden_field(f"{field}.values", detail)] if values else []
    return [invalid(f"{field}.operator", operator, "not a valid selector operator")]


def read_selector(selector: JSON | None) -> LabelSelector | None:
    """The selector of checked JSON; None when its rules are broken. No selector selects nothing."""
    if selector is None:
        return LabelSelector(nothing=True)
    if selector_errors(selector, ""):
        return None
    expressions = [
        meta.LabelSelectorRequirement(
            key=wanted.get("key", ""), operator=wanted.get("operator", ""), values=wanted.get("values") or []
        )
        for wanted in selector.get("matchExpressions") or []
    ]
    labels = selector.get("matchLabels") or {}
    return LabelSelector.from_object(meta.LabelSelector(match_labels=labels, match_expressions=expressions))
