"""Values judged by a schema, in kube-openapi's words. A schema is compiled once into one function.

A judgement appends errors and returns how many rules it has looked at: of the alternatives of `anyOf` and
`oneOf` that all fail, the one that went furthest tells why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from twinstack.api.errors import (
    ErrorType,
    FieldError,
    go_value,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
)
from twinstack.api.gotext import go_print, go_quote
from twinstack.api.structural.formats import FORMATS
from twinstack.api.structural.patterns import compiled

JSON = dict[str, Any]
Findings = list[tuple[str, FieldError]]  # with the path of the value that was judged, which not all errors name
Judge = Callable[[Any, str, Findings], int]
_Rule = Callable[[Any, str, Findings], None]

_ROOT = "<nil>"  # what upstream prints for no path at all
_INT32 = 1 << 31


def kind_of(value: Any) -> str:
    """The JSON schema type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def compile_schema(raw: JSON) -> Judge:
    """The judge of a schema in the form of apiextensions/v1 JSONSchemaProps."""
    types = _types(raw)
    rules: list[tuple[tuple[str, ...], _Rule]] = []  # with the types they speak of; none: all
    junctors = _junctors(raw)
    rules += _scalar_rules(raw)
    enum = _enum(raw)
    parts = _parts(raw)

    def judge(value: Any, path: str, errors: Findings) -> int:
        kind = kind_of(value)
        if types and not _fits(kind, value, types):
            _type_error(kind, path, types, errors)
            if kind == "null":
                return 0
        elif value is None:
            if enum is not None:
                enum(value, path, errors)
            return 0
        count = 1
        for junctor in junctors:
            count += junctor(value, path, errors)
        for kinds, rule in rules:
            if kind in kinds:
                rule(value, path, errors)
                count += 1
        if enum is not None:
            enum(value, path, errors)
            count += 1
        return count + parts(value, path, errors)

    return judge


def _types(raw: JSON) -> tuple[str, ...]:
    if raw.get("x-kubernetes-int-or-string"):
        types: tuple[str, ...] = ("integer", "string")
    else:
        types = (raw["type"],) if raw.get("type") else ()
    return (*types, "null") if types and raw.get("nullable") else types


def _fits(kind: str, value: Any, types: Sequence[str]) -> bool:
    if kind in types:
        return True
    if kind == "integer":
        return "number" in types
    return kind == "number" and "integer" in types and float(value).is_integer()


def _invalid(path: str, value: Any, text: str) -> FieldError:
    return invalid(path or _ROOT, value, f"{path} in body {text}")


def _type_error(kind: str, path: str, types: Sequence[str], errors: Findings) -> None:
    text = f'{path} in body must be of type {",".join(types)}: "{kind}"'
    errors.append((path, FieldError(ErrorType.TYPE_INVALID, path or _ROOT, f"Invalid value: {go_value(kind)}: {text}")))


# --- allOf, anyOf, oneOf, not


def _nameless(text: str) -> FieldError:
    return invalid(_ROOT, "", text)


def _junctors(raw: JSON) -> list[Judge]:
    found: list[Judge] = []
    if raw.get("anyOf"):
        found.append(_any_of([compile_schema(each) for each in raw["anyOf"]]))
    if raw.get("oneOf"):
        found.append(_one_of([compile_schema(each) for each in raw["oneOf"]]))
    if raw.get("allOf"):
        found.append(_all_of([compile_schema(each) for each in raw["allOf"]]))
    if raw.get("not") is not None:
        found.append(_not(compile_schema(raw["not"])))
    return found


def _best(failures: list[tuple[int, Findings]]) -> tuple[int, Findings]:
    return max(failures, key=lambda failure: failure[0])


def _any_of(judges: Sequence[Judge]) -> Judge:
    def judge(value: Any, path: str, errors: Findings) -> int:
        failures: list[tuple[int, Findings]] = []
        for each in judges:
            found: Findings = []
            count = each(value, path, found)
            if not found:
                return 0
            failures.append((count, found))
        errors.append((path, _nameless(f"{go_quote(path)} must validate at least one schema (anyOf)")))
        count, found = _best(failures)
        errors += found
        return count

    return judge


