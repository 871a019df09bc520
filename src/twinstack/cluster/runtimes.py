"""Tries OCI runtimes (opencontainers/runtime-spec): does one run `true` from a busybox here?"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from twinstack.cluster.errors import ClusterError

RUNTIMES = ("crun", "runc")
CGROUPS = Path("/sys/fs/cgroup")
_PATIENCE = 10.0  # seconds
_MEMORY = 64 << 20  # bytes


def try_runtimes() -> str:
    """The first that can. Raises ClusterError with what each one said."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise ClusterError("busybox not found")
    said: list[str] = []
    for name in RUNTIMES:
        runtime = shutil.which(name)
        problem = "not found" if runtime is None else _try(runtime, busybox)
        if not problem:
            return f"{name} runs containers" + "".join(f"; {text}" for text in said)
        said.append(f"{name}: {problem}")
    raise ClusterError("; ".join(said))


def _try(runtime: str, busybox: str) -> str:
    """Empty when it ran; otherwise the end of what it said. The container and its files are gone afterwards."""
    name = f"twinstack-check-{os.getpid()}"
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        bundle = Path(directory)
        binaries = bundle / "rootfs" / "bin"
        binaries.mkdir(parents=True)
        for place in ("proc", "dev", "sys", "tmp"):
            (bundle / "rootfs" / place).mkdir()
        shutil.copy(busybox, binaries / "busybox")
        (binaries / "true").symlink_to("busybox")
        (bundle / "config.json").write_text(json.dumps(_configuration(name)))
        command = [runtime, "--root", f"{directory}/state"]
        try:
            done = subprocess.run(
                [*command, "run", "--bundle", directory, name],
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
            problem = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["exit code 1"])[-1]
        except subprocess.TimeoutExpired:
            problem = f"no end within {_PATIENCE:.0f} s"
        finally:
            subprocess.run([*command, "delete", "--force", name], capture_output=True, check=False)
            _remove_groups(name)
    return problem


def _remove_groups(name: str) -> None:
    """Runtimes remove a container's control group, and leave the one above it."""
    for group in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")):
        with contextlib.suppress(OSError):  # there is none in this hierarchy
            group.rmdir()


def _configuration(name: str) -> dict[str, object]:
    return {
        "ociVersion": "1.0.2",
        "process": {"args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "network", "ipc", "uts")],
            "resources": {"memory": {"limit": _MEMORY}},
            "cgroupsPath": f"/{name}/container",
        },
    }
