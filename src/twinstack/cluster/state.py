"""Where a cluster keeps its files, and the one lock over those who change it.

State lives under `${TWINSTACK_HOME:-~/.twinstack}/NAME/`, for its owner alone. Sockets live under
`/run/twinstack/NAME/`, because a socket's path must stay below 108 bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twinstack.cluster.configuration import DEFAULT_NAME, ClusterConfiguration, check_name, is_name
from twinstack.cluster.errors import ClusterError

OWNER = "state"  # below a cluster's sockets: a link to its state directory
RUN = Path("/run/twinstack")
NAMESPACES = Path("/run/netns")
PROGRAMS = "bin"  # the directory of `twinstack tools install` beside the clusters
DEFAULT_HOME = Path.home() / ".twinstack"


def home() -> Path:
    """The directory of all clusters of this user."""
    return Path(os.environ.get("TWINSTACK_HOME") or DEFAULT_HOME).absolute()


class ClusterPaths(NamedTuple):
    """The files of one cluster."""

    name: str
    root: Path  # the state directory

    @property
    def run(self) -> Path:
        return RUN / self.name

    @property
    def configuration(self) -> Path:
        return self.root / "cluster.json"

    @property
    def is_foreign(self) -> bool:
        """Whether the state directory is there and holds something else than a cluster, which must not be touched."""
        if self.configuration.exists() or self.processes.is_dir():
            return False
        return self.root.is_file() or (self.root.is_dir() and any(self.root.iterdir()))

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def kubeconfig(self) -> Path:
        """For people: YAML with everything inside."""
        return self.root / "kubeconfig"

    @property
    def kubeconfigs(self) -> Path:
        """For parts: JSON, one a user."""
        return self.root / "kubeconfigs"

    @property
    def policy(self) -> Path:
        """Roles and bindings that the server sees to."""
        return self.root / "rbac.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def processes(self) -> Path:
        """One file a running part: who it is."""
        return self.root / "processes"

    @property
    def database(self) -> Path:
        return self.root / "server" / "state.db"

    @property
    def supervisor(self) -> Path:
        """The socket that the supervisor answers on."""
        return self.run / "supervisor.sock"

    @property
    def owner(self) -> Path:
        """A link to the state directory: whose the sockets and namespaces of this name are."""
        return self.run / OWNER

    @property
    def rollout(self) -> Path:
        """What became of the last change of the configuration."""
        return self.root / "rollout.json"

    @property
    def switch(self) -> Path:
        """The namespace of the network between the nodes."""
        return NAMESPACES / f"{self.name}-switch"

    @property
    def images(self) -> Path:
        """The images of all nodes."""
        return self.root / "images"

    def node(self, index: int) -> Path:
        """The namespace of a node."""
        return NAMESPACES / f"{self.name}-{index}"

    def node_root(self, index: int) -> Path:
        return self.root / "nodes" / str(index)

    def node_run(self, index: int) -> Path:
        return self.run / f"node-{index}"

    def pod_prefix(self, index: int) -> str:
        """What the names of the namespaces of a node's pods begin with; a hyphen and a hash follow."""
        return f"{self.name}-{index}"

    def namespaces(self) -> list[Path]:
        """Every namespace of this cluster that is pinned: switch, nodes, pods.

        A node is told from a pod's hash by its length, so `a-1` never takes a pod of node 1 of `a` for its own.
        """
        own = re.compile(re.escape(self.name) + r"-(switch|\d{1,3}|\d{1,3}-[0-9a-f]{8,})")
        try:
            names = os.listdir(NAMESPACES)
        except FileNotFoundError:
            return []
        return sorted(NAMESPACES / name for name in names if own.fullmatch(name))

    def node_namespaces(self, index: int) -> list[Path]:
        """Those of a node and of its pods."""
        name = f"{self.name}-{index}"
        return [path for path in self.namespaces() if path.name == name or path.name.startswith(f"{name}-")]

    def load(self) -> ClusterConfiguration | None:
        """The configuration of the cluster, None when there is no such cluster."""
        try:
            return ClusterConfiguration.from_json(json.loads(self.configuration.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError) as error:
            raise ClusterError(
                f"{self.configuration} is damaged: {error}", f"`twinstack down --name {self.name}` removes the cluster"
            ) from None

    def required(self) -> ClusterConfiguration:
        """The configuration; raises ClusterError when there is no such cluster."""
        configuration = self.load()
        if configuration is None:
            known = ", ".join(clusters()) or "none"
            raise ClusterError(
                f"no cluster named {self.name} in {self.root.parent} (there: {known})",
                f"`twinstack up{name_flag(self.name)}` starts it",
            )
        return configuration


def paths(name: str) -> ClusterPaths:
    """The files of the cluster `name`. Raises ClusterError for a name that no cluster can have."""
    check_name(name)
    if name == PROGRAMS:
        raise ClusterError(f"--name {name} is where `twinstack tools install` puts programs", "choose another name")
    return ClusterPaths(name, home() / name)


def clusters() -> list[str]:
    """The names of all clusters of this user that left something in the state directory."""
    try:
        names = [entry.name for entry in home().iterdir() if entry.is_dir() and is_name(entry.name)]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name != PROGRAMS and not paths(name).is_foreign)


def api_ports() -> set[int]:
    """The ports of all clusters of this machine, whoever made them and whether or not they run just now."""
    found = [paths(name) for name in clusters()]
    if RUN.is_dir():
        for entry in RUN.iterdir():
            with contextlib.suppress(OSError):  # what is left of one without its state
                found.append(ClusterPaths(entry.name, Path(os.readlink(entry / OWNER))))
    ports = set()
    for own in found:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a damaged one is no reason to refuse this
            ports.add(int(json.loads(own.configuration.read_text())["apiPort"]))
    return ports


def name_flag(name: str) -> str:
    """How to say the name on a command line: nothing for the default."""
    return "" if name == DEFAULT_NAME else f" --name {name}"


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the lock of all who create or remove clusters under this home; waits for it.

    A home that was made for it goes again when nothing was put there.
    """
    directory = home()
    is_new = not directory.exists()
    descriptor = _lock(directory)
    while not _is_same(descriptor, directory):  # whoever had it removed the last cluster and the directory with it
        os.close(descriptor)
        descriptor = _lock(directory)
    try:
        yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it is in use now
                directory.rmdir()
        os.close(descriptor)


def _lock(directory: Path) -> int:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
