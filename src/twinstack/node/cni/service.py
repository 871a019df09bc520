"""The service behind the executable `twinstack-cni`: calls come by a unix socket and are done in threads.

A call is `NAME=VALUE` of each variable `CNI_…`, a NUL between them, two at the end, then the configuration, until the
client shuts its side. The answer is the digit of the exit code and what the executable prints.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from pathlib import Path

from twinstack.node.cni import plugin

LONGEST_CALL = 8 << 20
THREADS = 8  # of its own: those of the agent may all be waiting for plugins that have called here
PATIENCE = 10.0  # seconds for a client to say what it wants, and to hear the answer
_TIMEOUT = struct.pack("@ll", int(PATIENCE), 0)  # struct timeval
_BACKLOG = 128
_PAUSE = 1.0  # seconds, after a connection could not be taken

log = logging.getLogger(__name__)


class Service:
    """Takes calls until it is closed. A call is one thread's from being taken to its answer.

    Of the threads one at least waits for the next call, up to THREADS of them: a call that were handed from a thread
    to another would wait for both.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._threads = 0
        self._waiting = 0
        with self._lock:
            self._start()

    def close(self) -> None:
        """Calls that have been taken are answered still."""
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits; the last one closes it

    def _start(self) -> None:
        threading.Thread(target=self._work, name=f"cni-{self._threads}").start()
        self._threads += 1
        self._waiting += 1

    def _work(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except ConnectionAbortedError:
                continue
            except OSError as error:  # closed, or no descriptor is left
                if not self._closed.is_set():
                    log.error("could not take a call: %s", error)
                self._closed.wait(_PAUSE)
                continue
            with self._lock:
                self._waiting -= 1
                if not self._waiting and self._threads < THREADS:
                    try:
                        self._start()
                    except RuntimeError as error:  # no more threads: calls wait for this one
                        log.warning("calls will wait for each other: %s", error)
            _serve(connection)
            with self._lock:
                self._waiting += 1
        with self._lock:
            self._threads -= 1
            if not self._threads:
                self._listener.close()


def listen(path: Path) -> Service:
    """Listen at `path`, for root alone. Raises OSError; FileExistsError when somebody listens there."""
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        return Service(listener)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)


def _clear(path: Path) -> None:
    """Remove the socket of a service that is no more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)
            return
    raise FileExistsError(f"another service listens at {path}")


def _serve(connection: socket.socket) -> None:
    """One call."""
    try:
        with connection:
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # the kernel's: no poll before each call
                connection.setsockopt(socket.SOL_SOCKET, option, _TIMEOUT)
            data = _read(connection)
            if data:
                connection.sendall(_answer(data))
    except (OSError, ValueError) as error:
        log.warning("a call was not understood or not waited for: %s", error or type(error).__name__)
    except Exception:
        log.exception("a call was not answered")


def _read(connection: socket.socket) -> bytes:
    """A whole call; empty when the client only looked whether somebody listens. Raises ValueError for a long one."""
    data = bytearray()
    end = time.monotonic() + PATIENCE
    while part := connection.recv(1 << 16):
        data += part
        if time.monotonic() > end:
            raise TimeoutError("it took too long")
        if len(data) > LONGEST_CALL:
            raise ValueError("it is too long")
    return bytes(data)


def _answer(data: bytes) -> bytes:
    variables, _, configuration = data.partition(b"\0\0")
    environment = dict(part.decode(errors="surrogateescape").split("=", 1) for part in variables.split(b"\0"))
    made = plugin.answer(environment, configuration)
    log.debug("%s %s: %d", environment.get("CNI_COMMAND"), environment.get("CNI_CONTAINERID"), made.code)
    return b"%d" % made.code + made.text
