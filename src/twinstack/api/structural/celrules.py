"""`x-kubernetes-validations`: rules in CEL, compiled once a schema and judged with a bound on their cost (KEP-2876).

`self` is the value that a rule stands at, `oldSelf` the one it replaces, found by the keys of lists on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from twinstack.api.cel.evaluation import Program
from twinstack.api.cel.scope import CALL_COST
from twinstack.api.cel.syntax import CELSyntaxError
from twinstack.api.cel.values import (
    NONE,
    EvaluationError,
    KeyedList,
    Optional,
    UniqueList,
    parse_duration,
    parse_timestamp,
)
from twinstack.api.errors import ErrorType, FieldError, duplicate, forbidden_field, invalid, required
from twinstack.api.structural.schema import Schema

JSON = dict[str, Any]

BUDGET = 10_000_000  # of all rules over one object (apiextensions, RuntimeCELCostBudget)
_OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"
_NAMES = ("self", "oldSelf")
_ABSENT: Any = object()


class Rule:
    """One rule. Raises CELSyntaxError when it cannot be read."""

    def __init__(self, raw: JSON) -> None:
        self.raw = raw
        self.text = str(raw.get("rule") or "").strip()
        self.program = Program(self.text, _NAMES)
        self.transition = "oldSelf" in self.program.names
        self.optional_old = bool(raw.get("optionalOldSelf"))
        expression = str(raw.get("messageExpression") or "").strip()
        self.message = Program(expression, _NAMES) if expression else None

    @property
    def shown(self) -> str:
        """The rule as errors of its evaluation name it."""
        return str(self.raw.get("message") or "").strip() or self.text

    def detail(self, names: JSON) -> tuple[str, int]:
        """Why the value is refused, and what it cost to say so."""
        cost = 0
        if self.message is not None:
            try:
                value, cost = self.message.evaluate(names)
            except EvaluationError:
                value = ""
            if isinstance(value, str) and value.strip() and "\n" not in value:
                return value.strip(), cost
        return str(self.raw.get("message") or "").strip() or f"failed rule: {self.text}", cost

    def error(self, path: str, value: Any, detail: str) -> FieldError:
        where = f"{path}{normalized_path(self.raw.get('fieldPath') or '')}".lstrip(".") or "<nil>"
        match self.raw.get("reason"):
            case "FieldValueForbidden":
                return forbidden_field(where, detail)
            case "FieldValueRequired":
                return required(where, detail)
            case "FieldValueDuplicate":
                return (
                    duplicate(where, value)
                    if value is not _ABSENT
                    else FieldError(ErrorType.DUPLICATE, where, "Duplicate value")
                )
            case _:
                if value is _ABSENT:
                    return FieldError(ErrorType.INVALID, where, f"Invalid value: {detail}")
                return invalid(where, value, detail)


def normalized_path(text: str) -> str:
    """`.spec['a b'].c` as field errors print it."""
    return re.sub(r"\['((?:\\.|[^'\\])*)'\]", r".\1", text)


class Rules:
    """The rules of a value and of its parts; parts without any are left out."""

    __slots__ = ("_additional", "_binding", "_items", "_properties", "_root", "_rules", "_schema")

    def __init__(self, schema: Schema, rules: list[Rule], *, root: bool) -> None:
        self._schema = schema
        self._rules = rules
        self._root = root
        self._binding = binding_of(schema)
        self._properties = {
            name: found for name, inner in schema.properties.items() if (found := compile_rules(inner)) is not None
        }
        self._items = compile_rules(schema.items) if schema.items is not None else None
        self._additional = compile_rules(schema.additional) if schema.additional is not None else None

    def __bool__(self) -> bool:
        return bool(self._rules or self._properties or self._items or self._additional)

    def check(self, value: JSON, old: JSON | None) -> tuple[list[FieldError], list[str]]:
        """Errors, and warnings about what was wrong before and has not changed."""
        run = _Run()
        run.node(self, value, _ABSENT if old is None else old, "", settled=False)
        return run.errors, run.warnings

    def judge(self, run: _Run, value: Any, old: Any, path: str, *, settled: bool) -> None:
        """The rules of this value itself."""
        names = {"self": self._binding(value), "oldSelf": None if old is _ABSENT else self._binding(old)}
        optional = names | {"oldSelf": NONE if old is _ABSENT else Optional(names["oldSelf"])}
        for rule in self._rules:
            if rule.transition and old is _ABSENT and not rule.optional_old:
                continue
            shown = _ABSENT if self._schema.type in ("object", "array") else value
            run.rule(rule, optional if rule.optional_old else names, path, shown, settled=settled)

    def parts(self, value: Any, old: Any) -> Iterator[tuple[Rules, Any, Any, str]]:
        """Parts with rules: the value, the one it replaces, and how its path goes on."""
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, item in value.items():
                rules = self._properties.get(name)
                if rules is not None:
                    yield rules, item, before.get(name, _ABSENT), f".{name}"
                elif self._additional is not None and name not in self._schema.properties:
                    yield self._additional, item, before.get(name, _ABSENT), f"[{name}]"
        elif isinstance(value, list) and self._items is not None:
            find = _finder(old, self._schema)
            for i, item in enumerate(value):
                yield self._items, item, find(item), f"[{i}]"


def _finder(old: Any, schema: Schema) -> Any:
    """Finds what an item of a list with keys replaces; items of other lists replace nothing."""
    if not isinstance(old, list) or schema.list_type != "map":
        return lambda item: _ABSENT

    def key(item: Any) -> tuple[str, ...]:
        return tuple(repr(item.get(name)) if isinstance(item, dict) else "" for name in schema.list_keys)

    known = {key(item): item for item in old}
    return lambda item: known.get(key(item), _ABSENT)


def compile_rules(schema: Schema, *, root: bool = False) -> Rules | None:
    """The rules of a schema and all in it; None if there are none. Raises CELSyntaxError."""
    rules = Rules(schema, [Rule(raw) for raw in schema.rules if str(raw.get("rule") or "").strip()], root=root)
    return rules or None


class _Run:
    """The rules over one object: what they found, and what is left of the budget."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self.warnings: list[str] = []
        self._left = BUDGET

    def node(self, rules: Rules, value: Any, old: Any, path: str, *, settled: bool) -> None:
        """`settled`: a value around this one is what it was before."""
        if value is None or self._left < 0:
            return
        settled = settled or (old is not _ABSENT and old == value)
        rules.judge(self, value, old, path, settled=settled)
        for inner, item, before, rest in rules.parts(value, old):
            self.node(inner, item, before, path + rest, settled=settled)

    def rule(self, rule: Rule, names: JSON, path: str, value: Any, *, settled: bool) -> None:
        if self._left < 0:
            return
        where = path.lstrip(".") or "<nil>"
        try:
            result, cost = rule.program.evaluate(names, min(CALL_COST, self._left))
        except EvaluationError as error:
            self._failed(rule, where, value, str(error))
            return
        self._left -= cost
        if result is True:
            return
        detail, cost = rule.detail(names)
        self._left -= cost
        found = rule.error(path, value, detail)
        if settled and not rule.transition:
            self.warnings.append(str(found))
        else:
            self.errors.append(found)

    def _failed(self, rule: Rule, where: str, value: Any, problem: str) -> None:
        kind = "object" if value is _ABSENT else type(value).__name__
        if problem.startswith("no such overload"):
            text = (
                f"'{problem}': call arguments did not match a supported operator, function or macro signature for"
                f" rule: {rule.shown}"
            )
        elif problem.startswith("operation cancelled"):
            text = (
                f"'{problem}': no further validation rules will be run due to call cost exceeds limit for rule:"
                f" {rule.shown}"
            )
            self._left = -1
        else:
            text = f"{problem} evaluating rule: {rule.shown}"
        names = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
        self.errors.append(invalid(where, names.get(kind, kind), text))


