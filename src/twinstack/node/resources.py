"""What a container may use, and how it is told (v1 ResourceRequirements, ResourceFieldSelector). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

from twinstack.api import core
from twinstack.api.scalars import quantity
from twinstack.node.lifecycle import is_sidecar
from twinstack.node.runtime.base import FEWEST_SHARES, MOST_SHARES, Limits

SHARES_A_CPU = 1024
GUARANTEED_SCORE, BEST_EFFORT_SCORE = -997, 1000  # oom_score_adj, as kubelet's (pkg/kubelet/qos, by value)


def limits(pod: core.Pod, container: core.Container) -> Limits:
    """Of one container; zero where nothing is limited. What it does not limit itself its pod may, as a whole."""
    whole = (pod.spec.resources or {}).get("limits") or {}
    limited = container.resources.get("limits") or {}
    requested = container.resources.get("requests") or {}
    cpu = _amount(limited, "cpu") or _amount(whole, "cpu")
    memory = _amount(limited, "memory") or _amount(whole, "memory")
    wanted = _amount(requested, "cpu") if "cpu" in requested else cpu
    return Limits(memory=_bytes(memory), cpu=_thousandths(cpu), shares=_shares(wanted))


def pod_limits(pod: core.Pod, processes: int) -> Limits:
    """Of a pod as a whole: what it says itself, or else all its containers together if each of them is limited.

    `processes`: that a pod may have at most, none for no limit.
    """
    memory, cpu = (_total(pod, "limits", name) if _is_limited(pod, name) else Decimal(0) for name in ("memory", "cpu"))
    shares = _shares(_total(pod, "requests", "cpu"))
    return Limits(_bytes(memory), _thousandths(cpu), shares, max(processes, 0))


def _is_limited(pod: core.Pod, name: str) -> bool:
    if _amount((pod.spec.resources or {}).get("limits") or {}, name):
        return True
    containers = pod.spec.init_containers + pod.spec.containers
    return all(_amount(container.resources.get("limits") or {}, name) for container in containers)


def _total(pod: core.Pod, part: str, name: str) -> Decimal:
    """By the pod as a whole, or by its containers, and the overhead of its runtime (KEP-2837, KEP-688)."""
    whole = (pod.spec.resources or {}).get(part) or {}
    total = _amount(whole, name) if name in whole else _of_containers(pod, part, name)
    return total + _amount(pod.spec.overhead, name) if total or part == "requests" else total


def _of_containers(pod: core.Pod, part: str, name: str) -> Decimal:
    """What runs at once at the busiest moment: containers and sidecars, or an init container and sidecars before it."""
    running = peak = Decimal(0)
    for container in pod.spec.init_containers:
        own = _amount(container.resources.get(part) or {}, name)
        peak = max(peak, running + own)
        running += own if is_sidecar(container) else 0
    running += sum(_amount(container.resources.get(part) or {}, name) for container in pod.spec.containers)
    return max(peak, running)


def oom_score_adj(pod: core.Pod, container: core.Container, capacity: int) -> int:
    """How soon the kernel kills a container when memory runs out; `capacity`: bytes that the node has.

    In a burstable pod the more it requests the later. What the pod requests as a whole and no container does is shared
    out. A sidecar does not go before those whom it serves (KEP-753).
    """
    if pod.spec.priority_class_name == "system-node-critical" or pod.status.qos_class == "Guaranteed":
        return GUARANTEED_SCORE
    if pod.status.qos_class == "BestEffort":
        return BEST_EFFORT_SCORE
    requested = _requested_memory(container)
    if is_sidecar(container) and any(container is other for other in pod.spec.init_containers):
        requested = max(requested, min(map(_requested_memory, pod.spec.containers)))
    requested += _unclaimed_memory(pod)
    score = BEST_EFFORT_SCORE - BEST_EFFORT_SCORE * requested // capacity
    return min(max(score, BEST_EFFORT_SCORE + GUARANTEED_SCORE), BEST_EFFORT_SCORE - 1)


def _requested_memory(container: core.Container) -> int:
    return _bytes(_amount(container.resources.get("requests") or {}, "memory"))


def _unclaimed_memory(pod: core.Pod) -> int:
    """A container's part of what the pod requests and no container does."""
    whole = _bytes(_amount((pod.spec.resources or {}).get("requests") or {}, "memory"))
    count = len(pod.spec.containers) + len(pod.spec.init_containers)
    return (whole - _bytes(_of_containers(pod, "requests", "memory"))) // count if whole else 0


def _bytes(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_CEILING))


def _thousandths(amount: Decimal) -> int:
    return int((amount * 1000).to_integral_value(ROUND_CEILING))


def _shares(cpu: Decimal) -> int:
    return min(max(_thousandths(cpu) * SHARES_A_CPU // 1000, FEWEST_SHARES), MOST_SHARES)


def _amount(table: Mapping[str, Any], name: str) -> Decimal:
    return quantity(str(table.get(name, "0")))


def field(
    containers: Sequence[core.Container], default: str, selector: Mapping[str, Any], allocatable: Mapping[str, str]
) -> str:
    """A resourceFieldRef's value: in units of its divisor, rounded up.

    `default` names the container when the selector does not. A limit that is not set is what the node has.
    Raises ValueError.
    """
    name = selector.get("containerName") or default
    container = next((container for container in containers if container.name == name), None)
    if container is None:
        raise ValueError(f"container {name} not found")
    kind, _, resource = str(selector.get("resource", "")).partition(".")
    if kind not in ("limits", "requests") or not resource:
        raise ValueError(f"unsupported container resource : {selector.get('resource')}")
    table = container.resources.get(kind) or {}
    value = _amount(table, resource)
    if not value and kind == "limits":
        value = _amount(allocatable, resource)
    divisor = _amount(selector, "divisor") or Decimal(1)
    return str(int((value / divisor).to_integral_value(ROUND_CEILING)))
