"""Rules in CEL judged when they are written: whether they can be read, and whether the fields they name are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinstack.api.cel.access import unescaped
from twinstack.api.cel.evaluation import Program
from twinstack.api.cel.syntax import CELSyntaxError, Node, failure
from twinstack.api.errors import FieldError, invalid, not_supported, required
from twinstack.api.structural.schema import Schema

JSON = dict[str, Any]

_NAMES = ("self", "oldSelf")
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_META = Schema({"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}})
_TEXT = Schema({"type": "string"})
_QUANTIFIERS = ("all", "exists", "exists_one", "existsOne", "filter", "map")


def check_rules(schema: Schema, path: str) -> list[FieldError]:
    """Everything that is wrong with the rules of a schema and of all in it."""
    return _check(schema, path, uncorrelatable="", root=True)


def _check(schema: Schema, path: str, *, uncorrelatable: str, root: bool = False) -> list[FieldError]:
    """`uncorrelatable`: the path of a list on the way whose items have no old value."""
    errors: list[FieldError] = []
    for i, raw in enumerate(schema.rules):
        errors += _rule_errors(raw, schema, f"{path}.x-kubernetes-validations[{i}]", uncorrelatable, root=root)
    for rest, inner in schema.children():
        lost = uncorrelatable
        if rest == ".items" and schema.list_type != "map":
            lost = lost or path
        if schema.map_type == "atomic":
            lost = lost or path
        errors += _check(inner, f"{path}{rest}", uncorrelatable=lost)
    return errors


def _rule_errors(raw: JSON, schema: Schema, path: str, uncorrelatable: str, *, root: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    text = str(raw.get("rule") or "").strip()
    message = str(raw.get("message") or "")
    if not text:
        errors.append(required(f"{path}.rule", "rule is not specified"))
    if raw.get("message") is not None and message and not message.strip():
        errors.append(invalid(f"{path}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        errors.append(invalid(f"{path}.message", message, "message must not contain line breaks"))
    elif "\n" in text and not message.strip():
        errors.append(required(f"{path}.message", "message must be specified if rule contains line breaks"))
    if raw.get("reason") and raw["reason"] not in _REASONS:
        errors.append(not_supported(f"{path}.reason", raw["reason"], _REASONS))
    for name in ("rule", "messageExpression"):
        expression = str(raw.get(name) or "").strip()
        if expression:
            errors += _expression_errors(expression, schema, f"{path}.{name}", uncorrelatable, root=root)
    return errors


def _expression_errors(text: str, schema: Schema, path: str, uncorrelatable: str, *, root: bool) -> list[FieldError]:
    try:
        program = Program(text, _NAMES)
    except CELSyntaxError as error:
        return [invalid(path, text, f"compilation failed: {error}")]
    shape = _with_meta(schema) if root or schema.embedded else schema
    problems = _Fields(text).check(program.tree, {"self": shape, "oldSelf": shape})
    if problems:
        return [invalid(path, text, f"compilation failed: {problem}") for problem in problems[:1]]
    if path.endswith(".rule") and program.tree.kind == "literal" and type(program.tree.value) is not bool:
        return [invalid(path, text, "must evaluate to a bool")]
    if "oldSelf" in program.names and uncorrelatable:
        where = "oldSelf cannot be used on the uncorrelatable portion of the schema within"
        return [invalid(path, text, f"{where} {uncorrelatable}")]
    return []


def _with_meta(schema: Schema) -> Schema:
    full = Schema({})
    for name in Schema.__slots__:
        setattr(full, name, getattr(schema, name))
    full.properties = schema.properties | {"metadata": _META, "apiVersion": _TEXT, "kind": _TEXT}
    return full


class _Fields:
    """Follows the schema of `self` through an expression, as far as it can be told."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._problems: list[str] = []

    def check(self, node: Node, names: Mapping[str, Schema | None]) -> list[str]:
        self._schema_of(node, names)
        return self._problems

    def _schema_of(self, node: Node, names: Mapping[str, Schema | None]) -> Schema | None:
        """The schema of a value; None if it is not known."""
        if node.kind == "name":
            return names.get(node.name)
        if node.kind in ("select", "optional-select"):
            return self._selected(node, names)
        if node.kind in ("index", "optional-index"):
            owner = self._schema_of(node.args[0], names)
            self._schema_of(node.args[1], names)
            return (owner.items or owner.additional) if owner is not None else None
        if node.kind == "call" and node.method and node.name in _QUANTIFIERS and len(node.args) >= 3:
            return self._quantified(node, names)
        if node.kind == "call" and node.method and len(node.args) > 2 and node.args[1].kind == "name":
            self._schema_of(node.args[0], names)  # other macros bind names of their own
            return None
        for each in node.args:
            self._schema_of(each, names)
        return None

    def _selected(self, node: Node, names: Mapping[str, Schema | None]) -> Schema | None:
        owner = self._schema_of(node.args[0], names)
        if owner is None:
            return None
        found = owner.of_field(node.name) or owner.of_field(unescaped(node.name))
        if found is None and owner.type and not owner.int_or_string:
            self._problems.append(failure(self._text, node.position, f"undefined field '{node.name}'"))
        return found

    def _quantified(self, node: Node, names: Mapping[str, Schema | None]) -> Schema | None:
        owner = self._schema_of(node.args[0], names)
        variables = [each.name for each in node.args[1:-1] if each.kind == "name"] if node.name != "map" else []
        variables = variables or [node.args[1].name]
        inner = dict(names) | dict.fromkeys(variables)
        if owner is not None and len(variables) == 1 and owner.items is not None:
            inner[variables[0]] = owner.items
        for each in node.args[1 + len(variables) :]:
            self._schema_of(each, inner)
        return owner if node.name == "filter" else None
