"""What one row of the table of resources says; the rows are in `twinstack.api.resources`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from twinstack.api.structural.kind import CustomKind

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
NO_COLLECTION_DELETE = tuple(verb for verb in ALL_VERBS if verb != "deletecollection")
STATUS_VERBS = ("get", "patch", "update")


class Subresource(msgspec.Struct, frozen=True):
    """`pods/binding` and the like. An empty kind is the parent's."""

    name: str
    verbs: tuple[str, ...] = STATUS_VERBS
    kind: str = ""
    group: str = ""
    version: str = ""


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One served resource.

    `schema` names its type in the schema table. `fields` are the field selectors beside metadata.name and
    metadata.namespace. `storage` is the collection in the store; two resources may share one.
    """

    group: str = ""
    version: str = "v1"
    plural: str
    kind: str
    schema: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    fields: tuple[str, ...] = ()
    generation: bool = False  # metadata.generation counts changes outside metadata and status
    create_on_update: bool = False  # PUT to an absent name creates
    unconditional_update: bool = True  # PUT without resourceVersion
    returns_deleted: bool = False  # DELETE answers with the object, not with a Status
    deprecated: str = ""  # the warning that every answer carries
    storage: str = ""
    custom: CustomKind | None = None  # what defines the kind, if it is not built in; `schema` then begins with a slash

    @property
    def group_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower() if self.custom is None else self.custom.singular

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List" if self.custom is None else self.custom.list_kind

    @property
    def has_status(self) -> bool:
        return any(sub.name == "status" for sub in self.subresources)

    @property
    def prefix(self) -> str:
        """Start of every storage key: `services/`, `apps/deployments/`."""
        return self.storage or (f"{self.group}/{self.plural}/" if self.group else f"{self.plural}/")

    def key(self, namespace: str, name: str) -> str:
        """The storage key of one object."""
        return f"{self.prefix}{namespace}/{name}" if self.namespaced else f"{self.prefix}{name}"

    def split_key(self, key: str) -> tuple[str, str]:
        """Namespace and name of a storage key."""
        namespace, _, name = key.removeprefix(self.prefix).rpartition("/")
        return namespace, name

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, one object or a subresource. No namespace: all of them."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def subresource(self, name: str) -> Subresource | None:
        return next((sub for sub in self.subresources if sub.name == name), None)
