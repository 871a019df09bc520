"""Every resource that is served: the built-in rows, and those that established definitions add."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from twinstack.api.resources import RESOURCES, STATUS_VERBS, Resource, Subresource, resource
from twinstack.api.structural.kind import CustomKind

JSON = dict[str, Any]

DEFINITIONS = resource("apiextensions.k8s.io", "customresourcedefinitions")
_STATUS = Subresource("status", STATUS_VERBS)
_SCALE = Subresource("scale", STATUS_VERBS, "Scale", "autoscaling", "v1")
_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")
_MATURITY = {"alpha": 0, "beta": 1, None: 2}


class Definition(msgspec.Struct, frozen=True):
    """One definition as it is served: its rows, the preferred version first."""

    generation: int
    established: bool
    rows: tuple[Resource, ...] = ()


class Catalogue:
    """`rows` finds a resource by group, version and plural. `generation` counts changes."""

    def __init__(self) -> None:
        self.rows = {(row.group, row.version, row.plural): row for row in RESOURCES}
        self.groups = {row.group for row in RESOURCES if row.group}
        self.generation = 0
        self._definitions: dict[str, Definition] = {}

    @property
    def custom(self) -> list[Resource]:
        """The rows of definitions, by group and plural."""
        return [row for name in sorted(self._definitions, key=_by_group) for row in self._definitions[name].rows]

    @property
    def resources(self) -> Sequence[Resource]:
        return (*RESOURCES, *self.custom) if self._definitions else RESOURCES

    def put(self, name: str, definition: JSON, revision: int) -> bool:
        """Take over the definition of that name; returns whether what is served has changed."""
        known = self._definitions.get(name)
        generation = definition["metadata"].get("generation", 0)
        established = is_established(definition)
        terminating = bool(definition["metadata"].get("deletionTimestamp"))
        if known is not None and (known.generation, known.established) == (generation, established):
            for row in known.rows:
                assert row.custom is not None
                row.custom.terminating = terminating
            return False
        rows = tuple(rows_of(definition, revision)) if established else ()
        for row in rows:
            assert row.custom is not None
            row.custom.terminating = terminating
        self._replace(name, Definition(generation, established, rows))
        return bool(rows or (known is not None and known.rows))

    def drop(self, name: str) -> bool:
        """The definition is gone; returns whether anything was served by it."""
        known = self._definitions.get(name)
        self._replace(name, None)
        return known is not None and bool(known.rows)

    def rows_of(self, name: str) -> tuple[Resource, ...]:
        known = self._definitions.get(name)
        return known.rows if known is not None else ()

    def _replace(self, name: str, definition: Definition | None) -> None:
        for row in self.rows_of(name):
            del self.rows[row.group, row.version, row.plural]
        if definition is None:
            self._definitions.pop(name, None)
        else:
            self._definitions[name] = definition
            self.rows |= {(row.group, row.version, row.plural): row for row in definition.rows}
        self.groups = {group for group, _, _ in self.rows if group}
        self.generation += 1


def _by_group(name: str) -> tuple[str, str]:
    plural, _, group = name.partition(".")
    return group, plural


def is_established(definition: JSON) -> bool:
    return condition(definition, "Established") == "True"


def condition(definition: JSON, kind: str) -> str:
    """The status of a condition; empty if there is none."""
    conditions = (definition.get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == kind), "")


def version_rank(name: str) -> tuple[Any, ...]:
    """Sorts versions as Kubernetes prefers them: v2, v1, v1beta2, v1alpha1, then other names."""
    match = _VERSION.fullmatch(name)
    if match is None:
        return (1, name)
    major, maturity, minor = match.groups()
    return (0, -_MATURITY[maturity], -int(major), -int(minor or 0))


def storage_version(definition: JSON) -> str:
    return next(str(version["name"]) for version in definition["spec"]["versions"] if version.get("storage"))


def rows_of(definition: JSON, revision: int) -> list[Resource]:
    """The rows of the served versions. `revision` is the definition's own in the store."""
    spec = definition["spec"]
    names = (definition.get("status") or {}).get("acceptedNames") or spec["names"]
    group, storage = spec["group"], storage_version(definition)
    rows: list[Resource] = []
    for version in sorted(spec["versions"], key=lambda each: version_rank(each["name"])):
        if not version.get("served"):
            continue
        kind = CustomKind(
            msgspec.json.encode(version),
            group=group,
            kind=names["kind"],
            singular=names.get("singular") or names["kind"].lower(),
            list_kind=names.get("listKind") or f"{names['kind']}List",
            storage=storage,
            since=revision,
        )
        rows.append(_row(spec, names, version, kind))
    return rows


def _row(spec: JSON, names: JSON, version: JSON, kind: CustomKind) -> Resource:
    wanted = version.get("subresources") or {}
    subresources = [found for name, found in (("status", _STATUS), ("scale", _SCALE)) if wanted.get(name) is not None]
    reverse = ".".join(reversed(spec["group"].split(".")))
    return Resource(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        kind=names["kind"],
        schema=f"/{reverse}.{version['name']}.{names['kind']}",
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=tuple(subresources),
        fields=tuple(each["jsonPath"].removeprefix(".") for each in version.get("selectableFields") or ()),
        generation=True,
        unconditional_update=False,
        deprecated=_deprecation(spec, names, version),
        custom=kind,
    )


def _deprecation(spec: JSON, names: JSON, version: JSON) -> str:
    if not version.get("deprecated"):
        return ""
    said = version.get("deprecationWarning")
    return said if said is not None else f"{spec['group']}/{version['name']} {names['kind']} is deprecated"
