"""Removing a link without waiting for the kernel to free it.

The kernel answers a removal when nothing refers to the link any more, which takes grace periods of tens of
milliseconds. The link, its far end and their routes are out of their namespaces within the first of them, and from
then on nothing can stop the removal, not even the end of the process. So a thread waits for the answer.
"""

from __future__ import annotations

import errno
import threading

from twinstack.linux import links
from twinstack.linux.netlink import ROUTE, NetlinkSocket

_AT_ONCE = 32  # removals under way; one more waits
_PAUSE = 0.0002

_under_way = threading.BoundedSemaphore(_AT_ONCE)


class _Removal(threading.Thread):
    """It runs in the network namespace of the thread that starts it."""

    def __init__(self, name: str) -> None:
        super().__init__(name="unlinking")
        self._link = name
        self.failure: BaseException | None = None
        self.answered = threading.Event()

    def run(self) -> None:
        try:
            route = NetlinkSocket(ROUTE)
            try:
                route.request([links.delete_link_named(self._link)])
            finally:
                route.close()
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            self.failure = error
        finally:
            _under_way.release()
            self.answered.set()


def remove(name: str, route: NetlinkSocket) -> None:
    """Remove a link of the calling thread's namespace, of which `route` is a socket; it is out of sight afterwards.

    Idempotent. Raises OSError.
    """
    if not _is_there(name, route):
        return
    _under_way.acquire()
    try:
        removal = _Removal(name)
        removal.start()
    except BaseException:
        _under_way.release()
        raise
    while not removal.answered.wait(_PAUSE):
        if not _is_there(name, route):
            return
    failure = removal.failure
    if failure is not None and getattr(failure, "errno", None) != errno.ENODEV:
        raise failure


def _is_there(name: str, route: NetlinkSocket) -> bool:
    try:
        route.index_of(name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    return True
