"""Which object owns which (metadata.ownerReferences)."""

from __future__ import annotations

from twinstack.api.meta import Object, OwnerReference


def controller_of(obj: Object) -> OwnerReference | None:
    """The one owner that controls `obj`, if any."""
    return next((reference for reference in obj.metadata.owner_references if reference.controller), None)


def owner_uid(obj: Object) -> list[str]:
    """For an index: the uid of the controlling owner, or nothing."""
    reference = controller_of(obj)
    return [reference.uid] if reference is not None else []


def orphan_namespace(obj: Object) -> list[str]:
    """For an index: the namespace of an object that nothing controls, or nothing."""
    return [] if controller_of(obj) is not None else [obj.metadata.namespace]


def reference_to(owner: Object) -> OwnerReference:
    """The reference by which `owner` controls what it creates."""
    return OwnerReference(
        api_version=owner.api_version,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=True,
        block_owner_deletion=True,
    )
