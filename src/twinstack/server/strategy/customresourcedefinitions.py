"""apiextensions.k8s.io/v1 CustomResourceDefinition: defaults, rules, and the versions that objects were stored in."""

from __future__ import annotations

from collections.abc import Sequence

from twinstack.api.errors import FieldError, bad_request
from twinstack.api.schema import TypeMismatch
from twinstack.api.structural.reading import read_nested
from twinstack.api.validation import each
from twinstack.server.customresources import definitions
from twinstack.server.customresources.catalogue import storage_version
from twinstack.server.strategy.base import JSON, Change, Strategy, WriteContext


class DefinitionStrategy(Strategy):
    status_on_create = True

    def default(self, obj: JSON) -> None:
        spec = obj["spec"]
        names = spec["names"]
        if not names.get("singular") and names.get("kind"):
            names["singular"] = names["kind"].lower()
        if not names.get("listKind") and names.get("kind"):
            names["listKind"] = f"{names['kind']}List"
        if not (spec.get("conversion") or {}).get("strategy"):
            spec["conversion"] = (spec.get("conversion") or {}) | {"strategy": "None"}
        for version in spec.get("versions") or ():
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            if schema is not None:
                self._read(schema)

    @staticmethod
    def _read(schema: JSON) -> None:
        """Raises StatusError 400."""
        try:
            read_nested(schema)
        except TypeMismatch as error:
            kind = "CustomResourceDefinition"
            raise bad_request(f'{kind} in version "v1" cannot be handled as a {kind}: {error}') from error

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        obj["status"] = {"acceptedNames": {"kind": "", "plural": ""}}
        self._remember_storage(obj)

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        self._remember_storage(new)

    @staticmethod
    def _remember_storage(obj: JSON) -> None:
        """The storage version is one of those that objects may be stored in."""
        versions = obj["spec"].get("versions") or []
        if sum(bool(version.get("storage")) for version in versions) != 1:
            return
        status = obj.setdefault("status", {"acceptedNames": {"kind": "", "plural": ""}})
        stored = status.get("storedVersions") or []
        if (name := storage_version(obj)) not in stored:
            status["storedVersions"] = [*stored, name]

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        names = each("metadata.name", obj["metadata"].get("name", ""), definitions.name_errors(obj))
        return [*names, *definitions.check_definition(obj, old)]

    def update_status(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        """Metadata stays, but for who wrote what."""
        meta = dict(old["metadata"])
        if "managedFields" in new["metadata"]:
            meta["managedFields"] = new["metadata"]["managedFields"]
        new["metadata"] = meta
        return super().update_status(ctx, new, old)

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        return definitions.stored_errors(obj)
