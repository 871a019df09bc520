"""When a Job has failed or succeeded before all of its Pods have: podFailurePolicy, successPolicy and what goes with
limits per index (batch/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import (
    ErrorType,
    FieldError,
    duplicate,
    invalid,
    not_supported,
    required,
    too_many,
)
from twinstack.api.validation import each, non_negative, qualified_name

JSON = dict[str, Any]

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATUSES = ("False", "True", "Unknown")
_REPLACEMENTS = ("Failed", "TerminatingOrFailed")
_MOST_RULES, _MOST_CODES = 20, 255
_MOST_PARALLEL = 100_000  # of Indexed Jobs
_MANY = 100_000  # completions beyond which a limit per index must be bounded
_MOST_OF_MANY = 10_000
_BOUNDED = "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index"
_NEEDS_INDEXES = "requires indexed completion mode"


def index_errors(spec: JSON, field: str) -> list[FieldError]:
    """Limits per index, and how large a Job with indexes may be."""
    per_index, most = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    errors: list[FieldError] = []
    if spec.get("completionMode") == "Indexed":
        errors += _size_errors(spec, field, per_index, most)
    else:
        for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if name in spec:
                errors.append(invalid(f"{field}.{name}", spec[name], _NEEDS_INDEXES))
    if most is not None and per_index is None:
        errors.append(required(f"{field}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    return errors


def _size_errors(spec: JSON, field: str, per_index: int | None, most: int | None) -> list[FieldError]:
    parallel, completions = spec.get("parallelism", 1), spec.get("completions")
    errors: list[FieldError] = []
    if parallel > _MOST_PARALLEL:
        detail = "must be less than or equal to 100000 when completion mode is Indexed"
        errors.append(invalid(f"{field}.parallelism", parallel, detail))
    if most is not None and completions is not None and most > completions:
        errors.append(invalid(f"{field}.maxFailedIndexes", most, "must be less than or equal to completions"))
    if most is not None and most > _MANY:
        errors.append(invalid(f"{field}.maxFailedIndexes", most, "must be less than or equal to 100000"))
    if per_index is None or completions is None or completions <= _MANY:
        return errors
    if most is None:
        detail = "must be specified when completions is above 100000"
        errors.append(required(f"{field}.maxFailedIndexes", detail))
    elif most > _MOST_OF_MANY:
        errors.append(invalid(f"{field}.maxFailedIndexes", most, _BOUNDED))
    if parallel > _MOST_OF_MANY:
        errors.append(invalid(f"{field}.parallelism", parallel, _BOUNDED))
    return errors


def failure_policy_errors(spec: JSON, field: str) -> list[FieldError]:
    """KEP-3329. `field` is that of the policy."""
    policy = spec.get("podFailurePolicy")
    if policy is None:
        return []
    rules = policy.get("rules") or []
    errors = [too_many(f"{field}.rules", len(rules), _MOST_RULES)] if len(rules) > _MOST_RULES else []
    pod = spec["template"]["spec"]
    names = {entry.get("name") for kind in ("containers", "initContainers") for entry in pod.get(kind) or []}
    for position, rule in enumerate(rules):
        errors += _rule_errors(rule, f"{field}.rules[{position}]", names, by_index="backoffLimitPerIndex" in spec)
    return errors


def _rule_errors(rule: JSON, field: str, names: set[Any], *, by_index: bool) -> list[FieldError]:
    action, codes, conditions = rule.get("action", ""), rule.get("onExitCodes"), rule.get("onPodConditions") or []
    errors: list[FieldError] = []
    if not action:
        errors.append(required(f"{field}.action", _choice(_ACTIONS)))
    elif action not in _ACTIONS:
        errors.append(not_supported(f"{field}.action", action, _ACTIONS))
    elif action == "FailIndex" and not by_index:
        errors.append(invalid(f"{field}.action", action, "requires the backoffLimitPerIndex to be set"))
    if codes is not None:
        errors += _code_errors(codes, f"{field}.onExitCodes", names)
    if len(conditions) > _MOST_RULES:
        errors.append(too_many(f"{field}.onPodConditions", len(conditions), _MOST_RULES))
    for position, pattern in enumerate(conditions):
        errors += _condition_errors(pattern, f"{field}.onPodConditions[{position}]")
    if codes is not None and conditions:
        detail = "specifying both OnExitCodes and OnPodConditions is not supported"
        errors.append(FieldError(ErrorType.INVALID, field, f"Invalid value: {detail}"))
    if codes is None and not conditions:
        detail = "specifying one of OnExitCodes and OnPodConditions is required"
        errors.append(FieldError(ErrorType.INVALID, field, f"Invalid value: {detail}"))
    return errors


def _choice(names: Sequence[str]) -> str:
    quoted = " ".join(f'"{name}"' for name in names)
    return f"valid values: [{quoted}]"


def _code_errors(codes: JSON, field: str, names: set[Any]) -> list[FieldError]:
    operator, values = codes.get("operator", ""), codes.get("values") or []
    errors: list[FieldError] = []
    if not operator:
        errors.append(required(f"{field}.operator", _choice(_OPERATORS)))
    elif operator not in _OPERATORS:
        errors.append(not_supported(f"{field}.operator", operator, _OPERATORS))
    name = codes.get("containerName")
    if name is not None and name not in names:
        detail = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid(f"{field}.containerName", name, detail))
    if not values:
        errors.append(invalid(f"{field}.values", values, "at least one value is required"))
    elif len(values) > _MOST_CODES:
        errors.append(too_many(f"{field}.values", len(values), _MOST_CODES))
    ordered, seen = True, set[int]()
    for position, value in enumerate(values):
        at = f"{field}.values[{position}]"
        if operator == "In" and value == 0:
            errors.append(invalid(at, value, "must not be 0 for the In operator"))
        if value in seen:
            errors.append(duplicate(at, value))
        elif position and value < values[position - 1]:
            ordered = False
        seen.add(value)
    return errors if ordered else [*errors, invalid(f"{field}.values", values, "must be ordered")]


def _condition_errors(pattern: JSON, field: str) -> list[FieldError]:
    status = pattern.get("status", "")
    errors = each(f"{field}.type", pattern.get("type", ""), qualified_name(pattern.get("type", "")))
    if status not in _STATUSES:
        errors.append(not_supported(f"{field}.status", status, _STATUSES))
    return errors


def success_policy_errors(spec: JSON, field: str) -> list[FieldError]:
    """KEP-3998. `field` is that of the policy."""
    policy = spec.get("successPolicy")
    if policy is None:
        return []
    if spec.get("completionMode") != "Indexed":
        return [invalid(field, policy, _NEEDS_INDEXES)]
    rules = policy.get("rules") or []
    if not rules:
        return [required(f"{field}.rules", "at least one rules must be specified when the successPolicy is specified")]
    errors = [too_many(f"{field}.rules", len(rules), _MOST_RULES)] if len(rules) > _MOST_RULES else []
    for position, rule in enumerate(rules):
        errors += _success_rule_errors(rule, f"{field}.rules[{position}]", spec.get("completions", 0))
    return errors


def _success_rule_errors(rule: JSON, field: str, completions: int) -> list[FieldError]:
    count, indexes = rule.get("succeededCount"), rule.get("succeededIndexes")
    if count is None and indexes is None:
        return [required(field, "at least one of succeededCount or succeededIndexes must be specified")]
    errors: list[FieldError] = []
    total = None
    if indexes is not None:
        try:
            total = _index_total(indexes, completions)
        except ValueError as error:
            errors.append(invalid(f"{field}.succeededIndexes", indexes, f"error parsing succeededIndexes: {error}"))
    if count is None:
        return errors
    at = f"{field}.succeededCount"
    errors += non_negative(at, count)
    if count > completions:
        detail = f"must be less than or equal to {completions} (the number of specified completions)"
        errors.append(invalid(at, count, detail))
    if total is not None and count > total:
        detail = (
            f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        )
        errors.append(invalid(at, count, detail))
    return errors


def _index_total(text: str, completions: int) -> int:
    """How many indexes a text such as `0-2,5` lists. Raises ValueError, in the words of the API server."""
    total, last = 0, -1
    for part in text.split(",") if text else ():
        ends = part.split("-")
        if len(ends) > 2:
            told = "violates the requirement that an index interval can have at most two parts separated by '-'"
            raise ValueError(f'the fragment "{part}" {told}')
        numbers = []
        for end in ends:
            if not end.isdecimal():
                raise ValueError(f'cannot convert string to integer for index: "{end}"')
            if int(end) >= completions:
                raise ValueError(f'too large index: "{end}"')
            numbers.append(int(end))
        low, high = numbers[0], numbers[-1]
        if low <= last:
            raise ValueError(f"non-increasing order, previous: {last}, current: {low}")
        if len(numbers) == 2 and high <= low:
            raise ValueError(f"non-increasing order, previous: {low}, current: {high}")
        total, last = total + high - low + 1, high
    return total


def replacement_errors(spec: JSON, field: str) -> list[FieldError]:
    """KEP-3939: rules about failed Pods can only judge those that have ended."""
    value = spec.get("podReplacementPolicy")
    allowed = _REPLACEMENTS[:1] if "podFailurePolicy" in spec else _REPLACEMENTS
    return [] if value is None or value in allowed else [not_supported(field, value, allowed)]
