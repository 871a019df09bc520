"""Objects brought to the form in which the API server stores and shows them.

Upstream reads every object into Go structures and writes it out again. `check` has the same effect: unknown fields
go, values of a wrong JSON type are refused, and what a structure cannot tell from absence is left out:

* null, and zero values of fields that are no pointers (`clusterIP: ""`, `nodePort: 0`, `selector: {}`) disappear;
* required fields and nested structures always appear (`port: 0`, `resources: {}`, `status: {"loadBalancer": {}}`);
* times, quantities and base64 are rewritten canonically (`1000m` → `1`).

The result shares nothing that can be changed with the input, and checking it again changes nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from twinstack.api import scalars
from twinstack.api.schema_table import Field, Type, field_at, get_type, reachable, type_of_kind

__all__ = [
    "Field",
    "Number",
    "Type",
    "TypeMismatch",
    "check",
    "field_at",
    "get_type",
    "kind_of",
    "reachable",
    "type_of_kind",
    "zero_object",
]

JSON = dict[str, Any]


class TypeMismatch(ValueError):
    """A value that does not fit its field; the text is Go's.

    `unstructured` is the text of Go's other reader, which turns the outcome of a strategic merge patch into an object.
    """

    def __init__(self, text: str, unstructured: str = "") -> None:
        super().__init__(text)
        self.unstructured = unstructured or text


class Number(float):
    """A JSON number with a fraction or exponent that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> Number:
        self = super().__new__(cls, text)
        self.text = text
        return self


class _Node(NamedTuple):
    """Where in the document: a field (or `[i]`) below a parent, with the plan of the object it belongs to."""

    parent: _Node | None
    name: str
    plan: _Plan

    def finding(self) -> str:
        """The path as strict decoding prints it: `spec.ports[0]`."""
        if self.parent is None:
            return self.name
        return f"{self.parent.finding()}{'' if self.name[:1] == '[' else '.'}{self.name}"

    def go_path(self) -> str:
        """The path as Go's errors print it: no indices, and the names of embedded structures."""
        names: list[str] = []
        node: _Node | None = self
        while node is not None:
            if node.name[:1] != "[":
                names.append(node.plan.embedded.get(node.name, "") + node.name)
            node = node.parent
        return ".".join(reversed(names))


_Check = Callable[[Any, _Node, list[str]], Any]
_ABSENT: Any = object()


class _Rule(NamedTuple):
    """How one field is read. Values of the Python type `wanted` are taken as they are; others go through `check`."""

    wanted: type | None
    keep_zero: bool
    check: _Check
    inner: str  # the type of a field that holds one object


class _Plan:
    """A type, ready to be checked against."""

    __slots__ = ("always", "embedded", "go_name", "rules", "type_name")

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        self.go_name = type_name.rpartition(".")[2]
        self.rules: dict[str, _Rule] = {}
        self.always: list[tuple[str, Callable[[], Any]]] = []
        self.embedded: dict[str, str] = {}


@functools.cache
def _plan(type_name: str) -> _Plan:
    """Compile a type; the types of its fields are compiled when a value of them is first met."""
    plan = _Plan(type_name)
    described = get_type(type_name)
    for message in described.inline.values():
        short = message.rpartition(".")[2]
        plan.embedded |= dict.fromkeys(get_type(message).fields, f"{short}.")
    for name, field in described.fields.items():
        always = field.always or name in described.required
        wanted = {"string": str, "bool": bool}.get(field.type) if not field.container else None
        inner = field.type if field.is_object and not field.container else ""
        plan.rules[name] = _Rule(wanted, always or field.pointer, _field_check(field, always), inner)
        zero = _zero_maker(name, field, always)
        if zero is not None:
            plan.always.append((name, zero))
    return plan


_ZERO: dict[str, Any] = {"string": "", "bool": False, "int32": 0, "int64": 0, "float64": 0, "bytes": None}


def _zero_maker(name: str, field: Field, always: bool) -> Callable[[], Any] | None:
    """What stands for an absent value of a field that is always shown; None if absence stays."""
    if field.container:
        return (lambda: None) if always else None
    if field.pointer or field.type == "any":
        return None
    if field.is_object:
        return functools.partial(zero_object, field.type)
    if field.type in ("time", "microtime"):
        return None if name == "creationTimestamp" else lambda: None
    if field.type == "quantity":
        return lambda: "0"
    if field.type == "int-or-string":
        return lambda: 0
    zero = _ZERO[field.type]
    return (lambda: zero) if always else None


