"""A container's rights, from the pod's and its own securityContext; and what a pod asks for in vain. Pure."""

from __future__ import annotations

from typing import Any

from twinstack.api import core
from twinstack.linux.capabilities import DEFAULT, NAMES
from twinstack.node.environment import ConfigError
from twinstack.node.runtime.base import Security

# Those that change nothing outside of a pod (kubelet, pkg/kubelet/sysctl/safe_sysctls.go, by name).
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)


def resolve(pod: core.Pod, container: core.Container, image_user: str = "") -> Security:
    """Whom it runs as, `image_user` unless it says. Raises ConfigError."""
    general = pod.spec.security_context or {}
    own = container.security_context or {}
    context = general | own
    user, group = context.get("runAsUser"), context.get("runAsGroup")
    if context.get("runAsNonRoot"):
        _refuse_root(pod, container, str(user) if user is not None else image_user.partition(":")[0])
    groups = [int(number) for number in general.get("supplementalGroups") or []]
    if general.get("fsGroup") is not None:
        groups.append(int(general["fsGroup"]))
    privileged = bool(own.get("privileged"))
    return Security(
        user=None if user is None else int(user),
        group=None if group is None else int(group),
        groups=tuple(groups),
        strict_groups=general.get("supplementalGroupsPolicy") == "Strict",
        capabilities=_capabilities(own.get("capabilities") or {}, privileged),
        privileged=privileged,
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        seccomp=_seccomp(own.get("seccompProfile") or general.get("seccompProfile") or {}),
    )


def _refuse_root(pod: core.Pod, container: core.Container, user: str) -> None:
    """kubelet's words."""
    if user.isdecimal() and int(user) != 0:
        return
    why = f"image has non-numeric user ({user}), cannot verify user is non-root"
    if not user or user.isdecimal():
        why = "image will run as root"
    meta = pod.metadata
    pod_text = f'"{meta.name}_{meta.namespace}({meta.uid})"'
    raise ConfigError(f"container has runAsNonRoot and {why} (pod: {pod_text}, container: {container.name})")


def _seccomp(profile: dict[str, Any]) -> str:
    """As with kubelet's --seccomp-default, who asks for none gets the runtime's. Raises ConfigError."""
    kind = profile.get("type") or "RuntimeDefault"
    if kind != "Localhost":
        return str(kind)
    path = str(profile.get("localhostProfile") or "")
    if path.startswith("/") or ".." in path.split("/") or not path:
        raise ConfigError("localhostProfile must be a relative path without .. in it")
    return path


def sysctls(pod: core.Pod) -> dict[str, str]:
    """Kernel parameters of the pod's own namespaces."""
    given = (pod.spec.security_context or {}).get("sysctls") or []
    return {entry["name"].replace("/", "."): str(entry.get("value", "")) for entry in given}


def forbidden_sysctl(pod: core.Pod) -> str:
    """Why a pod may not have the parameters that it wants; empty if it may. kubelet's words."""
    for name in sysctls(pod):
        if pod.spec.host_network and name.startswith("net."):
            return f'forbidden sysctl: "{name}" not allowed with host net enabled'
        if name not in SAFE_SYSCTLS:
            return f'forbidden sysctl: "{name}" not allowlisted'
    return ""


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
    for name in sorted(((pod.spec.resources or {}).get("limits") or {}).keys() - limited):
        found[f"limits.{name}"] = None
    for volume in pod.spec.volumes:
        empty = volume.get("emptyDir") or {}
        if empty.get("sizeLimit") and empty.get("medium") != "Memory":
            found["sizeLimit of an emptyDir on disk"] = None
    for container in pod.spec.init_containers + pod.spec.containers:
        for name in sorted((container.resources.get("limits") or {}).keys() - limited):
            found[f"limits.{name}"] = None
        for context in (pod.spec.security_context or {}, container.security_context or {}):
            for name in ("appArmorProfile", "seLinuxOptions", "procMount"):
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
