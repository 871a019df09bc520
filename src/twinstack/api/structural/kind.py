"""A kind that a CustomResourceDefinition makes: what one version says of objects, compiled when first needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from twinstack.api import schema as builtin
from twinstack.api.errors import ErrorType, FieldError, invalid, required
from twinstack.api.fieldsets.topology import Topology
from twinstack.api.schema import Number
from twinstack.api.structural.defaulting import drop_nulls, fill_defaults, prune
from twinstack.api.structural.schema import Schema

if TYPE_CHECKING:
    from twinstack.api.structural.celrules import Rules
    from twinstack.api.structural.validation import Judge

JSON = dict[str, Any]
T = TypeVar("T")

_META = "meta.v1.ObjectMeta"
_CARRIER = "core.v1.ConfigMap"  # any type with metadata
_BLOCKING = (ErrorType.REQUIRED, ErrorType.TOO_LONG, ErrorType.TOO_MANY, ErrorType.TYPE_INVALID)
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete"
    " validation"
)
_EXACT = float(1 << 53)


class Judgement(NamedTuple):
    """What validation says of an object."""

    errors: list[FieldError]
    warnings: list[str]


class CustomKind:
    """One version of one definition; a changed definition makes new kinds.

    `version` is the entry of `spec.versions` as JSON. Objects of a later revision than `since` were written under this
    definition. `storage` is the version in which objects are stored.
    """

    def __init__(
        self, version: bytes, *, group: str, kind: str, singular: str, list_kind: str, storage: str, since: int
    ) -> None:
        self.group = group
        self.kind = kind
        self.singular = singular
        self.list_kind = list_kind
        self.terminating = False  # the definition is being deleted
        self.storage = storage
        self.since = since
        self._version = version
        self._kept: dict[object, Any] = {}

    def keep(self, name: object, make: Callable[[], T]) -> T:
        """What belongs to the kind and goes with it, made at the first call."""
        if name not in self._kept:
            self._kept[name] = make()
        found: T = self._kept[name]
        return found

    @functools.cached_property
    def definition(self) -> JSON:
        """The entry of `spec.versions`."""
        entry: JSON = msgspec.json.decode(self._version)
        return entry

    def written_schema(self) -> JSON:
        """The schema as it was written, decoded anew for who wants it once."""
        entry: JSON = msgspec.json.decode(self._version)
        found: JSON = (entry.get("schema") or {}).get("openAPIV3Schema") or {}
        return found

    @functools.cached_property
    def schema(self) -> Schema:
        return Schema((self.definition.get("schema") or {}).get("openAPIV3Schema") or {})

    @functools.cached_property
    def topology(self) -> Topology:
        from twinstack.api.structural.topology import topology

        return topology(self.schema, resource=True)

    @functools.cached_property
    def _judge(self) -> Judge:
        from twinstack.api.structural.validation import compile_schema

        return compile_schema(self.schema.raw)

    @functools.cached_property
    def _rules(self) -> Rules | None:
        if not _has_rules(self.schema):
            return None
        from twinstack.api.structural.celrules import compile_rules

        return compile_rules(self.schema, root=True)

    @property
    def scale(self) -> JSON | None:
        """`subresources.scale`: where in an object the parts of its Scale are."""
        found: JSON | None = (self.definition.get("subresources") or {}).get("scale")
        return found

    def check(self, obj: JSON) -> tuple[JSON, list[str]]:
        """A copy of the object without unknown fields, and the findings of strict decoding.

        Raises TypeMismatch for metadata of another shape.
        """
        out: JSON = _plain(obj)
        findings: list[str] = []
        meta = out.pop("metadata", None)
        if meta is not None:
            checked, findings = builtin.check({"metadata": meta}, _CARRIER)
            out["metadata"] = checked["metadata"]
        findings += [f'unknown field "{path}"' for path in prune(out, self.schema, resource=True)]
        return out, sorted(findings)

    def complete(self, obj: JSON) -> None:
        """Nulls that mean absence go, defaults come; in place."""
        meta = obj.pop("metadata", None)
        drop_nulls(obj, self.schema)
        fill_defaults(obj, self.schema)
        if meta is not None:
            obj["metadata"] = meta

    def validate(self, obj: JSON, old: JSON | None) -> Judgement:
        """By the schema, its list types and its rules; what was wrong in `old` already is not held against it."""
        from twinstack.api.structural.listtypes import check_lists
        from twinstack.api.structural.ratcheting import unchanged

        found: list[tuple[str, FieldError]] = []
        self._judge(obj, "", found)
        found += [(error.field, error) for error in check_lists(obj, self.schema)]
        found += [(error.field, error) for error in _embedded(obj, self.schema, "")]
        errors = [
            error for path, error in found if old is None or not path or not unchanged(path, obj, old, self.schema)
        ]
        warnings: list[str] = []
        if self._rules is not None:
            if any(error.type in _BLOCKING for error in errors):
                errors.append(invalid("<nil>", "null", _NOT_CHECKED))
            else:
                broken, warnings = self._rules.check(obj, old)
                errors += broken
        return Judgement(errors, warnings)


def _has_rules(schema: Schema) -> bool:
    return bool(schema.rules) or any(_has_rules(inner) for _, inner in schema.children())


def _plain(value: Any) -> Any:
    """A copy with Python's own numbers; a whole number is an integer however it was written."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Number):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) <= _EXACT else number
    return value


def _embedded(value: Any, schema: Schema, path: str) -> list[FieldError]:
    """Objects inside objects have a type and well-formed metadata (`x-kubernetes-embedded-resource`)."""
    errors: list[FieldError] = []
    if isinstance(value, list) and schema.items is not None:
        for i, item in enumerate(value):
            errors += _embedded(item, schema.items, f"{path}[{i}]")
    elif isinstance(value, dict):
        if schema.embedded:
            errors += _type_meta(value, path)
        for name, item in value.items():
            inner = schema.of_field(name)
            if inner is not None and isinstance(item, dict | list):
                errors += _embedded(item, inner, f"{path}.{name}" if path else name)
    return errors


def _type_meta(value: JSON, path: str) -> list[FieldError]:
    from twinstack.api import metadata, validation

    errors = [required(f"{path}.{name}", "must not be empty") for name in ("apiVersion", "kind") if not value.get(name)]
    meta = value.get("metadata")
    if isinstance(meta, dict):
        try:
            checked, _ = builtin.check(meta, _META)
        except builtin.TypeMismatch as error:
            return [*errors, invalid(f"{path}.metadata", meta, str(error))]
        if checked.get("name"):
            errors += [
                FieldError(error.type, f"{path}.{error.field}", error.body)
                for error in metadata.validate_create(
                    checked, namespaced=bool(checked.get("namespace")), name_rule=validation.path_segment
                )
            ]
    return errors
