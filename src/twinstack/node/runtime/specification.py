"""The `config.json` of a container (opencontainers/runtime-spec 1.0). Pure.

What containers get that ask for nothing - mounts, devices, hidden and locked paths - is what containerd gives them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from twinstack.node.runtime.base import Limits, Propagation, User

VERSION = "1.0.2"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Parts of /proc and /sys that belong to the whole machine.
HIDDEN = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
LOCKED = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
OPEN_FILES = 1 << 20  # RLIMIT_NOFILE, where the agent's own allows it
_PERIOD = 100_000  # microseconds in which a CPU limit counts
_SMALLEST_QUOTA = 1_000


class Shown(NamedTuple):
    """A file or directory of the node shown at `target`; see Mount."""

    source: str
    target: str
    read_only: bool = False
    propagation: Propagation = Propagation.PRIVATE
    recursive_read_only: bool = False


class Device(NamedTuple):
    """A device node: `kind` is c or b."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int


class Blueprint(NamedTuple):
    """A container, everything resolved.

    `namespaces`: by the runtime's names, the path of each one to join, or empty for a new one; what is missing is the
    node's own. `covers`: directories under empty file systems. `host_devices`: of the node, for privileged ones.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    user: User
    capabilities: frozenset[str]
    namespaces: Mapping[str, str]
    shown: Sequence[Shown]
    cgroups_path: str
    limits: Limits = Limits()
    covers: Sequence[str] = ()
    terminal: bool = False
    privileged: bool = False
    no_new_privileges: bool = False
    read_only_root: bool = False
    swap_limited: bool = False  # the kernel can limit swap as well
    seccomp: Mapping[str, Any] | None = None
    host_devices: Sequence[Device] = ()
    open_files: int = OPEN_FILES
    oom_score_adj: int = 0


def configuration(wanted: Blueprint) -> dict[str, Any]:
    """What an OCI runtime reads; the root is the directory `root` beside the file."""
    linux: dict[str, Any] = {
        "namespaces": [
            {"type": kind, "path": path} if path else {"type": kind} for kind, path in wanted.namespaces.items()
        ],
        "cgroupsPath": wanted.cgroups_path,
        "resources": _resources(wanted),
    }
    if not wanted.privileged:
        linux |= {"maskedPaths": list(HIDDEN), "readonlyPaths": list(LOCKED)}
    elif wanted.host_devices:
        linux["devices"] = [_device(device) for device in wanted.host_devices]
    moving = {shown.propagation for shown in wanted.shown} - {Propagation.PRIVATE}
    if moving:  # what the node's root has must reach that far
        most = Propagation.SHARED if Propagation.SHARED in moving else Propagation.SLAVE
        linux["rootfsPropagation"] = f"r{most.value}"
    if wanted.seccomp is not None and not wanted.privileged:
        linux["seccomp"] = dict(wanted.seccomp)
    return {
        "ociVersion": VERSION,
        "process": process(wanted),
        "root": {"path": "root", "readonly": wanted.read_only_root},
        "mounts": [*_kernel_mounts(wanted), *map(_cover, wanted.covers), *map(_bind, wanted.shown)],
        "linux": linux,
    }


def process(wanted: Blueprint) -> dict[str, Any]:
    """The first program."""
    held = sorted(f"CAP_{name}" for name in wanted.capabilities)
    environment = {"PATH": PATH} | ({"TERM": "xterm"} if wanted.terminal else {}) | dict(wanted.environment)
    return {
        "terminal": wanted.terminal,
        "args": list(wanted.arguments),
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": wanted.directory,
        "user": {
            "uid": wanted.user.user,
            "gid": wanted.user.group,
            "additionalGids": wanted.user.all_groups,
        },
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), held),
        "noNewPrivileges": wanted.no_new_privileges,
        "oomScoreAdj": wanted.oom_score_adj,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": wanted.open_files, "soft": wanted.open_files}],
    }


def further_process(first: Mapping[str, Any], arguments: Sequence[str], *, terminal: bool) -> dict[str, Any]:
    """One more program beside the first, with its rights and variables (`kubectl exec`)."""
    environment = list(first["env"])
    if terminal and not any(entry.startswith("TERM=") for entry in environment):
        environment.append("TERM=xterm")
    if not terminal and first["terminal"]:
        environment = [entry for entry in environment if entry != "TERM=xterm"]
    return {**first, "args": list(arguments), "terminal": terminal, "env": environment}


def _kernel_mounts(wanted: Blueprint) -> list[dict[str, Any]]:
    access = [] if wanted.privileged else ["ro"]
    safe = ["nosuid", "noexec", "nodev"]
    return [
        _mount("proc", "/proc", safe),
        _mount("tmpfs", "/dev", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("devpts", "/dev/pts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        _mount("mqueue", "/dev/mqueue", safe),
        _mount("sysfs", "/sys", [*safe, *access]),
        _mount("cgroup", "/sys/fs/cgroup", [*safe, "relatime", *access]),
    ]


def _mount(kind: str, target: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": options}


def _cover(path: str) -> dict[str, Any]:
    mode = "1777" if path == "/tmp" else "755"
    return _mount("tmpfs", path, ["nosuid", "nodev", f"mode={mode}", "size=256m"])


def _bind(shown: Shown) -> dict[str, Any]:
    access = "rro" if shown.recursive_read_only else "ro" if shown.read_only else "rw"
    options = ["rbind", f"r{shown.propagation.value}", access]
    return {"destination": shown.target, "type": "bind", "source": shown.source, "options": options}


def _device(device: Device) -> dict[str, Any]:
    return {
        "path": device.path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": 0,
        "gid": 0,
    }


def _resources(wanted: Blueprint) -> dict[str, Any]:
    """Runtimes allow the usual devices by themselves."""
    devices = [{"allow": wanted.privileged, "access": "rwm"}]
    return {"devices": devices} | limiting(wanted.limits, swap_limited=wanted.swap_limited)


def limiting(limits: Limits, *, swap_limited: bool) -> dict[str, Any]:
    """LinuxResources; runtimes translate for control groups of version 2. `swap_limited`: the kernel can do that."""
    found: dict[str, Any] = {}
    if limits.memory:
        found["memory"] = {"limit": limits.memory} | ({"swap": limits.memory} if swap_limited else {})
    cpu: dict[str, int] = {}
    if limits.shares:
        cpu["shares"] = limits.shares
    if limits.cpu:
        cpu |= {"quota": max(_SMALLEST_QUOTA, limits.cpu * _PERIOD // 1000), "period": _PERIOD}
    if cpu:
        found["cpu"] = cpu
    if limits.pids:
        found["pids"] = {"limit": limits.pids}
    return found