def _one_of(judges: Sequence[Judge]) -> Judge:
    def judge(value: Any, path: str, errors: Findings) -> int:
        failures: list[tuple[int, Findings]] = []
        valid: list[int] = []
        for each in judges:
            found: Findings = []
            count = each(value, path, found)
            if found:
                failures.append((count, found))
            else:
                valid.append(count)
        if len(valid) == 1:
            return valid[0]
        how = f"Found {len(valid)} valid alternatives" if valid else "Found none valid"
        errors.append((path, _nameless(f"{go_quote(path)} must validate one and only one schema (oneOf). {how}")))
        if valid:
            return 0
        count, found = _best(failures)
        errors += found
        return count

    return judge


def _all_of(judges: Sequence[Judge]) -> Judge:
    def judge(value: Any, path: str, errors: Findings) -> int:
        count, valid = 0, 0
        for each in judges:
            before = len(errors)
            count += each(value, path, errors)
            valid += len(errors) == before
        if valid < len(judges):
            none = "" if valid else ". None validated"
            errors.append((path, _nameless(f"{go_quote(path)} must validate all the schemas (allOf){none}")))
        return count

    return judge


def _not(inner: Judge) -> Judge:
    def judge(value: Any, path: str, errors: Findings) -> int:
        found: Findings = []
        inner(value, path, found)
        if not found:
            errors.append((path, _nameless(f"{go_quote(path)} must not validate the schema (not)")))
        return 0

    return judge


# --- texts and numbers

_NUMBERS = ("integer", "number")


def _scalar_rules(raw: JSON) -> list[tuple[tuple[str, ...], _Rule]]:
    rules: list[tuple[tuple[str, ...], _Rule]] = []
    if any(raw.get(name) is not None for name in ("maxLength", "minLength", "pattern")):
        rules.append((("string",), _text_rule(raw)))
    known = FORMATS.get(_format_name(raw))
    if known is not None:
        rules.append((("string",), _format_rule(raw["format"], known)))
    bounds = [rule for rule in (_multiple(raw), _maximum(raw), _minimum(raw), _range(raw)) if rule is not None]
    rules += [(_NUMBERS, rule) for rule in bounds]
    return rules


def _format_name(raw: JSON) -> str:
    return str(raw.get("format") or "")


def _text_rule(raw: JSON) -> _Rule:
    most, least, pattern = raw.get("maxLength"), raw.get("minLength"), raw.get("pattern")
    search = compiled(pattern).search if pattern else None

    def judge(value: Any, path: str, errors: Findings) -> None:
        if most is not None and len(value) > most:
            errors.append((path, too_long(path or _ROOT, most)))
        elif least is not None and len(value) < least:
            errors.append((path, _invalid(path, value, f"should be at least {least} chars long")))
        elif search is not None and not search(value):
            errors.append((path, _invalid(path, value, f"should match '{pattern}'")))

    return judge


def _format_rule(name: str, check: Callable[[str], bool]) -> _Rule:
    def judge(value: Any, path: str, errors: Findings) -> None:
        if not check(value):
            text = f"{path} in body must be of type {name}: {go_quote(value)}"
            body = f"Invalid value: {go_value(value)}: {text}"
            errors.append((path, FieldError(ErrorType.TYPE_INVALID, path or _ROOT, body)))

    return judge


def _multiple(raw: JSON) -> _Rule | None:
    factor = raw.get("multipleOf")
    if not factor:
        return None

    def judge(value: Any, path: str, errors: Findings) -> None:
        if Fraction(str(value)) % Fraction(str(factor)):
            errors.append((path, _invalid(path, value, f"should be a multiple of {go_print(factor)}")))

    return judge


