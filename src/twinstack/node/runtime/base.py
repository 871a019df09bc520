"""What the agent asks of a container runtime, and what it is told back.

A container is named by its pod, its name and the attempt: every restart is a new container. A sandbox is
what the containers of a pod share: namespaces, host name, /dev/shm and the files in /etc.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from twinstack.linux.cgroupusage import Usage


class ContainerKey(NamedTuple):
    """One run of one container."""

    pod_uid: str
    name: str
    attempt: int

    @property
    def id(self) -> str:
        """64 hexadecimal digits, the same after a restart of the agent."""
        return hashlib.sha256(f"{self.pod_uid}/{self.name}/{self.attempt}".encode()).hexdigest()

    @property
    def group(self) -> str:
        """Its control group, in that of its pod."""
        return f"{pod_group(self.pod_uid)}/{self.id}"


def pod_group(uid: str) -> str:
    """The control group of a pod, named as kubelet names it."""
    return f"pod{uid}"


class Propagation(enum.Enum):
    """Which mounts that are made below a shared directory later are seen by others (mount_namespaces(7))."""

    PRIVATE = "private"
    SLAVE = "slave"  # the node's in the container
    SHARED = "shared"  # and the container's on the node


class Mount(NamedTuple):
    """A file or directory of the node shown inside a container.

    `sub_path`: the part of it that is shown, made as a directory if it is missing. Links in it cannot lead out.
    `recursive_read_only`: so is what is mounted below it.
    """

    source: str
    target: str
    read_only: bool = False
    sub_path: str = ""
    propagation: Propagation = Propagation.PRIVATE
    recursive_read_only: bool = False


class User(NamedTuple):
    """Whom a program runs as, in numbers. `groups`: the supplementary ones besides `group`."""

    user: int
    group: int
    groups: tuple[int, ...] = ()

    @property
    def all_groups(self) -> list[int]:
        """The supplementary groups as the kernel is given them: a container that drops its group keeps no other."""
        return [self.group, *self.groups]


class Security(NamedTuple):
    """Whom the container runs as and what it may do (v1 SecurityContext, resolved).

    Without a user or group it is what the image says. `strict_groups`: the image gives the user no further groups
    (supplementalGroupsPolicy). `seccomp`: RuntimeDefault, Unconfined, or a profile's file.
    """

    user: int | None = None
    group: int | None = None
    groups: tuple[int, ...] = ()
    strict_groups: bool = False
    capabilities: frozenset[str] = frozenset()
    privileged: bool = False
    no_new_privileges: bool = False
    read_only_root: bool = False
    seccomp: str = "RuntimeDefault"


FEWEST_SHARES, MOST_SHARES = 2, 262144  # of the cpu controller


class Limits(NamedTuple):
    """What a container may use: memory in bytes, CPU in thousandths, processes; and its shares of CPU when that runs
    short. Zero: no limit."""

    memory: int = 0
    cpu: int = 0
    shares: int = 0
    pids: int = 0

    def within(self, limited: frozenset[str]) -> Limits:
        """Those of resources that can be limited here: memory, cpu, pids."""
        cpu = "cpu" in limited
        return Limits(
            memory=self.memory if "memory" in limited else 0,
            cpu=self.cpu if cpu else 0,
            shares=self.shares if cpu else 0,
            pids=self.pids if "pids" in limited else 0,
        )


class ContainerConfig(NamedTuple):
    """Everything that is needed to run a container. `target`: the one whose processes it is among, unless they are
    those of the pod or the node anyway."""

    key: ContainerKey
    image: str
    command: list[str]
    environment: dict[str, str]
    working_directory: str
    mounts: list[Mount]
    security: Security
    termination_message_path: str
    stdin: bool = False  # it has input, from whoever attaches
    stdin_once: bool = False  # and no more after the first who had any
    tty: bool = False
    limits: Limits = Limits()
    last_words_from_log: bool = False  # of one that fails and leaves no termination message
    arguments: Sequence[str] = ()  # what follows the command, or the image's entrypoint without one
    oom_score_adj: int = 0  # how soon the kernel kills it when memory runs out, -1000 to 1000 (proc(5))
    target: ContainerKey | None = None


class SandboxConfig(NamedTuple):
    """`network` is the path of the pod's network namespace; None leaves the pod in the node's own.

    `files` are the contents of files in /etc by name: hosts, hostname, resolv.conf. `sysctls`: kernel parameters of the
    pod's own namespaces, with dots. `share_processes`: its containers see each other's processes. `limits`: of all of
    them together.
    """

    pod_uid: str
    pod: str
    hostname: str
    network: str | None
    files: dict[str, str]
    sysctls: Mapping[str, str] = {}
    share_processes: bool = False
    host_processes: bool = False  # they are among the node's own
    host_ipc: bool = False
    limits: Limits = Limits()


class Phase(enum.Enum):
    """Where a container is in its life."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


