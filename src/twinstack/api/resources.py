"""The resources that the server serves and every component names: one row a resource.

A kind is data. Routing, discovery, OpenAPI, storage keys and clients all read this table; what one kind
does differently from the others lives in its strategy (server/strategy/).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinstack.api.resource import ALL_VERBS, NO_COLLECTION_DELETE, STATUS_VERBS, Resource, Subresource

__all__ = [
    "ALL_VERBS",
    "NO_COLLECTION_DELETE",
    "RESOURCES",
    "STATUS_VERBS",
    "Resource",
    "Subresource",
    "find",
    "find_kind",
    "resource",
]

_APPROVAL = Subresource("approval")
_ATTACH = Subresource("attach", ("create", "get"), "PodAttachOptions")
_BINDING = Subresource("binding", ("create",), "Binding")
_EPHEMERAL = Subresource("ephemeralcontainers")
_EVICTION = Subresource("eviction", ("create",), "Eviction", "policy", "v1")
_EXEC = Subresource("exec", ("create", "get"), "PodExecOptions")
_FINALIZE = Subresource("finalize", ("update",))
_LOG = Subresource("log", ("get",))
_PORT_FORWARD = Subresource("portforward", ("create", "get"), "PodPortForwardOptions")
_RESIZE = Subresource("resize")
_SCALE = Subresource("scale", kind="Scale", group="autoscaling", version="v1")
_STATUS = Subresource("status")
_TOKEN = Subresource("token", ("create",), "TokenRequest", "authentication.k8s.io", "v1")


def _proxy(kind: str) -> Subresource:
    return Subresource("proxy", ("create", "delete", "get", "patch", "update"), kind)


_ALL = ("all",)  # what `kubectl get all` shows
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
_PARENT_FIELDS = ("spec.parentRef.group", "spec.parentRef.resource", "spec.parentRef.namespace", "spec.parentRef.name")
_ENDPOINTS_DEPRECATED = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"


def _group(group: str, version: str = "v1") -> Callable[..., Resource]:
    """Makes rows of one group and version: plural, kind, subresources, then what differs from the usual."""
    package = group.partition(".")[0] or "core"

    def row(plural: str, kind: str, *subresources: Subresource, **differences: Any) -> Resource:
        return Resource(
            group=group,
            version=version,
            plural=plural,
            kind=kind,
            schema=f"{package}.{version}.{kind}",
            subresources=subresources,
            **differences,
        )

    return row


_core = _group("")
_apps = _group("apps")
_events = _group("events.k8s.io")
_authentication = _group("authentication.k8s.io")
_authorization = _group("authorization.k8s.io")
_autoscaling_v1 = _group("autoscaling")
_autoscaling_v2 = _group("autoscaling", "v2")
_batch = _group("batch")
_certificates = _group("certificates.k8s.io")
_networking = _group("networking.k8s.io")
_policy = _group("policy")
_rbac = _group("rbac.authorization.k8s.io")
_storage = _group("storage.k8s.io")
_scheduling = _group("scheduling.k8s.io")
_coordination = _group("coordination.k8s.io")
_node = _group("node.k8s.io")
_admission = _group("admissionregistration.k8s.io")
_resource = _group("resource.k8s.io")
_discovery = _group("discovery.k8s.io")
_extensions = _group("apiextensions.k8s.io")
_registration = _group("apiregistration.k8s.io")
_flow_control = _group("flowcontrol.apiserver.k8s.io")

# How many kinds are: of the cluster, with a generation, made by PUT, shown when deleted.
_CLUSTER: dict[str, Any] = {"namespaced": False}
_COUNTED: dict[str, Any] = {"generation": True}
_UPSERT: dict[str, Any] = {"create_on_update": True}
_RETURNED: dict[str, Any] = {"returns_deleted": True}
_VERSIONED: dict[str, Any] = {"unconditional_update": False}
_EXTENDING: dict[str, Any] = {**_CLUSTER, **_COUNTED, "categories": ("api-extensions",)}

# Order is upstream's order of groups: it decides which group an ambiguous short name means.
RESOURCES: tuple[Resource, ...] = (
    _core("bindings", "Binding", verbs=("create",)),
    _core(
        "componentstatuses",
        "ComponentStatus",
        short_names=("cs",),
        verbs=("get", "list"),
        deprecated="v1 ComponentStatus is deprecated in v1.19+",
        **_CLUSTER,
    ),
    _core("configmaps", "ConfigMap", short_names=("cm",)),
    _core("endpoints", "Endpoints", short_names=("ep",), deprecated=_ENDPOINTS_DEPRECATED, **_UPSERT),
    _core("events", "Event", short_names=("ev",), fields=_EVENT_FIELDS, **_UPSERT),
    _core("limitranges", "LimitRange", short_names=("limits",), **_UPSERT),
    _core(
        "namespaces",
        "Namespace",
        _FINALIZE,
        _STATUS,
        short_names=("ns",),
        verbs=NO_COLLECTION_DELETE,
        fields=("status.phase",),
        **_CLUSTER,
        **_RETURNED,
    ),
    _core(
        "nodes",
        "Node",
        _proxy("NodeProxyOptions"),
        _STATUS,
        short_names=("no",),
        fields=("spec.unschedulable",),
        **_CLUSTER,
    ),
    _core("persistentvolumeclaims", "PersistentVolumeClaim", _STATUS, short_names=("pvc",), **_RETURNED),
    _core("persistentvolumes", "PersistentVolume", _STATUS, short_names=("pv",), **_CLUSTER, **_RETURNED),
    _core(
        "pods",
        "Pod",
        _ATTACH,
        _BINDING,
        _EPHEMERAL,
        _EVICTION,
        _EXEC,
        _LOG,
        _PORT_FORWARD,
        _proxy("PodProxyOptions"),
        _RESIZE,
        _STATUS,
        short_names=("po",),
        categories=_ALL,
        fields=_POD_FIELDS,
        **_COUNTED,
        **_RETURNED,
    ),
    _core("podtemplates", "PodTemplate", **_COUNTED, **_RETURNED),
    _core(
        "replicationcontrollers",
        "ReplicationController",
        _SCALE,
        _STATUS,
        short_names=("rc",),
        categories=_ALL,
        fields=("status.replicas",),
        **_COUNTED,
    ),
    _core("resourcequotas", "ResourceQuota", _STATUS, short_names=("quota",), **_RETURNED),
    _core("secrets", "Secret", fields=("type",)),
    _core("serviceaccounts", "ServiceAccount", _TOKEN, short_names=("sa",), **_RETURNED),
    _core(
        "services",
        "Service",
        _proxy("ServiceProxyOptions"),
        _STATUS,
        short_names=("svc",),
        categories=_ALL,
        fields=("spec.clusterIP", "spec.type"),
        **_UPSERT,
        **_RETURNED,
    ),
    _registration("apiservices", "APIService", _STATUS, categories=("api-extensions",), **_CLUSTER),
    _apps("controllerrevisions", "ControllerRevision"),
    _apps("daemonsets", "DaemonSet", _STATUS, short_names=("ds",), categories=_ALL, **_COUNTED),
    _apps("deployments", "Deployment", _SCALE, _STATUS, short_names=("deploy",), categories=_ALL, **_COUNTED),
    _apps(
        "replicasets",
        "ReplicaSet",
        _SCALE,
        _STATUS,
        short_names=("rs",),
        categories=_ALL,
        fields=("status.replicas",),
        **_COUNTED,
    ),
    _apps("statefulsets", "StatefulSet", _SCALE, _STATUS, short_names=("sts",), categories=_ALL, **_COUNTED),
    _events("events", "Event", short_names=("ev",), fields=_EVENTS_V1_FIELDS, storage="events/", **_UPSERT),
    _authentication("selfsubjectreviews", "SelfSubjectReview", verbs=("create",), **_CLUSTER),
    _authentication("tokenreviews", "TokenReview", verbs=("create",), **_CLUSTER),
    _authorization("localsubjectaccessreviews", "LocalSubjectAccessReview", verbs=("create",)),
    _authorization("selfsubjectaccessreviews", "SelfSubjectAccessReview", verbs=("create",), **_CLUSTER),
    _authorization("selfsubjectrulesreviews", "SelfSubjectRulesReview", verbs=("create",), **_CLUSTER),
    _authorization("subjectaccessreviews", "SubjectAccessReview", verbs=("create",), **_CLUSTER),
    _autoscaling_v2(
        "horizontalpodautoscalers", "HorizontalPodAutoscaler", _STATUS, short_names=("hpa",), categories=_ALL
    ),
    _autoscaling_v1(
        "horizontalpodautoscalers", "HorizontalPodAutoscaler", _STATUS, short_names=("hpa",), categories=_ALL
    ),
    _batch("cronjobs", "CronJob", _STATUS, short_names=("cj",), categories=_ALL, **_COUNTED),
    _batch("jobs", "Job", _STATUS, categories=_ALL, fields=("status.successful",), **_COUNTED),
    _certificates(
        "certificatesigningrequests",
        "CertificateSigningRequest",
        _APPROVAL,
        _STATUS,
        short_names=("csr",),
        fields=("spec.signerName",),
        **_CLUSTER,
    ),
    _networking("ingressclasses", "IngressClass", **_CLUSTER, **_COUNTED),
    _networking("ingresses", "Ingress", _STATUS, short_names=("ing",), **_COUNTED),
    _networking("ipaddresses", "IPAddress", short_names=("ip",), fields=_PARENT_FIELDS, **_CLUSTER),
    _networking("networkpolicies", "NetworkPolicy", short_names=("netpol",), **_COUNTED),
    _networking("servicecidrs", "ServiceCIDR", _STATUS, **_CLUSTER),
    _policy("poddisruptionbudgets", "PodDisruptionBudget", _STATUS, short_names=("pdb",), **_COUNTED, **_VERSIONED),
    _rbac("clusterrolebindings", "ClusterRoleBinding", **_CLUSTER, **_UPSERT),
    _rbac("clusterroles", "ClusterRole", **_CLUSTER, **_UPSERT),
    _rbac("rolebindings", "RoleBinding", **_UPSERT),
    _rbac("roles", "Role", **_UPSERT),
    _storage("csidrivers", "CSIDriver", **_CLUSTER, **_RETURNED, **_VERSIONED),
    _storage("csinodes", "CSINode", **_CLUSTER, **_RETURNED, **_VERSIONED),
    _storage("csistoragecapacities", "CSIStorageCapacity", **_VERSIONED),
    _storage("storageclasses", "StorageClass", short_names=("sc",), **_CLUSTER, **_RETURNED),
    _storage("volumeattachments", "VolumeAttachment", _STATUS, **_CLUSTER, **_RETURNED, **_VERSIONED),
    _storage("volumeattributesclasses", "VolumeAttributesClass", short_names=("vac",), **_CLUSTER, **_RETURNED),
    _admission("mutatingadmissionpolicies", "MutatingAdmissionPolicy", **_EXTENDING),
    _admission("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", **_EXTENDING),
    _admission("mutatingwebhookconfigurations", "MutatingWebhookConfiguration", **_EXTENDING),
    _admission("validatingadmissionpolicies", "ValidatingAdmissionPolicy", _STATUS, **_EXTENDING),
    _admission("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", **_EXTENDING),
    _admission("validatingwebhookconfigurations", "ValidatingWebhookConfiguration", **_EXTENDING),
    _extensions(
        "customresourcedefinitions",
        "CustomResourceDefinition",
        _STATUS,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        **_CLUSTER,
        **_COUNTED,
        **_VERSIONED,
    ),
    _scheduling("priorityclasses", "PriorityClass", short_names=("pc",), **_CLUSTER, **_COUNTED),
    _coordination("leases", "Lease", **_UPSERT, **_VERSIONED),
    _node("runtimeclasses", "RuntimeClass", **_CLUSTER, **_VERSIONED),
    _discovery("endpointslices", "EndpointSlice", **_COUNTED),
    _resource("deviceclasses", "DeviceClass", **_CLUSTER, **_COUNTED),
    _resource("resourceclaims", "ResourceClaim", _STATUS),
    _resource("resourceclaimtemplates", "ResourceClaimTemplate"),
    _resource("resourceslices", "ResourceSlice", fields=("spec.nodeName", "spec.driver"), **_CLUSTER, **_COUNTED),
    _flow_control("flowschemas", "FlowSchema", _STATUS, **_CLUSTER, **_COUNTED),
    _flow_control("prioritylevelconfigurations", "PriorityLevelConfiguration", _STATUS, **_CLUSTER, **_COUNTED),
)

_BY_URL = {(row.group, row.version, row.plural): row for row in RESOURCES}
_BY_PLURAL = {(row.group, row.plural): row for row in reversed(RESOURCES)}  # the preferred version stands first
_BY_KIND = {(row.group_version, row.kind): row for row in RESOURCES}


def resource(group: str, plural: str) -> Resource:
    """The row of a resource that is known to exist, in the preferred version. Raises KeyError."""
    return _BY_PLURAL[group, plural]


def find(group: str, version: str, plural: str) -> Resource | None:
    """The row that serves a URL, if any."""
    return _BY_URL.get((group, version, plural))


def find_kind(api_version: str, kind: str) -> Resource | None:
    """The row of an object's apiVersion and kind, if any."""
    return _BY_KIND.get((api_version, kind))
