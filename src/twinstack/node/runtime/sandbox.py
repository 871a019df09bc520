"""What the containers of a pod share besides the network: host name, IPC, /dev/shm, files in /etc.

No process holds the namespaces: they are pinned by bind mounts, so a pod costs no pause process.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from twinstack.linux import mounts, namespaces, sysctl
from twinstack.linux.syscalls import CLONE_NEWIPC, CLONE_NEWUTS, set_hostname, unshare
from twinstack.node.runtime.base import SandboxConfig

SHM_SIZE = "64m"  # as container engines give it
_PINS = {"uts": "uts", "ipc": "ipc"}


class Settings(msgspec.Struct, frozen=True):
    """`sandbox.json`: see SandboxConfig."""

    share_processes: bool = False
    host_processes: bool = False
    host_ipc: bool = False


def kernel_parameters(sysctls: Mapping[str, str], *, net: bool) -> dict[str, str]:
    """Those of the network namespace, or of the others, by their paths."""
    return {name.replace(".", "/"): value for name, value in sysctls.items() if name.startswith("net.") is net}


class SandboxDirectory:
    """`pods/UID`: pins, shared memory and files of one pod."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uts = path / "uts"
        self.ipc = path / "ipc"
        self.shm = path / "shm"
        self.etc = path / "etc"

    def create(self, config: SandboxConfig) -> None:
        """Nothing is left when it fails, save directories."""
        self.path.mkdir(parents=True, mode=0o700, exist_ok=True)
        self.stop()
        for directory in (self.etc, self.shm):
            directory.mkdir(exist_ok=True)
        for name, content in config.files.items():
            (self.etc / name).write_text(content)
        try:
            flags = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC
            mounts.mount("shm", str(self.shm), "tmpfs", flags, f"mode=1777,size={SHM_SIZE}")
            namespaces.in_thread(lambda: self._pin(config.hostname, kernel_parameters(config.sysctls, net=False)))
            of_network = kernel_parameters(config.sysctls, net=True)
            if of_network and config.network:
                namespaces.inside(config.network, lambda: sysctl.write(of_network))
            settings = Settings(config.share_processes, config.host_processes, config.host_ipc)
            (self.path / "sandbox.json").write_bytes(msgspec.json.encode(settings))
            (self.path / "network").write_text(config.network or "")
        except BaseException:
            self.stop()
            raise

    def _pin(self, hostname: str, sysctls: Mapping[str, str]) -> None:
        unshare(CLONE_NEWUTS | CLONE_NEWIPC)
        set_hostname(hostname)
        sysctl.write(sysctls)
        for name, kind in _PINS.items():
            pin = self.path / name
            pin.touch()
            mounts.bind(f"/proc/thread-self/ns/{kind}", str(pin))

    @property
    def since(self) -> float:
        """When it was made; 0 if the namespaces do not stand."""
        if all(namespaces.is_pinned(self.path / name) for name in _PINS):
            return (self.path / "network").stat().st_mtime
        return 0.0

    @property
    def settings(self) -> Settings:
        """What its containers share with each other, or with the node. Raises OSError without a sandbox."""
        return msgspec.json.decode((self.path / "sandbox.json").read_bytes(), type=Settings)

    @property
    def network(self) -> str:
        """The path of the network namespace; empty for the node's own."""
        return (self.path / "network").read_text()

    def stop(self) -> None:
        """Give back namespaces and shared memory; files and logs stay. Idempotent."""
        for path in (self.uts, self.ipc, self.shm):
            mounts.unmount(str(path))

    def remove(self) -> None:
        """Remove everything, also what is mounted below. Idempotent."""
        self.stop()
        if self.path.is_dir():
            mounts.unmount_below(str(self.path))
            shutil.rmtree(self.path, ignore_errors=True)