def zero_object(type_name: str) -> JSON:
    """An object of a type with nothing set."""
    return {name: make() for name, make in _plan(type_name).always}


def check(obj: JSON, type_name: str, known: JSON | None = None) -> tuple[JSON, list[str]]:
    """Bring `obj` to the stored form.

    Returns it with what strict decoding says: `unknown field "spec.foo"`, in the order of the document. Raises
    TypeMismatch for the first value that does not fit its field. What `obj` shares with `known`, an object in stored
    form, is taken over unseen: the very same values in the same places.
    """
    findings: list[str] = []
    return _check_fields(_plan(type_name), obj, None, findings, known or {}), findings


_NOTHING: JSON = {}


def _check_fields(plan: _Plan, obj: JSON, parent: _Node | None, findings: list[str], known: JSON = _NOTHING) -> JSON:
    out: JSON = {}
    rules = plan.rules
    for name, value in obj.items():
        rule = rules.get(name)
        if rule is None:
            findings.append(f'unknown field "{_Node(parent, name, plan).finding()}"')
        elif type(value) is rule[0]:
            if value or rule[1]:
                out[name] = value
        elif value is not None:
            before = known.get(name)
            if value is before:
                checked = value
            elif before and rule[3] and type(value) is dict:
                checked = _check_fields(_plan(rule[3]), value, _Node(parent, name, plan), findings, before)
            else:
                checked = rule[2](value, _Node(parent, name, plan), findings)
            if checked is not _ABSENT:
                out[name] = checked
    for name, make in plan.always:
        if name not in out:
            out[name] = make()
    return out


_GO_KINDS = {dict: "map", list: "slice", str: "string", bool: "bool", int: "int64"}


def _mismatch(value: Any, node: _Node, go_type: str, kind: str) -> TypeMismatch:
    """`kind` is what Go's reflection calls the field's type: struct, map, slice, string, int32 …"""
    found = kind_of(value)
    if found == "number" and kind.startswith("int"):
        found = f"number {value.text if isinstance(value, Number) else value}"
    owner = node
    while owner.name[:1] == "[" and owner.parent is not None:
        owner = owner.parent
    have = _GO_KINDS.get(type(value), "float64")
    unstructured = f"unrecognized type: {kind}"
    if kind in ("slice", "map", "struct"):
        unstructured = f"cannot restore {kind} from{':' if kind == 'struct' else ''} {have}"
    elif (have, kind) == ("int64", "string"):
        unstructured = "cannot convert int64 to string"
    return TypeMismatch(
        f"json: cannot unmarshal {found} into Go struct field {owner.plan.go_name}.{node.go_path()} of type {go_type}",
        unstructured,
    )


def kind_of(value: object) -> str:
    """What Go's errors call a value that does not fit: bool, number, string, array or object."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


# Checks of single values. Each takes the value, where it stands and the findings so far, and returns the value
# to store or _ABSENT; null never reaches them.


def _field_check(field: Field, always: bool) -> _Check:
    drop_zero = not (field.pointer or always)
    go_type = field.go
    whole = ""
    if go_type.startswith("="):
        go_type, whole = "", go_type[1:]
    value = _value_check(field, go_type, drop_zero and not field.container)
    inner = go_type or _go_type(field)
    zero = functools.partial(zero_object, field.type) if field.is_object else _element_zero(field.type)
    for kind in reversed(re.findall(r"\[\]|\{\}", field.container)):
        inner = whole or (f"[]{inner}" if kind == "[]" else f"map[string]{inner}")
        value = _list_check(value, inner, zero) if kind == "[]" else _map_check(value, inner, zero)
        zero = _no_value
    if not field.container:
        return value
    outermost = value
    managers = field.type == "meta.v1.ManagedFieldsEntry"

    def check_container(items: Any, node: _Node, findings: list[str]) -> Any:
        checked = outermost(items, node, findings)
        if checked:
            return checked
        if managers:
            return [{}]  # no managers, said aloud, wipes those there are; so does one that is nobody
        return None if always else _ABSENT

    return check_container


def _no_value() -> Any:
    return None


def _element_zero(type_name: str) -> Callable[[], Any]:
    """What null stands for inside a list or map."""
    if type_name == "quantity":
        return lambda: "0"
    value = "" if type_name == "bytes" else _ZERO.get(type_name)
    return lambda: value


def _go_type(field: Field) -> str:
    """The Go name of one value's type."""
    if field.is_object:
        package, _, name = field.type.rpartition(".")
        return f"{package.rpartition('.')[2]}.{name}"
    return {"bytes": "[]uint8"}.get(field.type, field.type)


