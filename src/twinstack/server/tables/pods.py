"""The row of a Pod in a table: what of its many states is worth one word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.server.tables.ages import age

JSON = dict[str, Any]

NONE = "<none>"


def cells(pod: JSON, now: float) -> list[Any]:
    spec, status, meta = pod["spec"], pod.get("status") or {}, pod["metadata"]
    reason, ready, restarts, last_restart = _state(spec, status)
    phase = status.get("phase", "")
    if meta.get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in ("Failed", "Succeeded"):
            reason = "Terminating"
    sidecars = sum(container.get("restartPolicy") == "Always" for container in spec.get("initContainers") or [])
    addresses = status.get("podIPs") or []
    return [
        meta.get("name", ""),
        f"{ready}/{len(spec.get('containers') or []) + sidecars}",
        reason,
        f"{restarts} ({age(last_restart, now)} ago)" if restarts and last_restart else str(restarts),
        age(meta.get("creationTimestamp"), now),
        addresses[0].get("ip", "") if addresses else NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _readiness_gates(spec, status),
    ]


def conditions(pod: JSON) -> list[JSON]:
    """Of the row: finished Pods are marked, so that clients can leave them out."""
    phase = (pod.get("status") or {}).get("phase")
    text = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}.get(phase or "")
    return [{"type": "Completed", "status": "True", "reason": phase, "message": text}] if text else []


def _state(spec: JSON, status: JSON) -> tuple[str, int, int, str]:
    """(reason, ready containers, restarts, time of the last restart)."""
    reason = status.get("reason") or status.get("phase", "")
    for condition in status.get("conditions") or []:
        if (condition.get("type"), condition.get("reason")) == ("PodScheduled", "SchedulingGated"):
            reason = "SchedulingGated"
    waiting_for, ready, restarts, sidecar_restarts = _init_state(spec, status)
    if waiting_for and not _is_true(status, "Initialized"):
        return waiting_for, ready, *restarts
    reason = waiting_for or reason
    count, last = sidecar_restarts
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        count += container.get("restartCount", 0)
        last = max(last, _last_end(container))
        said = _container_reason(container.get("state") or {})
        if said:
            reason = said
        elif container.get("ready") and (container.get("state") or {}).get("running") is not None:
            running = True
            ready += 1
    if reason == "Completed" and running:
        reason = "Running" if _is_true(status, "Ready") else "NotReady"
    return reason, ready, count, last


def _init_state(spec: JSON, status: JSON) -> tuple[str, int, tuple[int, str], tuple[int, str]]:
    """What initialisation waits for, ready sidecars, and restarts of all init containers and of sidecars alone."""
    specs: Sequence[JSON] = spec.get("initContainers") or []
    sidecars = {container.get("name") for container in specs if container.get("restartPolicy") == "Always"}
    ready, count, last, sidecar_count, sidecar_last = 0, 0, "", 0, ""
    for i, container in enumerate(status.get("initContainerStatuses") or []):
        is_sidecar = container.get("name") in sidecars
        state = container.get("state") or {}
        count += container.get("restartCount", 0)
        last = max(last, _last_end(container))
        if is_sidecar:
            sidecar_count += container.get("restartCount", 0)
            sidecar_last = max(sidecar_last, _last_end(container))
        ended = state.get("terminated")
        if ended is not None and not ended.get("exitCode"):
            continue
        if is_sidecar and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        waiting = (state.get("waiting") or {}).get("reason", "")
        said = _container_reason(state) if ended is not None else "" if waiting == "PodInitializing" else waiting
        text = f"Init:{said}" if said else f"Init:{i}/{len(specs)}"
        return text, ready, (count, last), (sidecar_count, sidecar_last)
    return "", ready, (count, last), (sidecar_count, sidecar_last)


def _container_reason(state: JSON) -> str:
    """Why a container does not run; empty if it does or nobody says."""
    waiting, ended = state.get("waiting"), state.get("terminated")
    if waiting is not None and waiting.get("reason"):
        return str(waiting["reason"])
    if ended is None:
        return ""
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _last_end(container: JSON) -> str:
    """When the container last ended; RFC 3339 texts of one form order by time."""
    return ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""


def _is_true(status: JSON, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or [])


def _readiness_gates(spec: JSON, status: JSON) -> str:
    gates = spec.get("readinessGates") or []
    return f"{sum(_is_true(status, gate.get('conditionType', '')) for gate in gates)}/{len(gates)}" if gates else NONE
