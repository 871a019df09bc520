"""Definitions of charts with random changes: refused with reasons, or good for any object; never a failure of ours."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests import definitions as charts

from twinstack.api.errors import StatusError
from twinstack.api.schema import TypeMismatch, check
from twinstack.server.customresources.catalogue import rows_of
from twinstack.server.customresources.definitions import check_definition
from twinstack.server.customresources.openapi import component_schemas
from twinstack.server.strategy.customresourcedefinitions import DefinitionStrategy
from twinstack.server.tables.custom import cells, columns

JSON = dict[str, Any]

TEXT: JSON = {"type": "string"}
INNER: JSON = {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}}
RULES = ("self.a > 1", "true", "size(self) > 0", "self == oldSelf", "self.all(x, x == 1)", "has(self.a)", "self >")
SAYINGS: dict[str, tuple[Any, ...]] = {
    "type": ("object", "array", "string", "integer", "number", "boolean", "", 5),
    "items": (TEXT, INNER, {}, {"x-kubernetes-preserve-unknown-fields": True}, {"type": 5}, {"properties": []}, "x"),
    "properties": ({}, {"a": TEXT}, {"a": INNER}, {"a": None}),
    "additionalProperties": (TEXT, INNER, True, False, {}, {"type": []}, 1),
    "x-kubernetes-list-type": ("map", "set", "atomic"),
    "x-kubernetes-list-map-keys": (["a"], ["name"], []),
    "x-kubernetes-map-type": ("atomic", "granular"),
    "x-kubernetes-int-or-string": (True,),
    "x-kubernetes-preserve-unknown-fields": (True,),
    "x-kubernetes-embedded-resource": (True,),
    "default": (1, "a", {}, [], {"a": 1}, [{}], False),
    "oneOf": ([{"required": ["a"]}], [{}], []),
    "not": ({}, {"required": ["zz"]}),
    "enum": ([1], ["a"], [None], [{}]),
    "nullable": (True,),
    "pattern": ("a", "^(x|y)+$", "("),
    "multipleOf": (0, 0.5, 2),
    "minimum": (0, 1.5),
    "maxLength": (0, 3),
    "format": ("date-time", "byte", "int32", "duration"),
    "required": (["a"], []),
    "x-kubernetes-validations": tuple([{"rule": rule}] for rule in RULES),
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "size", "name", "rules", "spec"]), inner, max_size=3),  # noqa: E501
    max_leaves=8,
)  # fmt: skip


def schemas_in(value: Any) -> list[JSON]:
    """Every schema, in a fixed order."""
    if isinstance(value, list):
        return [schema for item in value for schema in schemas_in(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if isinstance(value.get("type"), str) else []
    return own + [schema for item in value.values() for schema in schemas_in(item)]


@given(st.sampled_from([charts.workers, charts.certificates, charts.routes]), st.data())
def test_a_definition_is_refused_or_serves_any_object(chart: Callable[[], JSON], data: st.DataObject) -> None:
    crd = copy.deepcopy(chart())
    for _ in range(data.draw(st.integers(1, 2))):
        keyword = data.draw(st.sampled_from(sorted(SAYINGS)))
        schema = data.draw(st.sampled_from(schemas_in(crd["spec"]["versions"])))
        schema[keyword] = copy.deepcopy(data.draw(st.sampled_from(SAYINGS[keyword])))
    try:
        obj, _ = check(crd, "apiextensions.v1.CustomResourceDefinition")
        DefinitionStrategy().default(obj)
        obj["status"] = {"storedVersions": ["v1"], "acceptedNames": obj["spec"]["names"]}
        if check_definition(obj, None):
            return
    except (TypeMismatch, StatusError):
        return
    for row in rows_of(obj, 1):
        assert row.custom is not None
        component_schemas(row)
        columns(row.custom)
        value = {"metadata": {"name": "a"}, "spec": data.draw(VALUES), "status": data.draw(VALUES)}
        first, _ = row.custom.check(value)
        row.custom.complete(first)
        row.custom.validate(first, None)
        cells(row.custom, first, 0.0)
        second, _ = row.custom.check(first | {"spec": data.draw(VALUES)})
        row.custom.complete(second)
        row.custom.validate(second, first)
