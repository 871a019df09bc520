"""Makes the bundle of a container: its root, its `config.json`, its records."""

from __future__ import annotations

import json
import os
import platform
import resource
import stat
from collections.abc import Sequence
from pathlib import Path

from twinstack.linux import capabilities, mounts
from twinstack.linux.cgroups import Place
from twinstack.linux.processes import Process
from twinstack.node.images.store import Image
from twinstack.node.runtime import accounts, overlay, seccomp
from twinstack.node.runtime.base import ContainerConfig, CreateError, Mount, Propagation, Security
from twinstack.node.runtime.engine import Engine
from twinstack.node.runtime.overlay import RootDirectory
from twinstack.node.runtime.records import INFRASTRUCTURE, ContainerDirectory, Layout, Record
from twinstack.node.runtime.sandbox import SandboxDirectory
from twinstack.node.runtime.specification import OPEN_FILES, Blueprint, Device, Shown, configuration

NOBODY = 65535  # whom the first process of shared processes runs as
WEAK = Security(user=NOBODY, group=NOBODY, no_new_privileges=True, read_only_root=True)
_NODE = Path("/")


class Bundler:
    """Of one node. `place`: where containers have their control groups."""

    def __init__(self, layout: Layout, place: Place) -> None:
        self._layout = layout
        self._place = place
        self._machine = platform.machine()
        self._open_files = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        self._least_score = _least_score()

    def make(self, config: ContainerConfig, image: Image, created_at: float, first: Process | None) -> Record:
        """Blocks for some milliseconds. `first`: of the processes that it is among. Raises CreateError, OSError."""
        directory = self._layout.container(config.key)
        directory.path.mkdir(parents=True, exist_ok=True)
        directory.termination_log.touch()
        directory.termination_log.chmod(0o666)  # whoever the container runs as, whatever the agent's umask
        root = RootDirectory(directory.path)
        root.mount(image.layers)
        try:
            wanted = self._blueprint(config, image, root, first)
            (directory.path / "config.json").write_text(json.dumps(configuration(wanted)))
            record = Record(
                *(config.image, image.reference, created_at, config.last_words_from_log, _options(config)),
                user=wanted.user,
                stop_signal=image.config.stop_signal,
            )
            directory.write_record(record)
        except BaseException:
            root.remove()
            directory.remove()
            raise
        return record

    def monitor(self, engine: Engine, directory: ContainerDirectory) -> list[str]:
        """conmon's words for a container that has been made. Raises OSError."""
        record, key = directory.record(), directory.key
        if record is None:
            raise FileNotFoundError(f"container {key.name} was not made")
        return engine.monitor(key.id, key.name, directory.path, directory.log, record.options)

    def _blueprint(
        self, config: ContainerConfig, image: Image, root: RootDirectory, first: Process | None
    ) -> Blueprint:
        sandbox = SandboxDirectory(self._layout.pod(config.key.pod_uid))
        security, own = config.security, image.config
        arguments = program(config, own.entrypoint, own.command)
        if not arguments:
            raise CreateError("no command specified")
        groups = root.read("etc/group")
        try:
            user = accounts.resolve(
                *(own.user, security.user, security.group, security.groups, root.read("etc/passwd"), groups),
                strict=security.strict_groups,
            )
        except ValueError as error:
            raise CreateError(str(error)) from error
        image_variables = dict(entry.split("=", 1) for entry in own.environment if "=" in entry)
        of_node = _NODE in image.layers
        for mount in config.mounts:
            _check_propagation(mount, config.key.id)
        covers = [path for path in _outermost(image.masks) if not of_node or _is_directory(path)]
        below = overlay.submounts(image.masks) if of_node else []
        return Blueprint(
            arguments=arguments,
            environment=image_variables | config.environment,
            directory=config.working_directory or own.working_directory or "/",
            user=user,
            capabilities=_capabilities(security),
            namespaces=self._namespaces(config, sandbox, first),
            shown=[*below, *self._of_sandbox(config, sandbox), *root.shown(config.mounts)],
            cgroups_path=f"{self._place.path}/{config.key.group}",
            limits=config.limits.within(self._place.limited),
            covers=covers,
            terminal=config.tty,
            privileged=security.privileged,
            no_new_privileges=security.no_new_privileges,
            read_only_root=security.read_only_root,
            swap_limited=self._place.swap_limited,
            seccomp=self._seccomp(security),
            host_devices=host_devices() if security.privileged else (),
            open_files=self._open_files,
            oom_score_adj=max(config.oom_score_adj, self._least_score),
        )

    def _namespaces(self, config: ContainerConfig, sandbox: SandboxDirectory, first: Process | None) -> dict[str, str]:
        found = {"mount": "", "uts": str(sandbox.uts)}
        if not sandbox.settings.host_ipc:
            found["ipc"] = str(sandbox.ipc)
        if sandbox.network:
            found["network"] = sandbox.network
        if self._place.unified:
            found["cgroup"] = ""
        if sandbox.settings.host_processes:
            return found
        shared = sandbox.settings.share_processes and config.key.name != INFRASTRUCTURE
        if shared and first is None:
            raise CreateError("the first process of the pod has ended")
        if config.target is not None and first is None:  # containerd's words
            text = f'container "{config.target.id}" is not running - in state CONTAINER_EXITED'
            raise CreateError(f"invalid target container: {text}")
        found["pid"] = f"/proc/{first.pid}/ns/pid" if first is not None else ""
        return found

    def _of_sandbox(self, config: ContainerConfig, sandbox: SandboxDirectory) -> list[Shown]:
        found = [Shown(str(sandbox.etc / name), f"/etc/{name}") for name in os.listdir(sandbox.etc)]
        found.append(Shown("/dev/shm" if sandbox.settings.host_ipc else str(sandbox.shm), "/dev/shm"))
        if config.key.name != INFRASTRUCTURE:
            directory = self._layout.container(config.key)
            found.append(Shown(str(directory.termination_log), config.termination_message_path))
        return found

    def _seccomp(self, security: Security) -> dict[str, object] | None:
        """Raises CreateError."""
        if security.privileged or security.seccomp == "Unconfined":
            return None
        if security.seccomp == "RuntimeDefault":
            return seccomp.default_profile(security.capabilities, self._machine)
        path = self._layout.root / "seccomp" / security.seccomp
        try:
            profile = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise CreateError(f'failed to load seccomp profile "{path}": {error}') from error
        return dict(profile)


