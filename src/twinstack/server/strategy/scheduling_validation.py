"""Rules of what a Pod asks of the scheduler: affinity, tolerations, spreading (core/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, duplicate, invalid, not_supported, required
from twinstack.api.validation import each, label_value, qualified_name
from twinstack.server.strategy.label_selectors import operator_errors, selector_errors

JSON = dict[str, Any]

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def toleration_errors(tolerations: Sequence[JSON], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, toleration in enumerate(tolerations):
        errors += _toleration_errors(toleration, f"{field}[{i}]")
    return errors


def _toleration_errors(toleration: JSON, field: str) -> list[FieldError]:
    key, operator, value, effect = (toleration.get(name, "") for name in ("key", "operator", "value", "effect"))
    errors: list[FieldError] = []
    if key:
        errors += each(f"{field}.key", key, qualified_name(key))
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(invalid(f"{field}.operator", operator, detail))
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid(f"{field}.effect", effect, detail))
    if operator in ("", "Equal"):
        problems = label_value(value)
        if problems:
            errors.append(invalid(f"{field}.operator", value, ";".join(problems)))
    elif operator == "Exists":
        if value:
            errors.append(invalid(f"{field}.operator", value, "value must be empty when `operator` is 'Exists'"))
    else:
        errors.append(not_supported(f"{field}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in _EFFECTS:
        errors.append(not_supported(f"{field}.effect", effect, _EFFECTS))
    return errors


def affinity_errors(affinity: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    node = affinity.get("nodeAffinity") or {}
    at = f"{field}.nodeAffinity"
    if _REQUIRED in node:
        errors += _node_selector_errors(node[_REQUIRED], f"{at}.{_REQUIRED}")
    for i, preferred in enumerate(node.get(_PREFERRED) or []):
        errors += _weight_errors(preferred, f"{at}.{_PREFERRED}[{i}]")
        errors += _node_term_errors(preferred.get("preference") or {}, f"{at}.{_PREFERRED}[{i}].preference")
    for kind in ("podAffinity", "podAntiAffinity"):
        pods = affinity.get(kind) or {}
        for i, term in enumerate(pods.get(_REQUIRED) or []):
            errors += _pod_term_errors(term, f"{field}.{kind}.{_REQUIRED}[{i}]")
        for i, preferred in enumerate(pods.get(_PREFERRED) or []):
            at = f"{field}.{kind}.{_PREFERRED}[{i}]"
            errors += _weight_errors(preferred, at)
            errors += _pod_term_errors(preferred.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return errors


def _weight_errors(preferred: JSON, field: str) -> list[FieldError]:
    weight = preferred.get("weight", 0)
    return [] if 1 <= weight <= 100 else [invalid(f"{field}.weight", weight, "must be in the range 1-100")]


def _node_selector_errors(selector: JSON, field: str) -> list[FieldError]:
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        return [required(f"{field}.nodeSelectorTerms", "must have at least one node selector term")]
    errors: list[FieldError] = []
    for i, term in enumerate(terms):
        errors += _node_term_errors(term, f"{field}.nodeSelectorTerms[{i}]")
    return errors


def _node_term_errors(term: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, wanted in enumerate(term.get("matchExpressions") or []):
        errors += _node_requirement_errors(wanted, f"{field}.matchExpressions[{i}]")
    for i, wanted in enumerate(term.get("matchFields") or []):
        key = wanted.get("key", "")
        if key != "metadata.name":
            errors.append(invalid(f"{field}.matchFields[{i}].key", key, "not a valid field selector key"))
    return errors


def _node_requirement_errors(wanted: JSON, field: str) -> list[FieldError]:
    key = wanted.get("key", "")
    if wanted.get("operator") in ("Gt", "Lt"):
        detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
        errors = [] if len(wanted.get("values") or []) == 1 else [required(f"{field}.values", detail)]
    else:
        errors = operator_errors(wanted, field)
    return errors + each(f"{field}.key", key, qualified_name(key))


def _pod_term_errors(term: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in ("labelSelector", "namespaceSelector"):
        if name in term:
            errors += selector_errors(term[name], f"{field}.{name}")
    key = term.get("topologyKey", "")
    if not key:
        errors.append(required(f"{field}.topologyKey", "can not be empty"))
    return errors + each(f"{field}.topologyKey", key, qualified_name(key))


def spread_errors(constraints: Sequence[JSON], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for i, constraint in enumerate(constraints):
        at = f"{field}[{i}]"
        skew, key = constraint.get("maxSkew", 0), constraint.get("topologyKey", "")
        action = constraint.get("whenUnsatisfiable", "")
        if skew <= 0:
            errors.append(invalid(f"{at}.maxSkew", skew, "must be greater than zero"))
        errors += (
            each(f"{at}.topologyKey", key, qualified_name(key))
            if key
            else [required(f"{at}.topologyKey", "can not be empty")]
        )
        if action not in _UNSATISFIABLE:
            errors.append(not_supported(f"{at}.whenUnsatisfiable", action, _UNSATISFIABLE))
        if (key, action) in seen:
            errors.append(duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}"))
        seen.add((key, action))
        if "labelSelector" in constraint:
            errors += selector_errors(constraint["labelSelector"], f"{at}.labelSelector")
    return errors