# --- values of a schema as values of CEL


def binding_of(schema: Schema) -> Any:
    """From a JSON value to the value that rules see."""
    if _is_plain(schema):
        return _as_is
    return lambda value: _bound(value, schema)


def _as_is(value: Any) -> Any:
    return value


def _is_plain(schema: Schema) -> bool:
    """Whether every value is the same in CEL."""
    if schema.raw.get("format") in ("date-time", "datetime", "date", "duration", "byte") or schema.type == "number":
        return False
    if schema.list_type in ("set", "map"):
        return False
    return all(_is_plain(inner) for _, inner in schema.children())


def _bound(value: Any, schema: Schema | None) -> Any:
    if schema is None or value is None:
        return value
    if isinstance(value, dict):
        return {name: _bound(item, schema.of_field(name)) for name, item in value.items()}
    if isinstance(value, list):
        return _bound_list([_bound(item, schema.items) for item in value], schema)
    if schema.type == "number" and isinstance(value, int):
        return float(value)
    return _bound_text(value, str(schema.raw.get("format"))) if isinstance(value, str) else value


def _bound_list(items: list[Any], schema: Schema) -> list[Any]:
    if schema.list_type == "set":
        return UniqueList(items)
    if schema.list_type == "map":
        keyed = KeyedList(items)
        keyed.keys = schema.list_keys
        return keyed
    return items


def _bound_text(text: str, form: str) -> Any:
    try:
        if form in ("date-time", "datetime"):
            return parse_timestamp(text)
        if form == "date":
            return parse_timestamp(f"{text}T00:00:00Z")
        if form == "duration":
            return parse_duration(text)
        if form == "byte":
            import base64

            return base64.b64decode(text)
    except ValueError:
        return text  # another rule refuses it
    return text


__all__ = ["BUDGET", "CELSyntaxError", "Rule", "Rules", "compile_rules"]