class Container(NamedTuple):
    """What the runtime knows about one container. Times are Unix seconds, 0 where not yet known.

    `user`: whom it runs as; None for one of an earlier release's agent. `stop_signal`: as its image names it.
    """

    key: ContainerKey
    phase: Phase
    image: str
    image_id: str
    created_at: float
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    user: User | None = None
    stop_signal: str = ""


class CreateError(Exception):
    """A container cannot be made as it is wanted; the text is for its owner."""


class StartError(Exception):
    """A container could not be started; the text is for its owner."""


class UpdateError(Exception):
    """A running container cannot be held to other limits; the text is for its owner."""


Exited = Callable[[Container], None]

STDOUT, STDERR = 1, 2  # the streams of a session's output, numbered as descriptors are


class Session(Protocol):
    """A conversation with a program in a container. Close it, whatever happens."""

    def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """What it writes, and to which stream, until it has ended. A terminal's output is all STDOUT."""

    async def write(self, data: bytes) -> None:
        """Give it input, and wait until it has room for it; dropped when it takes no more."""

    async def end_input(self) -> None:
        """No more input will come. Waits, as `write`, until it has room to hear so."""

    def resize(self, columns: int, rows: int) -> None:
        """The window of its terminal, if it has one, has this size now."""

    async def exit_code(self) -> int:
        """Wait for the end of the program that was started for it; 0 if none was."""

    async def close(self) -> None:
        """Let go. A program that was started for it is killed. Idempotent."""


class Runtime(Protocol):
    """A container runtime. Methods raise OSError when the machine refuses."""

    @property
    def name(self) -> str:
        """`name://version`, as in a Node's nodeInfo."""

    def open(self, on_exit: Exited) -> None:
        """Take up what an earlier agent left. `on_exit` is called in the event loop when a container has ended."""

    def pods(self) -> list[str]:
        """The uids of all pods that anything is left of."""

    def containers(self, pod_uid: str) -> list[Container]:
        """All containers of a pod, older attempts first."""

    def volumes_directory(self, pod_uid: str) -> Path:
        """Where the pod's volumes are kept; removed with its sandbox."""

    @property
    def limited(self) -> frozenset[str]:
        """The resources whose limits containers are held to."""

    @property
    def recursive_read_only(self) -> bool:
        """Whether it can make read-only what is mounted below a directory."""

    @property
    def images(self) -> list[str]:
        """Names of the images that are present."""

    def has_image(self, image: str) -> bool:
        """Whether containers can be made of it."""

    def image_user(self, image: str) -> str:
        """`USER[:GROUP]`, whom its containers run as unless they say otherwise; empty for root, or if it has gone."""

    async def create_sandbox(self, config: SandboxConfig) -> None: ...

    async def update_sandbox(self, pod_uid: str, limits: Limits) -> None:
        """Hold the pod's containers together to other limits; one that is not given stays. Raises UpdateError."""

    def sandbox_since(self, pod_uid: str) -> float:
        """When the pod's sandbox was made; 0 if none stands, as after a restart of the machine."""

    async def stop_sandbox(self, pod_uid: str) -> None:
        """Kill its containers and give back what they share; logs and exit codes stay. Idempotent."""

    async def remove_sandbox(self, pod_uid: str) -> None:
        """Stop it and remove all that is left of the pod. Idempotent."""

    async def create(self, config: ContainerConfig) -> Container:
        """Raises CreateError."""

    async def start(self, key: ContainerKey) -> Container:
        """Raises StartError; the container then counts as exited with code 128."""

    async def update(self, key: ContainerKey, limits: Limits) -> None:
        """Hold a running container to other limits; one that is not given stays. Raises UpdateError."""

    def usage(self, key: ContainerKey) -> Usage | None:
        """What a container that runs has used; None if it does not, or nothing can be told."""

    def pod_usage(self, pod_uid: str) -> Usage | None:
        """What all containers of a pod have used, also those that ended; None without a sandbox."""

    @property
    def group(self) -> str:
        """The path of the control group of all pods."""

    def kill(self, key: ContainerKey, signal_number: int) -> bool:
        """Signal the container's first process; False when it has exited. SIGKILL takes all of it down."""

    async def wait(self, key: ContainerKey) -> None:
        """Return when the container has exited."""

    async def remove(self, key: ContainerKey) -> None:
        """Remove an exited container and its log. Idempotent."""

    async def exec(self, key: ContainerKey, command: list[str], *, stdin: bool = False, tty: bool = False) -> Session:
        """Run one more program in a running container. Raises StartError."""

    async def attach(self, key: ContainerKey, *, stdin: bool = False) -> Session:
        """Join the streams of a running container; `stdin`: there will be input. Raises OSError when it has ended."""

    def log_path(self, key: ContainerKey) -> Path:
        """The log in the CRI format; older parts of it have the suffix `.1`."""

    def close(self) -> None:
        """Let go of everything; containers go on."""
