"""A container's first process: its view of files, its rights, and the program (mount_namespaces(7)).

The root is the node's own, under an overlay that takes the writes. What is not the container's business is
covered with empty file systems. Runs between fork and exec, in the new process only.
"""

from __future__ import annotations

import os

from twinstack.linux import capabilities, mounts, terminals
from twinstack.linux.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    enter_namespace,
    libc,
    prctl,
    unshare,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes as long as all the rest of a container's start
    from collections.abc import Sequence
    from typing import Any, NoReturn

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = {
    "/dev/ptmx": "pts/ptmx",
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
# What container engines hide and lock: parts of /proc and /sys that belong to the whole machine.
HIDDEN = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
LOCKED = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_SAFE = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC
_SIGKILL, _SIGPIPE, _SIGXFSZ, _SIG_DFL = 9, 13, 25, 0


def run(start: dict[str, Any], streams: Sequence[int], ready: int, go: int) -> NoReturn:
    """Become the container. What goes wrong is written to `ready`, which exec closes.

    `streams` are its standard descriptors, -1 for no input; with `tty` the first is a socket for the terminal's master.
    """
    try:
        _prepare(start)
        if start["tty"]:
            master, slave = terminals.open_pair(start["user"])
            terminals.send(streams[0], master)
        os.write(ready, b"+")
        if not os.read(go, 1):
            os._exit(1)
        if start["tty"]:
            terminals.take(slave)
        else:
            given = streams[0] if streams[0] >= 0 else os.open("/dev/null", os.O_RDWR)
            for number, descriptor in enumerate((given, *streams[1:])):
                os.dup2(descriptor, number)
        execute(start["command"], environment(start, terminal=start["tty"]))
    except (OSError, ValueError) as error:
        os.write(ready, explain(error).encode()[:4000])
    os._exit(1)


def explain(error: OSError | ValueError) -> str:
    """In few words, without the number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror


def _prepare(start: dict[str, Any]) -> None:
    for kind, path in ((CLONE_NEWNET, start["network"]), (CLONE_NEWUTS, start["uts"]), (CLONE_NEWIPC, start["ipc"])):
        if path:
            enter_namespace(path, kind)
    unshare(CLONE_NEWNS)
    mounts.make_private()
    privileged = start["privileged"]
    devices = [(mounts.open_tree(f"/dev/{name}"), f"/dev/{name}") for name in DEVICES]
    shared = [
        (mounts.open_tree_beneath(source, part) if part else mounts.open_tree(source), target, flags)
        for source, part, target, flags in start["mounts"]
    ]
    _mount_root(start)
    _mount_kernel(devices, privileged)
    for tree, target, flags in shared:
        _attach(tree, target, flags)
    if not privileged:
        _restrict()
    if start["read_only_root"]:
        mounts.remount("/", mounts.RDONLY)
    _change_directory(start["directory"])
    give_up_rights(start)


def _mount_root(start: dict[str, Any]) -> None:
    """The node's root below an overlay, or read-only where the kernel refuses an overlay."""
    root = start["root"]
    nodev = 0 if start["privileged"] else mounts.NODEV
    try:
        mounts.overlay(root, "/", start["upper"], start["work"], nodev)
    except OSError:
        mounts.bind("/", root, mounts.RDONLY | nodev)
    for point in start["submounts"]:
        mounts.bind(point, root + point, mounts.RDONLY | nodev)
    mounts.pivot_root(root)
    for path in start["masks"]:
        if os.path.isdir(path) and not os.path.islink(path):
            mode = "1777" if path == "/tmp" else "755"
            mounts.mount("tmpfs", path, "tmpfs", mounts.NOSUID | mounts.NODEV, f"mode={mode},size=256m")


def _mount_kernel(devices: list[tuple[int, str]], privileged: bool) -> None:
    """/proc, /sys and /dev of the container's own."""
    mounts.mount("proc", "/proc", "proc", _SAFE)
    mounts.mount("sysfs", "/sys", "sysfs", _SAFE | (0 if privileged else mounts.RDONLY))
    nodev = 0 if privileged else mounts.NODEV  # the devices below are mounts of their own
    mounts.mount("tmpfs", "/dev", "tmpfs", mounts.NOSUID | nodev, "mode=755,size=64m")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"/dev/{name}")
    mounts.mount("devpts", "/dev/pts", "devpts", mounts.NOSUID | mounts.NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    mounts.mount("mqueue", "/dev/mqueue", "mqueue", _SAFE)
    for tree, target in devices:
        _attach(tree, target, 0)
    for path, target in LINKS.items():
        os.symlink(target, path)


def _attach(tree: int, target: str, flags: int) -> None:
    """Put an opened file or directory at `target`, which is made if it is missing."""
    if os.path.islink(target) and not os.path.exists(target):
        os.unlink(target)  # resolv.conf often leads to what is hidden here
    if not os.path.lexists(target):
        if mounts.is_directory(tree):
            os.makedirs(target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    mounts.move_mount(tree, target)
    os.close(tree)
    if flags:
        mounts.remount(target, flags)


def _restrict() -> None:
    for path in HIDDEN:
        if os.path.isdir(path):
            mounts.mount("tmpfs", path, "tmpfs", _SAFE | mounts.RDONLY, "size=0")
        elif os.path.exists(path):
            mounts.bind("/dev/null", path)
    for path in LOCKED:
        if os.path.exists(path):
            mounts.bind(path, path, mounts.RDONLY)


def _change_directory(path: str) -> None:
    try:
        os.chdir(path)
    except FileNotFoundError:
        os.makedirs(path)
        os.chdir(path)


def give_up_rights(start: dict[str, Any]) -> None:
    """Become the user whom the container runs as, with its capabilities and no more; die with the parent."""
    os.umask(0o022)
    kept = start["capabilities"]
    if not start["privileged"]:
        capabilities.limit_bounding(kept)
    if start["no_new_privileges"]:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    os.setgroups(start["groups"])
    os.setgid(start["group"])
    os.setuid(start["user"])
    if not start["privileged"] and start["user"] == 0:
        capabilities.set_own(kept)
    for number in (_SIGPIPE, _SIGXFSZ):  # Python ignores them, and exec would hand that on
        libc.signal(number, _SIG_DFL)
    prctl(PR_SET_PDEATHSIG, _SIGKILL)


def environment(start: dict[str, Any], *, terminal: bool) -> dict[str, str]:
    """The container's variables, and those that engines add: HOME, and TERM on a terminal."""
    added = {"HOME": _home(start["user"])}
    if terminal:
        added["TERM"] = "xterm"
    added.update(start["environment"])
    return added


def _home(user: int) -> str:
    """By the container's own /etc/passwd."""
    try:
        with open("/etc/passwd", "rb") as file:
            for line in file:
                fields = line.split(b":")
                if len(fields) > 5 and fields[2] == b"%d" % user:
                    return os.fsdecode(fields[5]) or "/"
    except FileNotFoundError:
        return "/"
    return "/"


def execute(command: list[str], environment: dict[str, str]) -> NoReturn:
    """Raises OSError in the words that container engines use."""
    program = command[0]
    if "/" in program:
        candidates = [program]
    else:
        candidates = [f"{part or '.'}/{program}" for part in environment.get("PATH", "").split(":")]
    problem = "executable file not found in $PATH" if "/" not in program else "no such file or directory"
    for path in candidates:
        try:
            os.execve(path, command, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            problem = "permission denied"
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
            break
    raise OSError(0, f'exec: "{program}": {problem}')