def program(config: ContainerConfig, entrypoint: Sequence[str], command: Sequence[str]) -> list[str]:
    """What runs: a container's command replaces all that its image says, its arguments those of the image."""
    if config.command:
        return [*config.command, *config.arguments]
    return [*entrypoint, *(config.arguments or command)]


def _outermost(paths: Sequence[str]) -> list[str]:
    """Those that are below no other one."""
    return [path for path in dict.fromkeys(paths) if not any(path.startswith(f"{other}/") for other in paths)]


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _capabilities(security: Security) -> frozenset[str]:
    """All that there are, for one who asked for all, are those that the agent has itself."""
    wanted = security.capabilities
    return wanted & capabilities.effective() if len(wanted) == len(capabilities.NAMES) else wanted


def _check_propagation(mount: Mount, identity: str) -> None:
    """Raises CreateError, in containerd's words, where no mount can reach from there to there."""
    if mount.propagation is Propagation.PRIVATE:
        return
    path = os.path.realpath(mount.source)
    point, others = mounts.peers(path)
    if "shared" in others or (mount.propagation is Propagation.SLAVE and "master" in others):
        return
    kind = "shared" if mount.propagation is Propagation.SHARED else "shared or slave"
    problem = f'path "{path}" is mounted on "{point}" but it is not a {kind} mount'
    raise CreateError(f'failed to generate container "{identity}" spec: failed to generate spec: {problem}')


def _least_score() -> int:
    """The lowest oom_score_adj that the agent may give: without CAP_SYS_RESOURCE no lower one than its own."""
    if "SYS_RESOURCE" in capabilities.effective():
        return -1000
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def host_devices() -> list[Device]:
    """The node's devices, save those that every container has of its own."""
    found = []
    for directory, below, names in os.walk("/dev"):
        below[:] = [name for name in below if name not in ("pts", "shm", "mqueue", "fd")]
        for name in names:
            path = f"{directory}/{name}"
            try:
                state = os.lstat(path)
            except FileNotFoundError:
                continue
            kind = "c" if stat.S_ISCHR(state.st_mode) else "b" if stat.S_ISBLK(state.st_mode) else ""
            if kind and path not in ("/dev/console", "/dev/ptmx"):
                numbers = os.major(state.st_rdev), os.minor(state.st_rdev)
                found.append(Device(path, kind, *numbers, stat.S_IMODE(state.st_mode)))
    return found


def _options(config: ContainerConfig) -> list[str]:
    """Of conmon."""
    options = ["--terminal"] if config.tty else []
    options += ["--stdin"] if config.stdin else []
    if config.stdin and (config.tty or not config.stdin_once):
        options.append("--leave-stdin-open")  # a terminal has no end of input but a character that is typed
    return options
