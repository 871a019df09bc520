"""Which OCI runtime makes containers here: each is tried with a container of one program (opencontainers/runtime-spec).

crun is preferred, since it takes a third of the time; on machines with control groups of both versions it refuses, and
in those of version 1 it begins at the roots, also for a caller whose own are further down and limit it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from twinstack.linux import cgroups

RUNTIMES = ("crun", "runc")
_PATIENCE = 20.0  # seconds
_MEMORY = 64 << 20  # bytes
_FILES = ("conmon", "busybox", *RUNTIMES)


class NoRuntime(Exception):
    """None can; the text says why."""


class Choice(NamedTuple):
    """The one that is used. `refused`: why not the others, by name."""

    name: str
    version: str
    runtime: str  # path
    conmon: str  # path
    refused: dict[str, str]

    @property
    def recursive_read_only(self) -> bool:
        """Whether it can make whole trees of mounts read-only (mount_setattr(2)): kernel 5.12, runc 1.1, crun 1.4."""
        first = {"runc": (1, 1), "crun": (1, 4)}.get(self.name)
        return first is not None and _numbers(self.version) >= first and _numbers(os.uname().release) >= (5, 12)

    @property
    def summary(self) -> str:
        """For people."""
        others = "".join(f"; {name}: {why}" for name, why in self.refused.items())
        return f"{self.name} {self.version} runs containers{others}"


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def choose(kept: Path | None = None) -> Choice:
    """The first that runs `true` from a busybox, with limited memory. Raises NoRuntime.

    `kept`: a file with the last answer, which holds as long as the programs and the kernel are the same.
    """
    machine = _fingerprint()
    if kept is not None:
        try:
            last = json.loads(kept.read_bytes())
            if last.pop("machine") == machine:
                return Choice(**last)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            pass  # none yet, or of another version of this program
    choice = _try_all()
    if kept is not None:
        temporary = kept.with_name(f"{kept.name}.new")
        temporary.write_text(json.dumps({**choice._asdict(), "machine": machine}))
        temporary.rename(kept)
    return choice


def _try_all() -> Choice:
    conmon, busybox = shutil.which("conmon"), shutil.which("busybox")
    missing = [name for name, path in (("conmon", conmon), ("busybox", busybox)) if path is None]
    if conmon is None or busybox is None:
        raise NoRuntime(f"not found: {', '.join(missing)}")
    refused: dict[str, str] = {}
    for name in RUNTIMES:
        runtime = shutil.which(name)
        problem = "not found" if runtime is None else _try(runtime, busybox)
        if not problem and runtime is not None:
            return Choice(name, _version(runtime), runtime, conmon, refused)
        refused[name] = problem
    raise NoRuntime("; ".join(f"{name}: {why}" for name, why in refused.items()))


def _fingerprint() -> str:
    """Differs when another answer is to be expected."""
    found = [os.uname().release]
    for name in _FILES:
        path = shutil.which(name)
        found.append(f"{path} {os.stat(path).st_mtime_ns}" if path else "")
    with open("/proc/self/cgroup", encoding="ascii") as file:
        found.append(" ".join(line.split(":")[1] for line in file))
    return ";".join(found)


def _version(runtime: str) -> str:
    done = subprocess.run([runtime, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0].rpartition(" ")[2]


def _try(runtime: str, busybox: str) -> str:
    """Empty when it ran; otherwise the end of what it said. The container and its files are gone afterwards."""
    name = f"twinstack-check-{os.getpid()}"
    place = cgroups.place(name)
    if os.path.basename(runtime) == "crun" and place.nested:
        return "it would not keep to the control groups of its caller"
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        bundle = Path(directory)
        binaries = bundle / "rootfs" / "bin"
        binaries.mkdir(parents=True)
        for below in ("proc", "dev", "sys", "tmp"):
            (bundle / "rootfs" / below).mkdir()
        shutil.copy(busybox, binaries / "busybox")
        (binaries / "true").symlink_to("busybox")
        (bundle / "config.json").write_text(json.dumps(_configuration(place)))
        command = [runtime, "--root", f"{directory}/state"]
        try:
            done = subprocess.run(
                [*command, "run", "--bundle", directory, name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
            problem = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["exit code 1"])[-1]
        except subprocess.TimeoutExpired:
            problem = f"no end within {_PATIENCE:.0f} s"
        finally:
            if (bundle / "state" / name).exists():
                subprocess.run([*command, "delete", "--force", name], capture_output=True, check=False)
            cgroups.remove(place.directories)
    return problem


def _configuration(place: cgroups.Place) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2",
        "process": {"args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "network", "ipc", "uts")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]}
            | ({"memory": {"limit": _MEMORY}} if "memory" in place.limited else {}),
            "cgroupsPath": f"{place.path}/container",
        },
    }
