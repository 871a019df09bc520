"""Pods (core/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, StatusError, forbidden, invalid, not_supported
from twinstack.api.fieldsets.sets import FieldSet
from twinstack.api.resources import Resource
from twinstack.api.schema import get_type
from twinstack.api.validation import ip_family
from twinstack.server.strategy import ephemeral_containers, limitranges, pod_resizes, priorities, runtimeclasses
from twinstack.server.strategy.base import Change, Strategy, WriteContext
from twinstack.server.strategy.pod_accounts import admit_account
from twinstack.server.strategy.pod_defaults import default_host_ports, default_pod_spec, default_requests
from twinstack.server.strategy.pod_qos import qos_class
from twinstack.server.strategy.pod_updates import update_errors
from twinstack.server.strategy.pod_validation import pod_errors
from twinstack.server.strategy.pod_warnings import pod_warnings
from twinstack.server.strategy.topology import copy_topology

JSON = dict[str, Any]

_NOT_READY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATION_SECONDS = 300
_CONDITION_STATUSES = ("False", "True", "Unknown")
# What of the spec a subresource changes.
_CHANGED = {
    "ephemeralcontainers": frozenset({"ephemeralContainers"}),
    "resize": frozenset({"containers", "initContainers", "resources"}),
}


class PodStrategy(Strategy):
    """`status.podIP` is the first of `status.podIPs`; of the spec little may change once the Pod exists."""

    def default(self, obj: JSON) -> None:
        spec: JSON = obj["spec"]
        default_requests(spec)
        spec.setdefault("enableServiceLinks", True)
        default_host_ports(spec)
        default_pod_spec(spec)
        if "status" in obj:
            _same_pod_ips(obj["status"])

    def reset_fields(self, resource: Resource, subresource: str) -> FieldSet:
        reset = super().reset_fields(resource, subresource)
        if subresource == "status":
            return reset | {"f:metadata": {"f:deletionTimestamp": {}, "f:ownerReferences": {}}}
        if subresource in _CHANGED:
            others = get_type("core.v1.PodSpec").fields.keys() - _CHANGED[subresource]
            return reset | {"f:metadata": {}, "f:spec": {f"f:{name}": {} for name in sorted(others)}}
        return reset

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        spec = obj["spec"]
        refusal = limitranges.apply_to_pod(ctx, obj)
        if refusal:
            raise _forbidden(ctx, obj, refusal)
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
        if spec.get("schedulingGates"):
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": None,
                "lastTransitionTime": ctx.now,
            }
            obj["status"]["conditions"] = [condition]
        _admit_priority(ctx, obj)
        _admit_runtime_class(ctx, obj)
        if "ServiceAccount" not in ctx.config.disabled_admission_plugins:
            admit_account(ctx, obj)
        _tolerate_lost_nodes(spec)
        if spec.get("nodeName"):
            copy_topology(ctx.reader, spec["nodeName"], obj["metadata"])

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        for name in ("priority", "preemptionPolicy"):
            if name in old["spec"]:
                new["spec"].setdefault(name, old["spec"][name])
        _tolerate_lost_nodes(new["spec"])

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        errors = pod_errors(spec, "spec") + ephemeral_containers.container_errors(spec)
        if old is None:
            return errors + ephemeral_containers.create_errors(spec)
        return errors + update_errors(spec, old["spec"])

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        return pod_warnings(obj["spec"], "spec") if old is None else []

    def update_subresource(self, ctx: WriteContext, subresource: str, new: JSON, old: JSON) -> Change:
        if subresource == "ephemeralcontainers":
            return self._update_ephemeral(ctx, new, old)
        if subresource == "resize":
            return self._resize(ctx, new, old)
        return super().update_subresource(ctx, subresource, new, old)

    def _resize(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        """Other amounts of cpu and memory, and nothing else."""
        refusal = limitranges.apply_to_pod(ctx, new)
        spec, status = pod_resizes.resized(new["spec"], old["spec"]), old.get("status") or {}
        new["spec"], new["status"] = spec, status
        _keep_metadata(new, old)
        errors = [*self.metadata_on_update(ctx, new, old), *pod_errors(spec, "spec")]
        annotations = old["metadata"].get("annotations") or {}
        self._check(ctx, new, errors + pod_resizes.resize_errors(spec, old["spec"], status, annotations))
        if refusal:
            raise _forbidden(ctx, new, refusal)
        pod_resizes.check_node(ctx.reader, ctx.name, spec, old["spec"])
        return Change(object=new)

    def _update_ephemeral(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        """More ephemeral containers, and nothing else."""
        wanted = new["spec"].get("ephemeralContainers") or []
        new["spec"], new["status"] = dict(old["spec"]), old.get("status") or {}
        if wanted:
            new["spec"]["ephemeralContainers"] = wanted
        else:
            new["spec"].pop("ephemeralContainers", None)
        _keep_metadata(new, old)
        errors = [*self.metadata_on_update(ctx, new, old), *pod_errors(new["spec"], "spec")]
        errors += ephemeral_containers.container_errors(new["spec"])
        errors += ephemeral_containers.update_errors(wanted, old["spec"].get("ephemeralContainers") or [])
        self._check(ctx, new, errors)
        return Change(object=new)

    def update_status(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        """Metadata other than labels, annotations and finalizers stays; so does the quality of service."""
        status: JSON = new.setdefault("status", {})
        _same_pod_ips(status)
        before = (old.get("status") or {}).get("qosClass")
        if before and "qosClass" not in status:
            status["qosClass"] = before
        new["metadata"]["ownerReferences"] = old["metadata"].get("ownerReferences") or []
        change = super().update_status(ctx, new, old)
        change.warnings = _ip_warnings(status)
        return change

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        return _status_errors(obj.get("status") or {}, old.get("status") or {}, obj["spec"])


def _keep_metadata(new: JSON, old: JSON) -> None:
    for name in ("labels", "annotations", "finalizers", "ownerReferences"):
        new["metadata"].pop(name, None)
        if name in old["metadata"]:
            new["metadata"][name] = old["metadata"][name]


def _same_pod_ips(status: JSON) -> None:
    """The API keeps one list; the singular wins where the two disagree."""
    single, listed = status.get("podIP"), status.get("podIPs") or []
    if single and (not listed or listed[0].get("ip") != single):
        status["podIPs"] = [{"ip": single}]
    elif listed and listed[0].get("ip"):
        status["podIP"] = listed[0]["ip"]


def _admit_priority(ctx: WriteContext, obj: JSON) -> None:
    """Admission plugin Priority. Raises StatusError 403."""
    spec = obj["spec"]
    name = spec.get("priorityClassName", "")
    found = priorities.class_of(ctx.reader, name)
    if found is None:
        raise _forbidden(ctx, obj, f"no PriorityClass with name {name} was found")
    if found and not name:
        spec["priorityClassName"] = found["metadata"]["name"]
    value, policy = found.get("value", 0), found.get("preemptionPolicy", priorities.PREEMPT)
    if spec.get("priority", value) != value:
        raise _forbidden(
            ctx,
            obj,
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            f"priority admission controller computed {value} from the given PriorityClass name",
        )
    spec["priority"] = value
    if spec.get("preemptionPolicy", policy) != policy:
        raise _forbidden(
            ctx,
            obj,
            f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
            f"priority admission controller computed {policy} from the given PriorityClass name",
        )
    spec["preemptionPolicy"] = policy


def _admit_runtime_class(ctx: WriteContext, obj: JSON) -> None:
    """Admission plugin RuntimeClass. Raises StatusError 403."""
    spec = obj["spec"]
    name = spec.get("runtimeClassName")
    found = ctx.reader.get(runtimeclasses.CLASSES, "", name) if name else {}
    if found is None:
        raise _forbidden(ctx, obj, f'pod rejected: RuntimeClass "{name}" not found')
    if spec.get("overhead") and not (found.get("overhead") or {}).get("podFixed"):
        detail = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        raise _forbidden(ctx, obj, detail)
    problem = runtimeclasses.apply_class(spec, found)
    if problem:
        raise _forbidden(ctx, obj, problem)


def _forbidden(ctx: WriteContext, obj: JSON, detail: str) -> StatusError:
    return forbidden(ctx.resource.plural, obj["metadata"].get("name") or ctx.name, detail)


def _tolerate_lost_nodes(spec: JSON) -> None:
    """Admission plugin DefaultTolerationSeconds: a Pod leaves an unreachable node after five minutes."""
    tolerations = spec.setdefault("tolerations", [])
    for key in _NOT_READY:
        if not any(
            toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")
            for toleration in tolerations
        ):
            tolerations.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _TOLERATION_SECONDS}
            )


def _status_errors(new: JSON, old: JSON, spec: JSON) -> list[FieldError]:
    errors: list[FieldError] = []
    generation = new.get("observedGeneration", 0)
    nominated = new.get("nominatedNodeName", "")
    if nominated:
        errors += validation.each("status.nominatedNodeName", nominated, validation.dns_subdomain(nominated))
    for i, condition in enumerate(new.get("conditions") or []):
        status = condition.get("status", "")
        if status not in _CONDITION_STATUSES:
            errors.append(not_supported(f"status.conditions[{i}].status", status, _CONDITION_STATUSES))
    if old.get("qosClass") and new.get("qosClass") != old["qosClass"]:
        errors.append(invalid("status.qosClass", new.get("qosClass", ""), "field is immutable"))
    if generation < 0:
        errors.append(invalid("status.observedGeneration", generation, "must be a non-negative integer"))
    errors += _pod_ip_errors(new, old)
    errors += _host_ip_errors(new, old)
    return errors


def _pod_ip_errors(new: JSON, old: JSON) -> list[FieldError]:
    return _ip_list_errors("status.podIPs", new.get("podIPs") or [], old.get("podIPs") or [])


def _host_ip_errors(new: JSON, old: JSON) -> list[FieldError]:
    listed = new.get("hostIPs") or []
    if not listed:
        return []
    errors: list[FieldError] = []
    first = listed[0].get("ip", "")
    if first != new.get("hostIP", ""):
        errors.append(invalid("status.hostIPs[0].ip", first, "must be equal to `hostIP`"))
    return errors + _ip_list_errors("status.hostIPs", listed, old.get("hostIPs") or [])


def _ip_list_errors(field: str, new: Sequence[JSON], old: Sequence[JSON]) -> list[FieldError]:
    """Each an address, and at most one of each family."""
    known = {entry.get("ip", "") for entry in old}
    texts = [entry.get("ip", "") for entry in new]
    errors: list[FieldError] = []
    for i, text in enumerate(texts):
        errors += validation.legacy_ip(f"{field}[{i}]", text, known)
    families = [ip_family(text) for text in texts]
    if len(texts) > 1 and None not in families and (len(texts) > 2 or families[0] is families[1]):
        shown = [{"IP": text} for text in texts]
        errors.append(invalid(field, shown, "may specify no more than one IP for each IP family"))
    return errors


def _ip_warnings(status: JSON) -> list[str]:
    return [
        text
        for name in ("podIPs", "hostIPs")
        for i, entry in enumerate(status.get(name) or [])
        for text in validation.ip_warnings(f"status.{name}[{i}].ip", entry.get("ip", ""))
    ]
