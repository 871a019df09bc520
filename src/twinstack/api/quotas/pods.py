"""What a Pod takes of a quota (core/v1): compute resources while it runs, a place in the store until it goes. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from twinstack.api.quotas.amounts import added
from twinstack.api.scalars import quantity
from twinstack.api.times import parse_time

JSON = dict[str, Any]

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_HUGE = ("hugepages-", "requests.hugepages-")
_NAMES = frozenset(
    (
        "count/pods",
        "pods",
        *_COMPUTE,
        *(f"{part}.{name}" for part in ("requests", "limits") for name in _COMPUTE),
    )
)
_DEMANDED = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})


def counts(name: str) -> bool:
    """Whether the resource `name` of a quota is one that Pods take."""
    return name in _NAMES or name.startswith(_HUGE) or (name.startswith("requests.") and _is_extended(name[9:]))


def _is_extended(name: str) -> bool:
    """A resource of somebody else's: `example.com/gpu`."""
    domain, slash, _ = name.partition("/")
    return bool(slash) and not (domain == "kubernetes.io" or domain.endswith(".kubernetes.io"))


def usage(pod: JSON, now: float | None = None) -> dict[str, str]:
    """Of a Pod at `now` (Unix time, None: the present)."""
    taken = {"count/pods": "1"}
    if _has_ended(pod, time.time() if now is None else now):
        return taken
    spec = pod.get("spec") or {}
    return taken | {"pods": "1"} | _compute(requested(spec), limited(spec))


def _has_ended(pod: JSON, now: float) -> bool:
    """It is finished, or should have been gone by now, as on a node that is lost."""
    if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return True
    meta = pod.get("metadata") or {}
    due, grace = meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds")
    return due is not None and grace is not None and now > parse_time(due) + int(grace)


def _compute(requests: JSON, limits: JSON) -> dict[str, str]:
    taken: dict[str, str] = {}
    for name, amount in requests.items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            taken[name] = taken[f"requests.{name}"] = amount
        elif _is_extended(name):
            taken[f"requests.{name}"] = amount
    return taken | {f"limits.{name}": limits[name] for name in _COMPUTE if name in limits}


def requested(spec: JSON) -> dict[str, str]:
    """By all its containers at its busiest, or by the Pod as a whole, and the overhead of its runtime."""
    return added(_total(spec, "requests"), spec.get("overhead") or {})


def limited(spec: JSON) -> dict[str, str]:
    total = _total(spec, "limits")
    overhead = {name: amount for name, amount in (spec.get("overhead") or {}).items() if name in total}
    return added(total, overhead)


def _total(spec: JSON, part: str) -> dict[str, str]:
    return of_containers(spec, part) | ((spec.get("resources") or {}).get(part) or {})


def of_containers(spec: JSON, part: str) -> dict[str, str]:
    """What runs at once at the busiest moment: containers and sidecars, or an init container and the sidecars before.

    `part` is `requests` or `limits`.
    """
    running: dict[str, str] = {}
    peak: dict[str, str] = {}
    for container in spec.get("initContainers") or []:
        own = _amounts(container, part)
        peak = _greatest(peak, added({name: running.get(name, "0") for name in own}, own))
        if container.get("restartPolicy") == "Always":
            running = added(running, own)
    for container in spec.get("containers") or []:
        running = added(running, _amounts(container, part))
    return _greatest(peak, running)


def _amounts(container: JSON, part: str) -> dict[str, str]:
    return (container.get("resources") or {}).get(part) or {}


def _greatest(first: dict[str, str], second: dict[str, str]) -> dict[str, str]:
    more = {name: text for name, text in second.items() if quantity(text) > quantity(first.get(name, "0"))}
    return second | first | more


def lacks(pod: JSON, names: Iterable[str]) -> str:
    """Which containers must say what they take, when a quota is about these `names`; empty if all do."""
    spec = pod.get("spec") or {}
    whole = spec.get("resources") or {}
    demanded = _DEMANDED.intersection(names) - _compute(whole.get("requests") or {}, whole.get("limits") or {}).keys()
    silent: dict[str, set[str]] = {}
    for container in (*(spec.get("containers") or []), *(spec.get("initContainers") or [])):
        told = _compute(_amounts(container, "requests"), _amounts(container, "limits"))
        for name in demanded - told.keys():
            silent.setdefault(name, set()).add(container["name"])
    return "; ".join(f"must specify {name} for: {','.join(sorted(silent[name]))}" for name in sorted(silent))
