"""Network namespaces: make, pin by a bind mount, enter in a thread, remove (namespaces(7)).

The main thread never moves, for its namespace is what /proc/self tells all others; a thread of its own goes for it, and
ends there. Any other thread goes by itself and comes back, which is a tenth of a millisecond faster.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SHARED = 0x100000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)

RUN_DIRECTORY = Path("/run/netns")  # where iproute2 looks for names


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a fresh thread and return its result, or raise its exception."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            failure.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _away(work: Callable[[], T]) -> T:
    """Run `work`, which moves its thread."""
    if threading.current_thread() is threading.main_thread():
        return in_thread(work)
    with _returning():
        return work()


@contextmanager
def _returning() -> Iterator[None]:
    """The calling thread is afterwards in the namespace in which it is now."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        if _libc.setns(home, _CLONE_NEWNET) != 0:
            os.abort()  # whatever this thread did next, it would do to a network that is not its own
        os.close(home)


def enter(path: Path | str) -> None:
    """Move the calling thread into the namespace pinned at `path`, for good."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(descriptor, _CLONE_NEWNET), f"enter network namespace {path}")
    finally:
        os.close(descriptor)


def inside(path: Path | str, work: Callable[[], T]) -> T:
    """Run `work` inside the namespace, in this thread or another. A socket made there stays there."""

    def run() -> T:
        enter(path)
        return work()

    return _away(run)


def create(path: Path, setup: Callable[[], T]) -> T:
    """Make a namespace pinned at `path` and run `setup` inside it.

    Nothing is left when `setup` fails. Raises FileExistsError when `path` is taken.
    """

    def run() -> T:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent == RUN_DIRECTORY:
            _share_run_directory()
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        try:
            _checked(_libc.unshare(_CLONE_NEWNET), "unshare network namespace")
            source = b"/proc/thread-self/ns/net"
            _checked(_libc.mount(source, os.fsencode(path), b"none", _MS_BIND, None), f"pin {path}")
            return setup()
        except BaseException:
            remove(path)
            raise

    return _away(run)


def remove(path: Path) -> None:
    """Unpin: the kernel frees the namespace, its links and its tables with its last process. Idempotent."""
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOENT):  # not a mount point: a half-made pin
            raise OSError(code, f"unpin {path}: {os.strerror(code)}")
    path.unlink(missing_ok=True)
    if path.parent == RUN_DIRECTORY and not os.listdir(RUN_DIRECTORY):
        _unshare_run_directory()


def _share_run_directory() -> None:
    """Make the directory a shared mount of its own, as iproute2 does when it first pins a namespace there.

    Left to `ip netns add`, that mount would cover the pins that exist by then, and they could not be removed.
    """
    directory = os.fsencode(RUN_DIRECTORY)
    if _libc.mount(b"", directory, b"none", _MS_SHARED, None) == 0:
        return  # it is one already
    _checked(_libc.mount(directory, directory, b"none", _MS_BIND | _MS_REC, None), f"mount {RUN_DIRECTORY}")
    _checked(_libc.mount(b"", directory, b"none", _MS_SHARED | _MS_REC, None), f"share {RUN_DIRECTORY}")


def _unshare_run_directory() -> None:
    """Undo `_share_run_directory`, unless the directory is a file system of its own."""
    if os.stat(RUN_DIRECTORY).st_dev == os.stat(RUN_DIRECTORY.parent).st_dev:
        _libc.umount2(os.fsencode(RUN_DIRECTORY), 0)  # refused when in use again, and where there is no mount


def is_pinned(path: Path) -> bool:
    """Whether `path` holds a namespace, rather than nothing or the empty file of a failed creation."""
    try:
        return os.stat(path).st_dev != os.stat(path.parent).st_dev
    except FileNotFoundError:
        return False
