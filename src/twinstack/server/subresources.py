"""What a subresource shows of its object, and how a change of that comes back to the object. Pure.

`status` shows the whole object; its strategy decides what may change. `scale` is a small object of its own
(autoscaling/v1 Scale). `namespaces/finalize` and bindings write the object past its strategy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinstack.api import times
from twinstack.api.errors import StatusError, bad_request, conflict, invalid, invalid_object
from twinstack.api.metadata import finalizer_name_rule
from twinstack.api.resources import Resource, resource
from twinstack.server.messages import Route

JSON = dict[str, Any]

PODS = resource("", "pods")
SUCCESS: JSON = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
_SCALE = Resource(group="autoscaling", plural="scales", kind="Scale", schema="autoscaling.v1.Scale")
_BINDINGS = resource("", "bindings")
_TOKEN_REQUESTS = Resource(
    group="authentication.k8s.io", plural="tokenrequests", kind="TokenRequest", schema="authentication.v1.TokenRequest"
)
_EVICTIONS = Resource(group="policy", plural="evictions", kind="Eviction", schema="policy.v1.Eviction")


class Shape:
    """What a route shows: here the object itself.

    `body` is the row of the shown type, which request bodies must have. `direct` says that a change is stored
    without asking the kind's strategy.
    """

    direct = False

    def __init__(self, row: Resource, body: Resource | None = None) -> None:
        self.row = row
        self.body = body or row

    def show(self, obj: JSON) -> JSON:
        return obj

    def apply(self, obj: JSON, shown: JSON) -> JSON:
        """The object with what `shown` says; both are the caller's own. Raises StatusError."""
        return shown


class ScaleShape(Shape):
    """autoscaling/v1 Scale of a workload that has replicas."""

    def __init__(self, row: Resource) -> None:
        super().__init__(row, _SCALE)

    def show(self, obj: JSON) -> JSON:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        selector = _scale_selector(self.row, spec.get("selector") or {})
        return _scale(obj["metadata"], spec.get("replicas", 0), status.get("replicas", 0), selector)

    def apply(self, obj: JSON, shown: JSON) -> JSON:
        replicas = _wanted_replicas(shown)
        _take_identity(obj, shown)
        obj["spec"]["replicas"] = replicas
        return obj


def _scale(meta: JSON, wanted: int, present: int, selector: str) -> JSON:
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: JSON = {"replicas": present}
    if selector:
        status["selector"] = selector
    return {
        "kind": _SCALE.kind,
        "apiVersion": _SCALE.group_version,
        "metadata": {name: meta[name] for name in names if name in meta},
        "spec": {"replicas": wanted} if wanted else {},
        "status": status,
    }


