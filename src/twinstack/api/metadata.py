"""Rules of ObjectMeta (meta/v1), on create and on update.

Objects are plain JSON whose types the schema has already checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, forbidden_field, go_value, invalid, required, too_long
from twinstack.api.validation import NameRule, dns_label, each, qualified_name

JSON = dict[str, Any]

IMMUTABLE = "field is immutable"
MAX_ANNOTATIONS = 256 * 1024  # bytes, keys and values together
STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
_NONE: JSON = {}
_OWNER_FIELDS = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")


def validate_create(
    meta: JSON,
    *,
    namespaced: bool,
    name_rule: NameRule = validation.dns_subdomain,
    finalizer_names: bool = True,
    path: str = "metadata",
    old: JSON = _NONE,
) -> list[FieldError]:
    """What any object's metadata must be.

    `name_rule` judges the name, and a generateName as if a letter stood for its trailing dash.
    `finalizer_names` adds the built-in kinds' rule that a finalizer is a standard one or has a domain.
    `old`: stored metadata; what has been judged with them is not judged again.
    """
    errors: list[FieldError] = []
    generate_name, name, namespace = (meta.get(key) or "" for key in ("generateName", "name", "namespace"))
    if generate_name:
        errors += each(f"{path}.generateName", generate_name, name_rule(_mask_trailing_dash(generate_name)))
    if name:
        errors += each(f"{path}.name", name, name_rule(name))
    else:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    if not namespaced:
        if namespace:
            errors.append(forbidden_field(f"{path}.namespace", "not allowed on this type"))
    elif namespace:
        errors += each(f"{path}.namespace", namespace, dns_label(namespace))
    else:
        errors.append(required(f"{path}.namespace"))
    errors += validation.non_negative(f"{path}.generation", meta.get("generation") or 0)
    errors += _labels_annotations_owners(meta, old, path)
    finalizers = meta.get("finalizers") or []
    errors += _finalizers(finalizers, f"{path}.finalizers")
    if finalizer_names:
        errors += finalizer_name_rule(finalizers, f"{path}.finalizers")
    return errors


def validate_update(new: JSON, old: JSON, path: str = "metadata") -> list[FieldError]:
    """What an update may do to metadata; `validate_create` judges the rest."""
    errors: list[FieldError] = []
    if old.get("deletionTimestamp"):
        errors += _no_new_finalizers(new.get("finalizers") or [], old.get("finalizers") or [], f"{path}.finalizers")
    if not new.get("resourceVersion"):
        errors.append(invalid(f"{path}.resourceVersion", "", "must be specified for an update"))
    if (new.get("generation") or 0) < (old.get("generation") or 0):
        errors.append(invalid(f"{path}.generation", new.get("generation") or 0, "must not be decremented"))
    for key in _FIXED:
        if (new.get(key) or None) != (old.get(key) or None):
            empty = "" if key in ("name", "namespace", "uid") else None
            errors.append(invalid(f"{path}.{key}", new.get(key, empty), IMMUTABLE))
    errors += _labels_annotations_owners(new, old, path)
    return errors


def immutable(field: str, new: object, old: object) -> list[FieldError]:
    """`field is immutable` when the two differ."""
    return [] if new == old else [invalid(field, new, IMMUTABLE)]


def finalizer_name_rule(finalizers: Iterable[str], field: str) -> list[FieldError]:
    return [
        invalid(f"{field}[{i}]", name, "name is neither a standard finalizer name nor is it fully qualified")
        for i, name in enumerate(finalizers)
        if "/" not in name and name not in STANDARD_FINALIZERS
    ]


def annotation_rules(field: str, values: Mapping[str, str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in values:
        errors += each(field, key, qualified_name(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in values.items()) > MAX_ANNOTATIONS:
        errors.append(too_long(field, MAX_ANNOTATIONS))
    return errors


def _mask_trailing_dash(name: str) -> str:
    """A generateName may end in a dash, though no name may."""
    return f"{name[:-2]}a" if len(name) > 1 and name.endswith("-") else name


def _labels_annotations_owners(meta: JSON, old: JSON, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name, rule in (("labels", validation.labels), ("annotations", annotation_rules)):
        values = meta.get(name)
        if values and values != old.get(name):
            errors += rule(f"{path}.{name}", values)
    references = meta.get("ownerReferences")
    if references and references != old.get("ownerReferences"):
        errors += _owner_references(references, f"{path}.ownerReferences")
    return errors


def _owner_json(reference: JSON) -> JSON:
    """The fields in the API's order; the first four are printed even when empty."""
    return {key: reference.get(key, "") for key in _OWNER_FIELDS if key in reference or key in _OWNER_FIELDS[:4]}


def _owner_references(references: list[JSON], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for reference in references:
        errors += _owner_reference(reference, field)
        if not reference.get("controller"):
            continue
        name = f"{reference.get('kind', '')}/{reference.get('name', '')}"
        if controller:
            detail = (
                "Only one reference can have Controller set to true. "
                f'Found "true" in references for {controller} and {name}'
            )
            errors.append(invalid(field, [_owner_json(each_reference) for each_reference in references], detail))
        else:
            controller = name
    return errors


def _owner_reference(reference: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    api_version, kind, name, uid = (reference.get(key) or "" for key in _OWNER_FIELDS[:4])
    group, _, version = api_version.rpartition("/")
    if not version or "/" in group:
        errors.append(invalid(f"{field}.apiVersion", api_version, "version must not be empty"))
    for key, value in (("kind", kind), ("name", name), ("uid", uid)):
        if not value:
            errors.append(invalid(f"{field}.{key}", value, "must not be empty"))
    if (api_version, kind) == ("v1", "Event"):
        errors.append(invalid(field, _owner_json(reference), "/v1, Kind=Event is disallowed from being an owner"))
    return errors


def _finalizers(finalizers: list[str], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in finalizers:
        errors += each(field, name, qualified_name(name))
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid(field, finalizers, detail))
    return errors


def _no_new_finalizers(new: list[str], old: list[str], field: str) -> list[FieldError]:
    extra = sorted(set(new) - set(old))
    if not extra:
        return []
    shown = ", ".join(go_value(name) for name in extra)
    detail = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{shown}}}"
    return [forbidden_field(field, detail)]