def _maximum(raw: JSON) -> _Rule | None:
    bound, exclusive = raw.get("maximum"), bool(raw.get("exclusiveMaximum"))
    if bound is None:
        return None
    text = f"should be less than {'' if exclusive else 'or equal to '}{go_print(bound)}"

    def judge(value: Any, path: str, errors: Findings) -> None:
        if value > bound or (exclusive and value == bound):
            errors.append((path, _invalid(path, value, text)))

    return judge


def _minimum(raw: JSON) -> _Rule | None:
    bound, exclusive = raw.get("minimum"), bool(raw.get("exclusiveMinimum"))
    if bound is None:
        return None
    text = f"should be greater than {'' if exclusive else 'or equal to '}{go_print(bound)}"

    def judge(value: Any, path: str, errors: Findings) -> None:
        if value < bound or (exclusive and value == bound):
            errors.append((path, _invalid(path, value, text)))

    return judge


def _range(raw: JSON) -> _Rule | None:
    if (raw.get("type"), raw.get("format")) != ("integer", "int32"):
        return None

    def judge(value: Any, path: str, errors: Findings) -> None:
        if not -_INT32 <= value < _INT32:
            errors.append((path, _nameless(f"Checked value must be of type integer with format int32 in {path}")))

    return judge


def _enum(raw: JSON) -> _Rule | None:
    allowed = raw.get("enum")
    if not allowed:
        return None
    if raw.get("nullable") and None not in allowed:
        allowed = [*allowed, None]
    names = [each if isinstance(each, str) else json.dumps(each, separators=(",", ":")) for each in allowed]

    def judge(value: Any, path: str, errors: Findings) -> None:
        if not any(value == each and isinstance(value, bool) is isinstance(each, bool) for each in allowed):
            errors.append((path, not_supported(path or _ROOT, value, names)))

    return judge


# --- lists and objects


def _parts(raw: JSON) -> Judge:
    """The judge of what a list or object holds."""
    of_list, of_object = _list_judge(raw), _object_judge(raw)

    def judge(value: Any, path: str, errors: Findings) -> int:
        if isinstance(value, dict):
            return of_object(value, path, errors)
        return of_list(value, path, errors) if isinstance(value, list) else 0

    return judge


def _list_judge(raw: JSON) -> Judge:
    items = raw.get("items")
    item = compile_schema(items) if isinstance(items, dict) else None
    least, most = raw.get("minItems"), raw.get("maxItems")

    def judge(value: Any, path: str, errors: Findings) -> int:
        count = 1
        if item is not None:
            for i, each in enumerate(value):
                count += item(each, f"{path}[{i}]", errors)
        if least is not None and len(value) < least:
            errors.append((path, _invalid(path, len(value), f"should have at least {least} items")))
        if most is not None and len(value) > most:
            errors.append((path, too_many(path or _ROOT, len(value), most)))
        return count

    return judge


def _object_judge(raw: JSON) -> Judge:
    properties = {name: compile_schema(inner or {}) for name, inner in (raw.get("properties") or {}).items()}
    additional = raw.get("additionalProperties")
    other = compile_schema(additional) if isinstance(additional, dict) else None
    forbids = additional is False
    wanted: Sequence[str] = raw.get("required") or ()
    least, most = raw.get("minProperties"), raw.get("maxProperties")

    def judge(value: Any, path: str, errors: Findings) -> int:
        if least is not None and len(value) < least:
            errors.append((path, _invalid(path, len(value), f"should have at least {least} properties")))
            return 1
        if most is not None and len(value) > most:
            errors.append((path, too_many(path or _ROOT, len(value), most)))
            return 1
        count = 1
        for name, each in value.items():
            inner = properties.get(name)
            where = f"{path}.{name}" if path else name
            if inner is not None:
                count += inner(each, where, errors)
            elif other is not None:
                count += other(each, where, errors)
            elif forbids:
                errors.append((where, invalid(where, "", f"{where} in body is a forbidden property")))
        for name in wanted:
            if name not in value:
                where = f"{path}.{name}" if path else name
                errors.append((where, required(where)))
            else:
                count += 1
        return count

    return judge
