"""Whether a CustomResourceDefinition can be served, with upstream's messages. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twinstack.api.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required, too_many
from twinstack.api.structural.formats import dns_1035_label
from twinstack.api.structural.rules import check_schema
from twinstack.api.structural.schema import Schema
from twinstack.api.validation import dns_subdomain
from twinstack.server.customresources.jsonpath import JSONPathError, compiled

JSON = dict[str, Any]

APPROVED = "api-approved.kubernetes.io"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_MOST_SELECTABLE = 8
_WEBHOOK = "conversion by webhook is not supported by this server: objects are shown in every version as they are"
_KEEP_STORED = (
    "missing from spec.versions; {0} was previously a storage version, and must remain in spec.versions until a "
    "storage migration ensures no data remains persisted in {0} and removes {0} from status.storedVersions"
)


def check_definition(definition: JSON, old: JSON | None) -> list[FieldError]:
    """`old` is what an update replaces."""
    spec = definition["spec"]
    errors = [*_spec_errors(spec), *_approval_errors(definition, old)]
    if old is not None:
        errors += _update_errors(definition, old)
    return errors


def name_errors(definition: JSON) -> list[str]:
    spec = definition["spec"]
    wanted = f"{spec['names'].get('plural', '')}.{spec.get('group', '')}"
    return [] if definition["metadata"].get("name") == wanted else ['must be spec.names.plural+"."+spec.group']


def _spec_errors(spec: JSON) -> list[FieldError]:
    errors: list[FieldError] = []
    group = spec.get("group") or ""
    if not group:
        errors.append(required("spec.group"))
    elif problems := dns_subdomain(group):
        errors.append(invalid("spec.group", group, ",".join(problems)))
    elif "." not in group:
        errors.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    errors += _one_of("spec.scope", spec.get("scope") or "", ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        errors.append(invalid("spec.preserveUnknownFields", True, text))
    versions = spec.get("versions") or []
    for i, version in enumerate(versions):
        errors += _version_errors(version, f"spec.versions[{i}]")
    if len({version.get("name") for version in versions}) < len(versions):
        errors.append(invalid("spec.versions", versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        errors.append(
            invalid("spec.versions", versions or None, "must have exactly one version marked as storage version")
        )
    for name in ("plural", "singular", "kind", "listKind"):
        if not spec["names"].get(name):
            errors.append(required(f"spec.names.{name}"))
    errors += names_errors(spec["names"], "spec.names")
    return errors + _conversion_errors(spec.get("conversion"))


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> list[FieldError]:
    if not value:
        return [required(field)]
    return [] if value in allowed else [not_supported(field, value, allowed)]


def names_errors(names: JSON, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    mixed = "may have mixed case, but should otherwise match: "
    for name, text, prefix in (
        ("plural", names.get("plural"), ""),
        ("singular", names.get("singular"), ""),
        ("kind", (names.get("kind") or "").lower(), mixed),
        ("listKind", (names.get("listKind") or "").lower(), mixed),
    ):
        if text and (problems := dns_1035_label(text)):
            errors.append(invalid(f"{path}.{name}", names[name], prefix + ",".join(problems)))
    errors += _labels(f"{path}.shortNames", names.get("shortNames") or ())
    if names.get("kind") and names["kind"] == names.get("listKind"):
        errors.append(invalid(f"{path}.listKind", names["listKind"], "kind and listKind may not be the same"))
    return errors + _labels(f"{path}.categories", names.get("categories") or ())


def _labels(path: str, values: Iterable[str]) -> list[FieldError]:
    return [
        invalid(f"{path}[{i}]", value, ",".join(problems))
        for i, value in enumerate(values)
        if (problems := dns_1035_label(value))
    ]


def _conversion_errors(conversion: JSON | None) -> list[FieldError]:
    if conversion is None:
        return []
    strategy = conversion.get("strategy") or ""
    errors = _one_of("spec.conversion.strategy", strategy, ("None", "Webhook"))
    if strategy == "Webhook":
        errors.append(forbidden_field("spec.conversion.strategy", _WEBHOOK))
    elif conversion.get("webhook"):
        text = "should not be set when strategy is not set to Webhook"
        errors.append(forbidden_field("spec.conversion.webhookClientConfig", text))
    return errors


def _version_errors(version: JSON, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    name = version.get("name") or ""
    if problems := dns_1035_label(name):
        errors.append(invalid(f"{path}.name", name, ",".join(problems)))
    said = version.get("deprecationWarning")
    if said is not None and not version.get("deprecated"):
        errors.append(invalid(f"{path}.deprecationWarning", said, "can only be set for deprecated versions"))
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        errors.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
    else:
        errors += _schema_errors(schema, f"{path}.schema.openAPIV3Schema")
    for i, column in enumerate(version.get("additionalPrinterColumns") or ()):
        errors += _column_errors(column, f"{path}.additionalPrinterColumns[{i}]")
    errors += _scale_errors((version.get("subresources") or {}).get("scale"), f"{path}.subresources.scale")
    return errors + _selectable_errors(version.get("selectableFields") or [], schema or {}, f"{path}.selectableFields")


def _schema_errors(schema: JSON, path: str) -> list[FieldError]:
    errors = check_schema(schema, path)
    if errors:
        return errors
    compiled_schema = Schema(schema)
    if not _has_rules(compiled_schema):
        return []
    from twinstack.api.structural.rulechecks import check_rules  # few definitions have any

    return check_rules(compiled_schema, path)


def _has_rules(schema: Schema) -> bool:
    return bool(schema.rules) or any(_has_rules(inner) for _, inner in schema.children())


def _column_errors(column: JSON, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kinds = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not column.get("name"):
        errors.append(required(f"{path}.name"))
    if not column.get("type"):
        errors.append(required(f"{path}.type", kinds))
    elif column["type"] not in _COLUMN_TYPES:
        errors.append(invalid(f"{path}.type", column["type"], kinds))
    if column.get("format") and column["format"] not in _COLUMN_FORMATS:
        errors.append(invalid(f"{path}.format", column["format"], f"must be one of {','.join(_COLUMN_FORMATS)}"))
    if not column.get("jsonPath"):
        return [*errors, required(f"{path}.jsonPath")]
    return errors + _path_errors(f"{path}.jsonPath", column["jsonPath"])


def _path_errors(field: str, text: str) -> list[FieldError]:
    if not text.startswith("."):
        return [invalid(field, text, "must be a simple json path starting with .")]
    try:
        compiled(text)
    except JSONPathError as error:
        return [invalid(field, text, f"invalid JSONPath: {error}")]
    return []


def _scale_errors(scale: JSON | None, path: str) -> list[FieldError]:
    if scale is None:
        return []
    errors: list[FieldError] = []
    for name, roots, text in (
        ("specReplicasPath", (".spec.",), "should be a json path under .spec"),
        ("statusReplicasPath", (".status.",), "should be a json path under .status"),
        ("labelSelectorPath", (".spec.", ".status."), "should be a json path under either .spec or .status"),
    ):
        value = scale.get(name)
        if not value:
            if name != "labelSelectorPath":
                errors.append(required(f"{path}.{name}"))
            continue
        problems = _path_errors(f"{path}.{name}", value)
        if not problems and not value.startswith(roots):
            problems = [invalid(f"{path}.{name}", value, text)]
        errors += problems
    return errors


def _selectable_errors(fields: list[JSON], schema: JSON, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(fields) > _MOST_SELECTABLE:
        errors.append(too_many(path, len(fields), _MOST_SELECTABLE))
    seen: set[str] = set()
    for i, each in enumerate(fields):
        where, text = f"{path}[{i}].jsonPath", each.get("jsonPath") or ""
        if not text:
            errors.append(required(where))
            continue
        found = _field_type(text, schema)
        if found is None:
            errors.append(invalid(where, text, "is an invalid path: does not refer to a valid field"))
        elif text.startswith(".metadata"):
            errors.append(invalid(where, text, "must not point to fields in metadata"))
        elif found not in ("string", "boolean", "integer"):
            errors.append(
                invalid(
                    where,
                    text,
                    "must point to a field of type string, boolean or integer. Enum string fields"
                    " and strings with formats are allowed.",
                )
            )
        if text in seen:
            errors.append(duplicate(where, text))
        seen.add(text)
    return errors


def _field_type(path: str, schema: JSON) -> str | None:
    node: JSON | None = schema
    for name in path.removeprefix(".").split("."):
        node = (node.get("properties") or {}).get(name) if node is not None else None
    return None if node is None else node.get("type") or ""


def _approval_errors(definition: JSON, old: JSON | None) -> list[FieldError]:
    """Groups of the community are approved by it, or say that they are not (KEP-1111)."""
    group = definition["spec"].get("group") or ""
    if not (group.endswith((".k8s.io", ".kubernetes.io")) or group in ("k8s.io", "kubernetes.io")):
        return []
    field = f"metadata.annotations[{APPROVED}]"
    said = (definition["metadata"].get("annotations") or {}).get(APPROVED, "")
    if old is not None and said == (old["metadata"].get("annotations") or {}).get(APPROVED, ""):
        return []
    if not said:
        text = (
            f'protected groups must have approval annotation "{APPROVED}", see'
            " https://github.com/kubernetes/enhancements/pull/1111"
        )
        return [required(field, text)]
    if said.startswith(("unapproved", "https://", "http://")):
        return []
    return [
        invalid(
            field,
            said,
            f'protected groups must have approval annotation "{APPROVED}" with either a URL or a reason starting with'
            ' "unapproved", see https://github.com/kubernetes/enhancements/pull/1111',
        )
    ]


def _update_errors(new: JSON, old: JSON) -> list[FieldError]:
    errors: list[FieldError] = []
    established = any(
        each["type"] == "Established" and each["status"] == "True"
        for each in (old.get("status") or {}).get("conditions") or []
    )
    getters: list[tuple[str, Callable[[JSON], Any]]] = [
        ("spec.group", lambda spec: spec.get("group")),
        ("spec.names.plural", lambda spec: spec["names"].get("plural")),
    ]
    if established:
        getters = [
            ("spec.scope", lambda spec: spec.get("scope")),
            ("spec.names.kind", lambda spec: spec["names"].get("kind")),
            *getters,
        ]
    for field, get in getters:
        if get(new["spec"]) != get(old["spec"]):
            errors.append(invalid(field, get(new["spec"]), "field is immutable"))
    return errors + stored_errors(new)


def stored_errors(definition: JSON) -> list[FieldError]:
    """Versions that objects may be stored in stay."""
    stored = (definition.get("status") or {}).get("storedVersions") or []
    names = {version.get("name") for version in definition["spec"].get("versions") or ()}
    errors = [
        invalid(f"status.storedVersions[{i}]", name, _KEEP_STORED.format(name))
        for i, name in enumerate(stored)
        if name not in names
    ]
    storage = next((v.get("name") for v in definition["spec"].get("versions") or () if v.get("storage")), None)
    if storage is not None and storage not in stored:
        errors.append(invalid("status.storedVersions", stored, f"must have the storage version {storage}"))
    return errors
