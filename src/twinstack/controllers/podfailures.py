"""What a Job makes of a failed Pod: the rules of spec.podFailurePolicy (KEP-3329). Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from twinstack.api.core import ContainerStatus, Pod
from twinstack.api.times import parse_time

COUNT, IGNORE, FAIL_JOB, FAIL_INDEX = "Count", "Ignore", "FailJob", "FailIndex"


class Verdict(NamedTuple):
    """`action` is one of the policy's; `message` tells which rule, where one decided."""

    action: str = COUNT
    message: str = ""


def judge(policy: dict[str, Any] | None, pod: Pod, *, by_index: bool) -> Verdict:
    """The action of the first rule that matches. FailIndex counts as Count in Jobs without a limit per index."""
    for position, rule in enumerate((policy or {}).get("rules") or []):
        action = rule["action"]
        if action == FAIL_INDEX and not by_index:
            continue
        what = _exit(rule.get("onExitCodes"), pod) or _condition(rule.get("onPodConditions"), pod)
        if what:
            return Verdict(action, f"{what} matching {action} rule at index {position}")
    return Verdict()


def _exit(wanted: dict[str, Any] | None, pod: Pod) -> str:
    if wanted is None:
        return ""
    for container in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        ended = container.state.terminated
        if ended is None or ended.exit_code == 0 or wanted.get("containerName", container.name) != container.name:
            continue
        if (ended.exit_code in wanted["values"]) is (wanted["operator"] == "In"):
            return f"Container {container.name} for pod {pod.key} failed with exit code {ended.exit_code}"
    return ""


def _condition(patterns: list[dict[str, str]] | None, pod: Pod) -> str:
    for pattern in patterns or []:
        for held in pod.status.conditions:
            if held.type == pattern["type"] and held.status == pattern.get("status", "True"):
                return f"Pod {pod.key} has condition {held.type}"
    return ""


def finished_at(pod: Pod) -> float:
    """Unix time at which the last container ended, or the Pod was deleted or stopped being ready.

    One that never started says nothing of that: then it is when it was made.
    """
    ends = [_ended(status) for status in pod.status.container_statuses]
    if ends and all(ends):
        return max(ends)
    if pod.metadata.deletion_timestamp is not None:
        return parse_time(pod.metadata.deletion_timestamp)
    for entry in pod.status.conditions:
        if entry.type == "Ready" and entry.last_transition_time:
            return parse_time(entry.last_transition_time)
    return parse_time(pod.metadata.creation_timestamp)


def _ended(status: ContainerStatus) -> float:
    terminated = status.state.terminated
    return parse_time(terminated.finished_at) if terminated is not None and terminated.finished_at else 0.0
