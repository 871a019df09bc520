"""What must hold before a write is even looked at: names, namespaces, versions. Raises StatusError."""

from __future__ import annotations

from typing import Any

from twinstack.api.errors import StatusError, bad_request, conflict, forbidden, invalid, invalid_object, not_found
from twinstack.api.resources import Resource, resource
from twinstack.server.messages import Route
from twinstack.server.options import object_version
from twinstack.server.strategy.base import Reader

JSON = dict[str, Any]

IMMORTAL_NAMESPACES = ("default", "kube-system", "kube-public")
_NAMESPACES = resource("", "namespaces")
_STORE_PREFIXES = {"services": "services/specs", "nodes": "minions", "endpoints": "services/endpoints"}


def check_namespace(reader: Reader, route: Route, name: str, *, creating: bool) -> None:
    """404 in a namespace that is not there, 403 for new content in one that is going."""
    row = route.resource
    if not row.namespaced:
        return
    namespace = reader.get(_NAMESPACES, "", route.namespace)
    if namespace is None:
        raise not_found("namespaces", route.namespace)
    if not creating or (namespace.get("status") or {}).get("phase") != "Terminating":
        return
    detail = f"unable to create new content in namespace {route.namespace} because it is being terminated"
    error = forbidden(row.plural, name, detail, row.group)
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {route.namespace} is being terminated",
        "field": "metadata.namespace",
    }
    error.details = (error.details or {}) | {"causes": [cause]}
    raise error


def check_identity(meta: JSON, route: Route) -> None:
    """The name and namespace in the body of a PUT or of a patched object must be those of the URL."""
    name = meta.get("name") or ""
    if not name:
        detail = f"the name of the object ({route.name} based on URL) was undeterminable: name must be provided"
        raise bad_request(detail)
    if name != route.name:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({route.name})")
    check_body_namespace(meta, route)


def check_body_namespace(meta: JSON, route: Route) -> None:
    """The namespace in a body is that of the URL, or none; objects of the cluster forget it."""
    if not route.resource.namespaced:
        meta.pop("namespace", None)
        return
    namespace = meta.get("namespace") or ""
    if namespace and namespace != route.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def check_version(row: Resource, name: str, meta: JSON, revision: int) -> None:
    """The optimistic lock: a resourceVersion in the body must be the stored one."""
    wanted = object_version(meta.get("resourceVersion") or "")
    if not wanted and not row.unconditional_update:
        error = invalid("metadata.resourceVersion", 0, "must be specified for an update")
        raise invalid_object(row.plural, name, [error], row.group)
    if wanted and wanted != revision:
        raise conflict(row.plural, name, group=row.group)


def check_uid(route: Route, meta: JSON, uid: str) -> None:
    """A uid in the body of a PUT must be the stored one."""
    wanted = meta.get("uid")
    if wanted and wanted != uid:
        raise _uid_conflict(route, wanted, uid)


def _uid_conflict(route: Route, wanted: str, found: str) -> StatusError:
    """Upstream shows its etcd key here; clients and tests know this text."""
    row = route.resource
    place = _STORE_PREFIXES.get(row.plural, row.plural)
    key = "/".join(part for part in ("/registry", place, route.namespace, route.name) if part)
    detail = (
        f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
        f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    )
    return conflict(row.plural, route.name, detail, row.group)


def check_mortal(route: Route) -> None:
    """Three namespaces are never deleted."""
    row = route.resource
    if row.plural == "namespaces" and not row.group and route.name in IMMORTAL_NAMESPACES:
        raise forbidden(row.plural, route.name, "this namespace may not be deleted")
