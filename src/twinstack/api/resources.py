"""The resources that the server serves and every component names: one row a resource.

A kind is data. Routing, discovery, OpenAPI, storage keys and clients all read this table; what one kind
does differently from the others lives in its strategy (server/strategy/).
"""

from __future__ import annotations

import msgspec

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

    @property
    def group_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()

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


_STATUS = (Subresource("status"),)
_SCALE = Subresource("scale", kind="Scale", group="autoscaling", version="v1")
_POD_FIELDS = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
)
_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_EVENTS_V1_FIELDS = (
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
)

# Order is upstream's order of groups: it decides which group an ambiguous short name means.
RESOURCES: tuple[Resource, ...] = (
    Resource(plural="bindings", kind="Binding", schema="core.v1.Binding", verbs=("create",)),
    Resource(plural="configmaps", kind="ConfigMap", schema="core.v1.ConfigMap", short_names=("cm",)),
    Resource(
        plural="endpoints",
        kind="Endpoints",
        schema="core.v1.Endpoints",
        short_names=("ep",),
        create_on_update=True,
        deprecated="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ),
    Resource(
        plural="events",
        kind="Event",
        schema="core.v1.Event",
        short_names=("ev",),
        fields=_EVENT_FIELDS,
        create_on_update=True,
    ),
    Resource(
        plural="namespaces",
        kind="Namespace",
        schema="core.v1.Namespace",
        namespaced=False,
        short_names=("ns",),
        verbs=NO_COLLECTION_DELETE,
        subresources=(Subresource("finalize", ("update",)), Subresource("status")),
        fields=("status.phase",),
        returns_deleted=True,
    ),
    Resource(
        plural="nodes",
        kind="Node",
        schema="core.v1.Node",
        namespaced=False,
        short_names=("no",),
        subresources=_STATUS,
        fields=("spec.unschedulable",),
    ),
    Resource(
        plural="pods",
        kind="Pod",
        schema="core.v1.Pod",
        short_names=("po",),
        categories=("all",),
        subresources=(
            Subresource("binding", ("create",), "Binding"),
            Subresource("log", ("get",)),
            Subresource("status"),
        ),
        fields=_POD_FIELDS,
        generation=True,
        returns_deleted=True,
    ),
    Resource(plural="secrets", kind="Secret", schema="core.v1.Secret", fields=("type",)),
    Resource(
        plural="serviceaccounts",
        kind="ServiceAccount",
        schema="core.v1.ServiceAccount",
        short_names=("sa",),
        returns_deleted=True,
    ),
    Resource(
        plural="services",
        kind="Service",
        schema="core.v1.Service",
        short_names=("svc",),
        categories=("all",),
        subresources=_STATUS,
        fields=("spec.clusterIP", "spec.type"),
        create_on_update=True,
        returns_deleted=True,
    ),
    Resource(
        group="apps",
        plural="deployments",
        kind="Deployment",
        schema="apps.v1.Deployment",
        short_names=("deploy",),
        categories=("all",),
        subresources=(_SCALE, Subresource("status")),
        generation=True,
    ),
    Resource(
        group="apps",
        plural="replicasets",
        kind="ReplicaSet",
        schema="apps.v1.ReplicaSet",
        short_names=("rs",),
        categories=("all",),
        subresources=(_SCALE, Subresource("status")),
        fields=("status.replicas",),
        generation=True,
    ),
    Resource(
        group="events.k8s.io",
        plural="events",
        kind="Event",
        schema="events.v1.Event",
        short_names=("ev",),
        fields=_EVENTS_V1_FIELDS,
        create_on_update=True,
        storage="events/",
    ),
    Resource(
        group="networking.k8s.io",
        plural="ipaddresses",
        kind="IPAddress",
        schema="networking.v1.IPAddress",
        namespaced=False,
        short_names=("ip",),
        fields=("spec.parentRef.group", "spec.parentRef.resource", "spec.parentRef.namespace", "spec.parentRef.name"),
    ),
    Resource(
        group="networking.k8s.io",
        plural="servicecidrs",
        kind="ServiceCIDR",
        schema="networking.v1.ServiceCIDR",
        namespaced=False,
        subresources=_STATUS,
    ),
    Resource(
        group="coordination.k8s.io",
        plural="leases",
        kind="Lease",
        schema="coordination.v1.Lease",
        create_on_update=True,
        unconditional_update=False,
    ),
    Resource(
        group="discovery.k8s.io",
        plural="endpointslices",
        kind="EndpointSlice",
        schema="discovery.v1.EndpointSlice",
        generation=True,
    ),
)

_BY_PLURAL = {(resource.group, resource.plural): resource for resource in RESOURCES}
_BY_KIND = {(resource.group_version, resource.kind): resource for resource in RESOURCES}


def resource(group: str, plural: str) -> Resource:
    """The row of a resource that is known to exist. Raises KeyError."""
    return _BY_PLURAL[group, plural]


def find(group: str, version: str, plural: str) -> Resource | None:
    """The row that serves a URL, if any."""
    row = _BY_PLURAL.get((group, plural))
    return row if row is not None and row.version == version else None


def find_kind(api_version: str, kind: str) -> Resource | None:
    """The row of an object's apiVersion and kind, if any."""
    return _BY_KIND.get((api_version, kind))
