"""A client that begins new flows at a steady rate, TCP and UDP, and holds others: what became of each is on record."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from typing import NamedTuple

from tests.integration.proxy.bed import Bed

from twinstack.dataplane.model import Protocol
from twinstack.ip import Address, IPFamily
from twinstack.linux import namespaces

PATIENCE = 30.0  # seconds until a flow without an answer is lost
TICK = 0.01  # seconds
MOST_AT_ONCE = 50  # flows begun in one tick, when the machine had no time for earlier ones

_RESET = b"\1\0\0\0\0\0\0\0"


class Destination(NamedTuple):
    address: str
    port: int
    protocol: Protocol

    @property
    def family(self) -> IPFamily:
        return Address.parse(self.address).family


class Flow(NamedTuple):
    """One that was begun: which endpoint answered, or else why nobody did."""

    destination: Destination
    started: float  # time.monotonic()
    who: str = ""
    error: str = ""


class Held(NamedTuple):
    """A connection that stays, or the socket of a flow of datagrams."""

    destination: Destination
    sock: socket.socket


class Steady:
    """Begins `rate` flows a second to each destination while it is entered; `flows` are those that came to an end.

    They come from the client, each from an address and port of its own, or else from the node.
    """

    def __init__(self, bed: Bed, destinations: list[Destination], rate: float, *, on_node: bool = False) -> None:
        self.flows: list[Flow] = []
        self._bed = bed
        self._on_node = on_node
        self._destinations = destinations
        self._interval = 1 / rate
        self._open: dict[int, tuple[Flow, socket.socket]] = {}  # by descriptor, oldest first
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failure: BaseException | None = None

    def __enter__(self) -> Steady:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Returns when every flow has come to an end."""
        self._stopped.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    @property
    def lost(self) -> list[Flow]:
        return [flow for flow in self.flows if flow.error]

    def _run(self) -> None:
        self._poll = select.epoll()
        try:
            namespaces.enter(self._bed.node if self._on_node else self._bed.client)
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised when the block is left
            self._failure = error
        finally:
            self._poll.close()
            for _, sock in self._open.values():
                sock.close()

    def _work(self) -> None:
        due = dict.fromkeys(self._destinations, time.monotonic())
        while not self._stopped.is_set():
            for destination, at in due.items():
                for _ in range(MOST_AT_ONCE):
                    if at > time.monotonic():
                        break
                    self._begin(destination)
                    at += self._interval
                due[destination] = max(at, time.monotonic() - 1.0)
            self._listen(TICK)
        while self._open:
            self._listen(1.0)

    def _begin(self, destination: Destination) -> None:
        is_stream = destination.protocol is Protocol.TCP
        kind = socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM
        flow = Flow(destination, time.monotonic())
        sock = socket.socket(destination.family.af, kind | socket.SOCK_NONBLOCK)
        self._open[sock.fileno()] = (flow, sock)
        if is_stream:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if not self._on_node:
            sock.bind(self._bed.fresh_source(destination.family))
        code = sock.connect_ex(destination[:2])
        if code not in (0, errno.EINPROGRESS):
            self._end(sock, error=os.strerror(code))
            return
        self._poll.register(sock, select.EPOLLIN)
        if not is_stream:
            sock.send(b"?")

    def _listen(self, seconds: float) -> None:
        for descriptor, _ in self._poll.poll(seconds):
            sock = self._open[descriptor][1]
            try:
                self._end(sock, who=sock.recv(200).decode().split()[0])
            except OSError as error:
                self._end(sock, error=str(error))
        patient = time.monotonic() - PATIENCE
        for flow, sock in list(self._open.values())[:1]:
            if flow.started < patient:
                self._end(sock, error="no answer")

    def _end(self, sock: socket.socket, *, who: str = "", error: str = "") -> None:
        flow, _ = self._open.pop(sock.fileno())
        self.flows.append(flow._replace(who=who, error=error))
        sock.close()


class Companions:
    """Flows that live on: each says something now and then and must hear it again."""

    def __init__(self, bed: Bed, destinations: list[Destination], count: int) -> None:
        self.again = 0  # datagrams that had to be sent again
        self._held: list[Held] = []
        self._stack = contextlib.ExitStack()
        for destination in destinations:
            for _ in range(count):
                kind = socket.SOCK_STREAM if destination.protocol is Protocol.TCP else socket.SOCK_DGRAM
                sock = self._stack.enter_context(bed.socket(bed.client, destination.family, kind))
                sock.settimeout(PATIENCE)
                sock.connect(destination[:2])
                if destination.protocol is Protocol.TCP:
                    sock.recv(200)
                self._held.append(Held(destination, sock))

    def __enter__(self) -> Companions:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def talk(self) -> list[str]:
        """Each says something: who answered the datagrams. Raises OSError when a connection hears nothing."""
        answered = []
        for destination, sock in self._held:
            if destination.protocol is Protocol.UDP:
                answered.append(self._exchange(sock))
                continue
            sock.send(b"still there?")
            if (heard := sock.recv(200)) != b"still there?":
                raise ConnectionError(f"{destination}: {heard!r}")
        return answered

    def _exchange(self, sock: socket.socket) -> str:
        """Datagrams may be lost at the moment in which their endpoint is taken away: who needs them asks again."""
        for _ in range(int(PATIENCE)):
            sock.send(b"still there?")
            if select.select([sock], [], [], 1.0)[0]:
                return sock.recv(200).decode().split()[0]
            self.again += 1
        raise TimeoutError("no datagram came back")