def _list_check(value: _Check, go_type: str, zero: Callable[[], Any]) -> _Check:
    def check_list(items: Any, node: _Node, findings: list[str]) -> Any:
        if type(items) is not list:
            raise _mismatch(items, node, go_type, "slice")
        plan = node.plan
        return [
            zero() if item is None else value(item, _Node(node, f"[{i}]", plan), findings)
            for i, item in enumerate(items)
        ]

    return check_list


def _map_check(value: _Check, go_type: str, zero: Callable[[], Any]) -> _Check:
    def check_map(items: Any, node: _Node, findings: list[str]) -> Any:
        if type(items) is not dict:
            raise _mismatch(items, node, go_type, "map")
        return {
            key: zero() if item is None else value(item, _Node(node, "[]", node.plan), findings)
            for key, item in items.items()
        }

    return check_map


def _value_check(field: Field, go_type: str, drop_zero: bool) -> _Check:
    if field.is_object:
        return _object_check(field.type, go_type or _go_type(field))
    if field.type in ("int32", "int64"):
        return _integer_check(int(field.type[3:]), go_type or field.type, drop_zero)
    if field.type == "string":
        return _exact_check(str, go_type or "string")
    if field.type == "bool":
        return _exact_check(bool, "bool")
    if field.type == "int-or-string":
        return _check_int_or_string
    if field.type == "quantity":
        resources = field.go.endswith("v1.ResourceList")
        return _quantity_check(scalars.canonical_amount if resources else scalars.canonical_quantity)
    if field.type == "float64":
        return _check_float
    text = {
        "time": scalars.canonical_time,
        "microtime": scalars.canonical_micro_time,
        "bytes": scalars.canonical_base64,
    }
    return _text_check(text[field.type], field.type, drop_zero) if field.type in text else _check_any


def _object_check(type_name: str, go_type: str) -> _Check:
    plan: _Plan | None = None

    def check_object(value: Any, node: _Node, findings: list[str]) -> Any:
        nonlocal plan
        if type(value) is not dict:
            raise _mismatch(value, node, go_type, "struct")
        if plan is None:
            plan = _plan(type_name)
        return _check_fields(plan, value, node, findings)

    return check_object


def _exact_check(wanted: type, go_type: str) -> _Check:
    def check_exact(value: Any, node: _Node, _findings: list[str]) -> Any:
        if type(value) is not wanted:
            raise _mismatch(value, node, go_type, "string" if wanted is str else "bool")
        return value

    return check_exact


def _integer_check(bits: int, go_type: str, drop_zero: bool) -> _Check:
    limit = 1 << (bits - 1)

    def check_integer(value: Any, node: _Node, _findings: list[str]) -> Any:
        if type(value) is not int or not -limit <= value < limit:
            raise _mismatch(value, node, go_type, f"int{bits}")
        return value if value or not drop_zero else _ABSENT

    return check_integer


def _check_int_or_string(value: Any, node: _Node, _findings: list[str]) -> Any:
    if type(value) is str:
        return value
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise _mismatch(value, node, "int32", "int32")
    return value


def _check_float(value: Any, node: _Node, _findings: list[str]) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mismatch(value, node, "float64", "float64")
    return float(value) if isinstance(value, Number) else value


def _quantity_check(canonical: Callable[[str], str]) -> _Check:
    def check_quantity(value: Any, _node: _Node, _findings: list[str]) -> Any:
        if isinstance(value, str):
            text = value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            text = value.text if isinstance(value, Number) else str(value)
        else:
            text = "{}"  # no number at all: the rule's own words
        try:
            return canonical(text)
        except ValueError as error:
            raise TypeMismatch(str(error)) from None

    return check_quantity


def _text_check(canonical: Callable[[str], str], type_name: str, drop_zero: bool) -> _Check:
    def check_text(value: Any, node: _Node, _findings: list[str]) -> Any:
        if type(value) is not str:
            if type_name == "bytes":
                raise _mismatch(value, node, "[]uint8", "slice")
            raise TypeMismatch(f"json: cannot unmarshal {kind_of(value)} into Go value of type string")
        try:
            text = canonical(value)
        except ValueError as error:
            raise TypeMismatch(str(error)) from None
        return text if text or not drop_zero else _ABSENT

    return check_text


def _check_any(value: Any, _node: _Node, _findings: list[str]) -> Any:
    return _copy(value)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return float(value) if isinstance(value, Number) else value
