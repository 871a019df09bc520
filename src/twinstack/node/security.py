"""A container's rights, from the pod's and its own securityContext; and what a pod asks for in vain. Pure."""

from __future__ import annotations

from typing import Any

from twinstack.api import core
from twinstack.linux.capabilities import DEFAULT, NAMES
from twinstack.node.environment import ConfigError
from twinstack.node.runtime.base import Security


def resolve(pod: core.Pod, container: core.Container) -> Security:
    """Whom it runs as. Raises ConfigError."""
    general = pod.spec.security_context or {}
    own = container.security_context or {}
    context = general | own
    user, group = int(context.get("runAsUser") or 0), int(context.get("runAsGroup") or 0)
    if context.get("runAsNonRoot") and user == 0:
        meta = pod.metadata
        pod_text = f'"{meta.name}_{meta.namespace}({meta.uid})"'
        raise ConfigError(
            f"container has runAsNonRoot and image will run as root (pod: {pod_text}, container: {container.name})"
        )
    groups = [int(number) for number in general.get("supplementalGroups") or []]
    if general.get("fsGroup") is not None:
        groups.append(int(general["fsGroup"]))
    privileged = bool(own.get("privileged"))
    return Security(
        user=user,
        group=group,
        groups=tuple(groups),
        capabilities=_capabilities(own.get("capabilities") or {}, privileged),
        privileged=privileged,
        no_new_privileges=not privileged and own.get("allowPrivilegeEscalation") is not True,
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
    )


def _capabilities(change: dict[str, Any], privileged: bool) -> frozenset[str]:
    if privileged:
        return frozenset(NAMES)
    added = {name.upper().removeprefix("CAP_") for name in change.get("add") or []}
    dropped = {name.upper().removeprefix("CAP_") for name in change.get("drop") or []}
    unknown = sorted((added | dropped) - set(NAMES) - {"ALL"})
    if unknown:
        raise ConfigError(f"unknown capability to add or drop: {', '.join(unknown)}")
    held = set(NAMES) if "ALL" in added else set() if "ALL" in dropped else set(DEFAULT)
    return frozenset((held | (added - {"ALL"})) - (dropped - {"ALL"}))


def refused(pod: core.Pod) -> str:
    """Why no container of this pod can run here; empty if they can."""
    spec = pod.spec
    asked = {
        "hostPID": spec.host_pid,
        "hostIPC": spec.host_ipc,
        "shareProcessNamespace": bool(spec.share_process_namespace),
        "hostUsers: false": spec.host_users is False,
        "volumeDevices": any(container.volume_devices for container in spec.init_containers + spec.containers),
    }
    names = [name for name, value in asked.items() if value]
    return f"not supported by this node: {', '.join(names)}" if names else ""


def ignored(pod: core.Pod, limited: frozenset[str]) -> list[str]:
    """What a pod asks for that is accepted and has no effect here, to be told in an event.

    `limited`: the resources whose limits containers are held to.
    """
    found: dict[str, None] = {}
    if pod.spec.resources:
        found["resources of the whole pod"] = None
    for volume in pod.spec.volumes:
        empty = volume.get("emptyDir") or {}
        if empty.get("sizeLimit") and empty.get("medium") != "Memory":
            found["sizeLimit of an emptyDir on disk"] = None
    for container in pod.spec.init_containers + pod.spec.containers:
        for name in sorted((container.resources.get("limits") or {}).keys() - limited):
            found[f"limits.{name}"] = None
        for context in (pod.spec.security_context or {}, container.security_context or {}):
            for name in ("seccompProfile", "appArmorProfile", "seLinuxOptions", "procMount", "sysctls"):
                if context.get(name):
                    found[name] = None
    return list(found)


def only_user(pod: core.Pod) -> int | None:
    """The one user whom all containers say they run as; None when they differ, or one says nothing."""
    general = pod.spec.security_context or {}
    users = {
        (general | (container.security_context or {})).get("runAsUser")
        for container in pod.spec.init_containers + pod.spec.containers
    }
    user = users.pop() if len(users) == 1 else None
    return None if user is None else int(user)


def group(pod: core.Pod) -> int | None:
    """The group that owns the pod's volumes, if it names one."""
    number = (pod.spec.security_context or {}).get("fsGroup")
    return None if number is None else int(number)
