"""How one kind is defaulted, checked and changed: the interface between generic verbs and single kinds.

A strategy is a pure function of the request, the old object and what the reader shows. It returns what to
write; the verbs write it in one transaction together with `also`, so an allocation and the object that
owns it appear or fail together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from twinstack.api import metadata
from twinstack.api.errors import FieldError, invalid_object
from twinstack.api.fieldsets.sets import FieldSet
from twinstack.api.resources import Resource
from twinstack.api.schema import field_at, zero_object
from twinstack.api.validation import NameRule, dns_subdomain, path_segment
from twinstack.ip import CIDR, Address
from twinstack.server.messages import UserInfo
from twinstack.store import Operation

JSON = dict[str, Any]


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What strategies know of the server's flags. The first range is the primary family."""

    service_ranges: tuple[CIDR, ...]
    node_ports: range
    secure_port: int
    advertise_addresses: tuple[Address, ...] = ()
    disabled_admission_plugins: frozenset[str] = frozenset()
    unacted: frozenset[str] = frozenset()  # resources, as plural.group, on which nobody in the cluster acts


class Reader(Protocol):
    """The stored objects, as of the last durable change. Returned dicts must not be changed."""

    def get(self, resource: Resource, namespace: str, name: str) -> JSON | None: ...

    def exists(self, key: str) -> bool:
        """Whether a storage key is taken; also for keys that are no API objects."""

    def list(self, resource: Resource, namespace: str = "") -> Iterable[JSON]: ...


class WriteContext(msgspec.Struct, frozen=True, kw_only=True):
    """One write request, as strategies see it."""

    resource: Resource
    namespace: str
    name: str
    user: UserInfo
    config: ServerConfig
    reader: Reader
    now: str  # meta/v1 Time
    dry_run: bool = False


class Change(msgspec.Struct):
    """What a write comes to."""

    object: JSON
    also: list[Operation] = []
    warnings: list[str] = []


def empty_status(resource: Resource) -> JSON:
    """The status of an object nobody has acted on yet."""
    field = field_at(resource.schema, ("status",))
    assert field is not None
    return zero_object(field.type) if field.is_object else {}


class Strategy:
    """A kind without rules of its own; kinds override what differs.

    Order of a create: `default`, then `create`. Of an update: `default` on the new object, then `update`
    or, for the status subresource, `update_status`. The verbs have already filled uid, creationTimestamp and
    the like, and restored what a request may not touch. The rules of metadata are checked here, in one answer
    with the kind's own: a strategy that replaces `create` or `update` calls `metadata_on_create` or
    `metadata_on_update` for them.
    """

    name_rule: NameRule = staticmethod(dns_subdomain)
    counted_metadata: tuple[str, ...] = ()  # fields of metadata whose change counts for the generation
    status_on_create = False  # what a create says about the status is kept
    metadata_twice = True  # an update judges the metadata also by the rules of a create of this kind
    metadata_changes_twice = True  # and what it changes there generically and by kind

    def default(self, obj: JSON) -> None:
        """Versioned defaults, in place: on every decoded request body."""

    def unveil(self, reader: Reader, obj: JSON) -> JSON:
        """What a patch starts from: `obj` as it is shown, with whatever is stored beside it. May change `obj`."""
        return obj

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        """Change what a create may not set, in place."""

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        """Restore what an update may not set, in place."""

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        """The kind's own rules; `old` is None on create."""
        return ()

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        return ()

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        return []

    def create(self, ctx: WriteContext, obj: JSON) -> Change:
        if ctx.resource.has_status and not self.status_on_create:
            obj["status"] = empty_status(ctx.resource)
        self.prepare_create(ctx, obj)
        self._check(ctx, obj, [*self.metadata_on_create(ctx, obj), *self.validate(ctx, obj, None)])
        return Change(object=obj, warnings=self.warnings(ctx, obj, None))

    def update(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        if ctx.resource.has_status:
            if "status" in old:
                new["status"] = old["status"]
            else:
                new.pop("status", None)
        self.prepare_update(ctx, new, old)
        errors = self.metadata_on_update(ctx, new, old)
        if self.metadata_twice:
            errors += self.metadata_on_create(ctx, new)
        self._check(ctx, new, [*errors, *self.validate(ctx, new, old)])
        return Change(object=new, warnings=self.warnings(ctx, new, old))

    def update_status(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        if "spec" in old:
            new["spec"] = old["spec"]
        else:
            new.pop("spec", None)
        errors = [*self.metadata_on_update(ctx, new, old), *self.validate_status(ctx, new, old)]
        self._check(ctx, new, errors)
        return Change(object=new)

    def reset_fields(self, resource: Resource, subresource: str) -> FieldSet:
        """What a write of a subresource, or of the object itself for "", cannot change, and so nobody owns by it."""
        if subresource == "status":
            return {"f:spec": {}}
        return {"f:status": {}} if resource.has_status and subresource != "scale" else {}

    def update_subresource(self, ctx: WriteContext, subresource: str, new: JSON, old: JSON) -> Change:
        """What a write of a subresource comes to; `scale` is an update of the object itself."""
        return self.update_status(ctx, new, old) if subresource == "status" else self.update(ctx, new, old)

    def delete(self, ctx: WriteContext, old: JSON) -> list[Operation]:
        """What else goes when the object really leaves the store."""
        return []

    def metadata_on_create(self, ctx: WriteContext, obj: JSON) -> list[FieldError]:
        return metadata.validate_create(
            obj["metadata"], namespaced=ctx.resource.namespaced, name_rule=type(self).name_rule
        )

    def metadata_on_update(self, ctx: WriteContext, new: JSON, old: JSON) -> list[FieldError]:
        """The API server judges an update twice, generically and by kind; its Status lists each cause as often."""
        new_meta, old_meta = new["metadata"], old["metadata"]
        changes = metadata.validate_update(new_meta, old_meta)
        return [
            *metadata.validate_create(
                new_meta,
                namespaced=ctx.resource.namespaced,
                name_rule=path_segment,
                finalizer_names=False,
                old=old_meta,
            ),
            *changes,
            *(changes if self.metadata_changes_twice else ()),
            *metadata.finalizer_name_rule(new_meta.get("finalizers") or [], "metadata.finalizers"),
        ]

    @staticmethod
    def _check(ctx: WriteContext, obj: JSON, errors: Sequence[FieldError]) -> None:
        if errors:
            name = obj.get("metadata", {}).get("name", ctx.name)
            raise invalid_object(ctx.resource.kind, name, errors, ctx.resource.group)