def _wanted_replicas(scale: JSON) -> int:
    """Raises StatusError 422."""
    replicas: int = (scale.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        error = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid_object(_SCALE.kind, (scale.get("metadata") or {}).get("name", ""), [error], _SCALE.group)
    return replicas


def _take_identity(obj: JSON, shown: JSON) -> None:
    meta = shown.get("metadata") or {}
    for name in ("name", "namespace", "uid", "resourceVersion"):
        value = meta.get(name) or ("" if name != "uid" else obj["metadata"]["uid"])
        if value or name in obj["metadata"]:
            obj["metadata"][name] = value


class FinalizeShape(Shape):
    """`namespaces/finalize`: spec.finalizers and metadata change, nothing else."""

    direct = True

    def apply(self, obj: JSON, shown: JSON) -> JSON:
        finalizers = (shown.get("spec") or {}).get("finalizers") or []
        errors = finalizer_name_rule(finalizers, "spec.finalizers")
        if errors:
            raise invalid_object(self.row.kind, obj["metadata"]["name"], errors)
        spec = {"finalizers": finalizers} if finalizers else {}
        return shown | {"spec": spec, "status": obj.get("status", {})}


class CustomScaleShape(Shape):
    """autoscaling/v1 Scale of a kind whose definition says where its parts are."""

    def __init__(self, row: Resource) -> None:
        super().__init__(row, _SCALE)
        assert row.custom is not None
        self._kind = row.custom

    def show(self, obj: JSON) -> JSON:
        from twinstack.server.customresources.scale import parts

        wanted, present, selector = parts(self._kind, obj)
        return _scale(obj["metadata"], wanted, present, selector)

    def apply(self, obj: JSON, shown: JSON) -> JSON:
        from twinstack.server.customresources.scale import set_replicas

        replicas = _wanted_replicas(shown)
        _take_identity(obj, shown)
        set_replicas(self._kind, obj, replicas)
        return obj


def shape_of(route: Route) -> Shape:
    if route.subresource == "scale":
        return ScaleShape(route.resource) if route.resource.custom is None else CustomScaleShape(route.resource)
    if route.subresource == "finalize":
        return FinalizeShape(route.resource)
    if route.subresource == "binding":
        return Shape(route.resource, _BINDINGS)
    if route.subresource == "eviction":
        return Shape(route.resource, _EVICTIONS)
    if route.subresource == "token":
        return Shape(route.resource, _TOKEN_REQUESTS)
    return Shape(route.resource)


def _scale_selector(row: Resource, selector: JSON) -> str:
    """A ReplicationController's selector is a map of labels."""
    return selector_text({"matchLabels": selector} if row.kind == "ReplicationController" else selector)


def selector_text(selector: Mapping[str, Any]) -> str:
    """A meta/v1 LabelSelector as query text, keys sorted."""
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, operator = expression["key"], expression["operator"]
        values = ",".join(sorted(expression.get("values") or []))
        text = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }[operator]
        parts.append((key, text))
    return ",".join(text for _, text in sorted(parts))


def binding_target(route: Route, binding: JSON) -> Route | None:
    """The Pod that a request binds, if it is a binding. Raises StatusError 400."""
    name = (binding.get("metadata") or {}).get("name") or ""
    if route.resource.plural == "bindings":
        return Route(PODS, route.namespace, name)
    if route.subresource != "binding":
        return None
    if name and name != route.name:
        raise bad_request("name in URL does not match name in Binding object")
    return Route(PODS, route.namespace, route.name)


def check_binding(binding: JSON) -> None:
    """Raises StatusError; a 500 without reason, as upstream."""
    target = binding.get("target") or {}
    kind = target.get("kind") or ""
    if kind not in ("", "Node"):
        raise StatusError(500, "", f'target.kind: Unsupported value: "{kind}": supported values: "Node", "<empty>"')
    if not target.get("name"):
        raise StatusError(500, "", "target.name: Required value")


def bind(pod: JSON, binding: JSON) -> JSON:
    """The Pod, assigned to the binding's node. Raises StatusError 409."""
    meta, spec = pod["metadata"], pod["spec"]
    name = meta["name"]
    bound = binding.get("metadata") or {}
    wanted = bound.get("uid")
    problem = ""
    if wanted and wanted != meta["uid"]:
        problem = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {meta['uid']}"
    elif meta.get("deletionTimestamp"):
        problem = f"pod {name} is being deleted, cannot be assigned to a host"
    elif spec.get("nodeName"):
        problem = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
    elif spec.get("schedulingGates"):
        problem = f"pod {name} has non-empty .spec.schedulingGates"
    if problem:
        raise conflict("pods/binding", name, problem)
    spec["nodeName"] = binding["target"]["name"]
    for field in ("labels", "annotations"):
        if bound.get(field):
            meta[field] = (meta.get(field) or {}) | bound[field]
    status = pod.setdefault("status", {})
    status.pop("nominatedNodeName", None)
    status["conditions"] = _with_condition(status.get("conditions") or [], "PodScheduled")
    return pod


def _with_condition(conditions: Sequence[JSON], kind: str) -> list[JSON]:
    others = [condition for condition in conditions if condition.get("type") != kind]
    scheduled = {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": times.now()}
    return [*others, scheduled]
