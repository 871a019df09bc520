"""What the containers of a pod share besides the network: host name, IPC, /dev/shm, files in /etc.

No process holds the namespaces: they are pinned by bind mounts, so a pod costs no pause process.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from twinstack.linux import mounts, namespaces
from twinstack.linux.syscalls import CLONE_NEWIPC, CLONE_NEWUTS, set_hostname, unshare
from twinstack.node.runtime.base import SandboxConfig

SHM_SIZE = "64m"  # as container engines give it
_PINS = {"uts": "uts", "ipc": "ipc"}


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
            namespaces.in_thread(lambda: self._pin(config.hostname))
            (self.path / "network").write_text(config.network or "")
        except BaseException:
            self.stop()
            raise

    def _pin(self, hostname: str) -> None:
        unshare(CLONE_NEWUTS | CLONE_NEWIPC)
        set_hostname(hostname)
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
