"""Joins a container's streams to its log and to whoever is attached to it.

The attached speak in packets whose first byte says what follows: INPUT bytes, STDOUT or STDERR bytes, RESIZE with
`COLUMNS ROWS`, END of the input. They hear what is said from now on, after the line that has been begun. One that takes
no output holds the container up, but not for long.

The process that is left beside every container runs this, so it imports little.
"""

from __future__ import annotations

import _socket
import os
import select
import time

from twinstack.linux import terminals
from twinstack.node.runtime.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes longer than all the rest
    from collections.abc import Callable

INPUT, STDOUT, STDERR, RESIZE, END = 0, 1, 2, 4, 255
PACKET = 32 << 10  # bytes after the first one, at most
SOCKET = "attach"  # its name in the container's directory
DRAIN_SECONDS = 2.0  # how long output is still read after the container's end
PATIENCE = 5.0  # seconds until one that takes nothing is dropped


class Client:
    """One that is attached. `speaks`: it has input, or may have."""

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.waiting: list[bytes] = []  # packets that it has not taken
        self.deadline = 0.0
        self.speaks = False

    def give(self, packet: bytes) -> None:
        if not self.waiting:
            self.deadline = time.monotonic() + PATIENCE
        self.waiting.append(packet)

    def flush(self) -> bool:
        """Send what it takes; False when it is gone."""
        while self.waiting:
            try:
                self.socket.send(self.waiting[0])
            except BlockingIOError:
                return True
            except OSError:
                return False
            del self.waiting[0]
            self.deadline = time.monotonic() + PATIENCE
        return True


class Switchboard:
    """`outputs` are the descriptors that the container writes to, by stream; `given` is its input, -1 without one;
    `terminal` is the master of its terminal, -1 without one. `once`: the input ends with the first client that had any.
    """

    def __init__(
        self, log: Log, outputs: dict[int, int], given: int, terminal: int, listener: _socket.socket, *, once: bool
    ) -> None:
        self._log = log
        self._outputs = {descriptor: stream for stream, descriptor in outputs.items()}
        self._given = given
        self._listener = listener
        self._terminal = terminal
        self._once = once
        self._clients: dict[int, Client] = {}
        self._pending = b""  # input that the container has not taken
        self._ending = False  # it gets no more after that
        if given >= 0:
            os.set_blocking(given, False)

    def follow(self, child: int, ended: Callable[[], int]) -> int:
        """Work until the container has ended and its output is read; `child` is its pidfd. Returns `ended()`."""
        code, until = -1, 0.0
        while code < 0 or self._unfinished(until):
            poll = self._poll()
            if code < 0:
                poll.register(child, select.POLLIN)
            for descriptor, event in poll.poll(self._timeout(until)):
                if descriptor == child:
                    code = ended()
                    until = time.monotonic() + DRAIN_SECONDS
                else:
                    self._serve(descriptor, event)
            self._drop_the_slow()
        for client in list(self._clients.values()):
            self._drop(client)
        return code

    def _unfinished(self, until: float) -> bool:
        """Whether there is still something to pass on after the end."""
        if any(client.waiting for client in self._clients.values()):
            return True
        return bool(self._outputs) and time.monotonic() < until

    def _timeout(self, until: float) -> int | None:
        """Milliseconds until the next deadline."""
        now = time.monotonic()
        times = [client.deadline for client in self._clients.values() if client.waiting]
        if self._outputs and until > now:
            times.append(until)
        return max(0, int((min(times) - now) * 1000) + 1) if times else None

    def _poll(self) -> select.poll:
        """Watches what can be worked on now."""
        wanted = {self._listener.fileno(): select.POLLIN}
        blocked = False
        for descriptor, client in self._clients.items():
            blocked = blocked or bool(client.waiting)
            wanted[descriptor] = (0 if self._pending else select.POLLIN) | (select.POLLOUT if client.waiting else 0)
        if not blocked:
            for descriptor in self._outputs:
                wanted[descriptor] = select.POLLIN
        if self._pending:
            wanted[self._given] = wanted.get(self._given, 0) | select.POLLOUT
        poll = select.poll()
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        return poll

    def _serve(self, descriptor: int, event: int) -> None:
        if descriptor == self._listener.fileno():
            self._accept()
        elif descriptor in self._clients:
            self._hear(self._clients[descriptor], event)
        else:
            if descriptor == self._given and self._pending and event & (select.POLLOUT | select.POLLERR):
                self._feed()
            if descriptor in self._outputs and event & ~select.POLLOUT:
                self._copy(descriptor)

    # --- from the container

    def _copy(self, descriptor: int) -> None:
        stream = self._outputs[descriptor]
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal that no program has open any more
        self._log.write(stream, data)
        if not data:
            del self._outputs[descriptor]
        for start in range(0, len(data), PACKET):
            self._give(bytes([stream]) + data[start : start + PACKET])

    def _give(self, packet: bytes) -> None:
        for client in list(self._clients.values()):
            client.give(packet)
            if not client.flush():
                self._drop(client)

    # --- from the attached

    def _accept(self) -> None:
        descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]
        client = Client(_socket.socket(fileno=descriptor))
        client.socket.setblocking(False)
        self._clients[descriptor] = client
        for stream in self._outputs.values():
            line = self._log.unfinished(stream)
            if line:  # such as a prompt; what is before it stands in the log
                client.give(bytes([stream]) + line)
        if not client.flush():
            self._drop(client)

    def _hear(self, client: Client, event: int) -> None:
        if event & select.POLLOUT and not client.flush():
            self._drop(client)
        elif event & ~select.POLLOUT:
            try:
                packet = client.socket.recv(PACKET + 1)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if packet:
                self._obey(client, packet[0], packet[1:])
            else:
                self._drop(client)

    def _obey(self, client: Client, kind: int, data: bytes) -> None:
        if kind == INPUT:
            client.speaks = True
            if self._given >= 0:
                self._pending += data
                self._feed()
        elif kind == RESIZE and self._terminal >= 0:
            columns, _, rows = data.partition(b" ")
            terminals.set_size(self._terminal, int(columns), int(rows))
        elif kind == END:
            self._end_input(client)

    def _feed(self) -> None:
        """Give the container what it takes."""
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._given, self._pending) :]
        except BlockingIOError:
            return
        except OSError:
            self._pending = b""  # it reads no more
        if self._ending:
            os.close(self._given)
            self._given = -1

    def _end_input(self, client: Client) -> None:
        """Once its first speaker has gone, a container that takes input once gets no more. A terminal stays open."""
        if client.speaks and self._once and self._terminal < 0 and self._given >= 0:
            self._ending = True
            self._feed()

    def _drop(self, client: Client) -> None:
        self._end_input(client)
        del self._clients[client.socket.fileno()]
        client.socket.close()

    def _drop_the_slow(self) -> None:
        now = time.monotonic()
        for client in list(self._clients.values()):
            if client.waiting and client.deadline < now:
                self._drop(client)
