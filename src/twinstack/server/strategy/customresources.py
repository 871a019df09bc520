"""Objects of kinds that are defined by the cluster's objects (apiextensions, customresource strategy)."""

from __future__ import annotations

from twinstack.api.errors import FieldError, StatusError, invalid
from twinstack.api.fieldsets.sets import FieldSet
from twinstack.api.resources import Resource
from twinstack.server.customresources.jsonpath import find
from twinstack.server.strategy.base import JSON, Change, Strategy, WriteContext


class CustomStrategy(Strategy):
    """Of one version of one definition."""

    metadata_twice = False

    def __init__(self, resource: Resource) -> None:
        assert resource.custom is not None
        self._kind = resource.custom
        self._has_status = resource.has_status
        self._api_version = resource.group_version

    def default(self, obj: JSON) -> None:
        self._kind.complete(obj)

    def create(self, ctx: WriteContext, obj: JSON) -> Change:
        if self._kind.terminating:
            text = "create not allowed while custom resource definition is terminating"
            raise StatusError(
                405, "MethodNotAllowed", text, details={"group": ctx.resource.group, "kind": ctx.resource.plural}
            )
        if self._has_status:
            obj.pop("status", None)
        errors = [*self._type_errors(obj), *self.metadata_on_create(ctx, obj)]
        return self._judged(ctx, obj, None, errors)

    def update(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        if self._has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        errors = [*self._type_errors(new), *self.metadata_on_update(ctx, new, old)]
        return self._judged(ctx, new, old, errors)

    def update_status(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        """The status alone changes; who wrote it is remembered."""
        meta = dict(old["metadata"])
        if "managedFields" in new["metadata"]:
            meta["managedFields"] = new["metadata"]["managedFields"]
        result = old | {"metadata": meta}
        result.pop("status", None)
        if "status" in new:
            result["status"] = new["status"]
        return self._judged(ctx, result, old, self._type_errors(new))

    def reset_fields(self, resource: Resource, subresource: str) -> FieldSet:
        if subresource == "status":
            kept = ("apiVersion", "kind", "status")
            return {f"f:{name}": {} for name in ("metadata", *self._kind.schema.properties) if name not in kept}
        return {"f:status": {}} if self._has_status and subresource != "scale" else {}

    def _judged(self, ctx: WriteContext, obj: JSON, old: JSON | None, errors: list[FieldError]) -> Change:
        judgement = self._kind.validate(obj, old)
        self._check(ctx, obj, [*errors, *self._scale_errors(obj), *judgement.errors])
        return Change(object=obj, warnings=judgement.warnings)

    def _type_errors(self, obj: JSON) -> list[FieldError]:
        wanted = (("kind", self._kind.kind), ("apiVersion", self._api_version))
        return [invalid(name, obj.get(name), f"must be {value}") for name, value in wanted if obj.get(name) != value]

    def _scale_errors(self, obj: JSON) -> list[FieldError]:
        errors: list[FieldError] = []
        paths = self._kind.scale or {}
        for name in ("specReplicasPath", "statusReplicasPath"):
            found = find(paths[name], obj) if paths.get(name) else []
            if found and type(found[0]) is int and found[0] < 0:
                errors.append(invalid(paths[name], found[0], "should be a non-negative integer"))
        return errors
