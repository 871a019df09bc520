"""What a change of a running pod's resources comes to: whether the node has room for it, and what is to be done. Pure.

As kubelet 1.36 does it (KEP-1287): what a pod wants is allocated to it as a whole or not at all, and what is allocated
is then given to its containers, with a restart where their resizePolicy says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from twinstack.api import core
from twinstack.api.meta import Condition
from twinstack.api.quotas.pods import requested
from twinstack.api.scalars import quantity
from twinstack.node.lifecycle import Waiting
from twinstack.node.runtime.base import ContainerKey

PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
CONDITIONS = (PENDING, IN_PROGRESS)
DEFERRED, INFEASIBLE, ERROR = "Deferred", "Infeasible", "Error"
PARTS, NAMES = ("limits", "requests"), ("cpu", "memory")

Resources = Mapping[str, Any]
"""v1 ResourceRequirements."""


class Resizing(NamedTuple):
    """What a pod's status tells of it. `actual`: what runs have that do not have all that is allocated yet."""

    conditions: tuple[Condition, ...] = ()
    actual: Mapping[ContainerKey, Resources] = {}


WHOLE = ""  # stands for the pod itself where containers are named


def with_resources(pod: core.Pod, held: Mapping[str, Resources]) -> core.Pod:
    """The pod with what it and its containers hold instead of what they want, by name."""
    whole = held.get(WHOLE) if held else pod.spec.resources
    others = (held.get(container.name, container.resources) == container.resources for container in _resizable(pod))
    if whole == pod.spec.resources and all(others):
        return pod

    def holding(container: core.Container) -> core.Container:
        resources = dict(held.get(container.name, container.resources))
        return msgspec.structs.replace(container, resources=resources)

    spec = pod.spec
    changed = msgspec.structs.replace(
        spec,
        init_containers=[*map(holding, spec.init_containers)],
        containers=[*map(holding, spec.containers)],
        resources=None if whole is None else dict(whole),
    )
    return msgspec.structs.replace(pod, spec=changed)


def wanted(pod: core.Pod) -> dict[str, Resources]:
    own = {} if pod.spec.resources is None else {WHOLE: pod.spec.resources}
    return own | {container.name: container.resources for container in _resizable(pod)}


def reported(pod: core.Pod) -> dict[str, Resources]:
    """What they had when the status was last written; of those without, what they want."""
    told = {status.name: status.resources for status in pod.all_container_statuses}
    told[WHOLE] = pod.status.resources or msgspec.UNSET
    return {
        name: resources if isinstance(given := told.get(name), msgspec.UnsetType) or given is None else given
        for name, resources in wanted(pod).items()
    }


def _resizable(pod: core.Pod) -> list[core.Container]:
    return pod.spec.init_containers + pod.spec.containers


def changes(new: Resources, old: Resources) -> list[str]:
    """Which of cpu and memory differ."""
    return [name for name in NAMES if any(_amount(new, part, name) != _amount(old, part, name) for part in PARTS)]


def _amount(resources: Resources, part: str, name: str) -> Decimal:
    return quantity(str((resources.get(part) or {}).get(name, "0")))


def needs_restart(container: core.Container, changed: Iterable[str]) -> bool:
    policies = {policy.get("resourceName"): policy.get("restartPolicy") for policy in container.resize_policy}
    return any(policies.get(name) == "RestartContainer" for name in changed)


def refusal(pod: core.Pod, neighbours: Iterable[core.Pod], allocatable: Mapping[str, str]) -> Waiting | None:
    """Why the node cannot give a pod what it wants, for now or ever; kubelet's words."""
    asked = _requests(pod)
    for name in reversed(NAMES):
        there = _number(allocatable, name)
        if _number(asked, name) > there:
            text = f"Node didn't have enough capacity: {name}, requested: {_number(asked, name)}, capacity: {there}"
            return Waiting(INFEASIBLE, text)
    others = [_requests(other) for other in neighbours]
    for name in NAMES:
        own, there = _number(asked, name), _number(allocatable, name)
        used = sum(_number(other, name) for other in others)
        if own and own + used > there:
            text = f"{name}, requested: {own}, used: {used}, capacity: {there}"
            return Waiting(DEFERRED, f"Node didn't have enough resource: {text}")
    return None


def _requests(pod: core.Pod) -> dict[str, str]:
    return requested(msgspec.to_builtins(pod.spec))


def _number(amounts: Mapping[str, str], name: str) -> int:
    """Thousandths of CPU, or bytes."""
    return int(quantity(amounts.get(name, "0")) * (1000 if name == "cpu" else 1))


def memory_error(decreases: Iterable[tuple[str, int, int]]) -> str:
    """Of those whose new limit is below what they use: name, limit, use, in bytes. Empty if there are none."""
    found = [
        f"attempting to set {_title(name)} memory limit ({limit}) below current usage ({used})"
        for name, limit, used in decreases
    ]
    text = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
    return f"cannot decrease memory limits: {text}" if found else ""


def _title(name: str) -> str:
    return "pod" if name == WHOLE else f'container "{name}"'


def summary(pod: core.Pod, generation: int, error: str = "") -> str:
    """What a pod holds or wants, as events tell it."""
    told: dict[str, Any] = {}
    sidecars = [container for container in pod.spec.init_containers if container.restart_policy == "Always"]
    for name, containers in (("initContainers", sidecars), ("containers", pod.spec.containers)):
        if containers:
            told[name] = [{"name": each.name, "resources": dict(_sorted(each.resources))} for each in containers]
    told["generation"] = generation
    if error:
        told["error"] = error
    return msgspec.json.encode(told).decode()


def _sorted(resources: Resources) -> Iterator[tuple[str, dict[str, str]]]:
    for part in PARTS:
        if resources.get(part):
            yield part, dict(sorted(resources[part].items()))
