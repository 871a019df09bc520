"""What a Node says of the machine: labels, resources, pressure, versions."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import twinstack
from twinstack.api import core
from twinstack.api.meta import Condition
from twinstack.linux.processes import boot_id

KUBERNETES = "1.36.2"  # the release whose kubelet this agent behaves like
RESERVED_MEMORY = 100 << 10  # KiB that pods do not get: below it there is MemoryPressure
FULL_DISK = 0.10  # of the disk still free: below it there is DiskPressure
FULL_PIDS = 0.05  # of the process numbers still free

# Of those that a Node declares, what this agent has (KEP-5328).
FEATURES = [
    "ExtendWebSocketsToKubelet",
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
]

_HUGE_PAGES = "/sys/kernel/mm/hugepages"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture() -> str:
    """As Go names it."""
    return _MACHINES.get(platform.machine(), platform.machine())


def labels(name: str) -> dict[str, str]:
    """The labels that kubelet gives its Node."""
    arch = architecture()
    return {
        "beta.kubernetes.io/arch": arch,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": arch,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }


def resources(root_dir: str, pods: int) -> tuple[dict[str, str], dict[str, str]]:
    """Capacity, and what of it pods may ask for."""
    memory = _memory()["MemTotal"]
    disk = os.statvfs(root_dir)
    capacity = {
        "cpu": str(os.cpu_count() or 1),
        "ephemeral-storage": f"{disk.f_blocks * disk.f_frsize >> 10}Ki",
        **_huge_pages(),
        "memory": f"{memory}Ki",
        "pods": str(pods),
    }
    return capacity, capacity | {"memory": f"{memory - RESERVED_MEMORY}Ki"}


def memory() -> int:
    """All that the machine has, in bytes."""
    return _memory()["MemTotal"] << 10


def _huge_pages() -> dict[str, str]:
    """Memory set aside for large pages, by their size. Containers cannot have them: none is offered here."""
    sizes = [int(path.name[len("hugepages-") : -len("kB")]) for path in Path(_HUGE_PAGES).glob("hugepages-*kB")]
    return {f"hugepages-{_binary(size)}": "0" for size in sorted(sizes)}


def _binary(kibibytes: int) -> str:
    """As a quantity's canonical text."""
    units = ["Ki", "Mi", "Gi", "Ti"]
    while kibibytes % 1024 == 0 and len(units) > 1:
        kibibytes //= 1024
        units.pop(0)
    return f"{kibibytes}{units[0]}"


def pressures(root_dir: str) -> list[Condition]:
    """The conditions about what runs short, in kubelet's words."""
    disk = os.statvfs(root_dir)
    threads = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    return [
        _pressure(
            "Memory",
            _memory()["MemAvailable"] < RESERVED_MEMORY,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        _pressure(
            "Disk",
            disk.f_bavail < disk.f_blocks * FULL_DISK,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        _pressure(
            "PID",
            limit - threads < limit * FULL_PIDS,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
    ]


def _pressure(what: str, short: bool, bad: tuple[str, str], good: tuple[str, str]) -> Condition:
    reason, message = bad if short else good
    status = "True" if short else "False"
    return Condition(type=f"{what}Pressure", status=status, reason=reason, message=message)


def _memory() -> dict[str, int]:
    """KiB by name, of /proc/meminfo."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


@cache
def info(runtime: str) -> core.NodeSystemInfo:
    """Versions and identities; `runtime` is the container runtime's `name://version`."""
    identity = _first_line("/etc/machine-id")
    return core.NodeSystemInfo(
        machine_id=identity,
        system_uuid=_first_line("/sys/class/dmi/id/product_uuid") or identity,
        boot_id=boot_id(),
        kernel_version=platform.release(),
        os_image=_os_name(),
        container_runtime_version=runtime,
        kubelet_version=f"v{KUBERNETES}+twinstack.{twinstack.__version__}",
        operating_system="linux",
        architecture=architecture(),
    )


def _first_line(path: str) -> str:
    """Empty when there is none."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
