"""Many first packets at once: each probe is a flow of its own, all of a batch are under way together."""

from __future__ import annotations

import enum
import errno
import os
import select
import socket
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from twinstack.dataplane.model import Protocol
from twinstack.ip import Address, IPFamily
from twinstack.linux import namespaces

PATIENCE = 40.0  # seconds for all that must be heard of
SILENCE = 0.3  # seconds, after everything else was heard of, in which the others must not be
BATCH = 3000  # sockets at once

_RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: closing forgets, so that thousands of flows leave no port waiting


class Heard(enum.Enum):
    """What a client notices."""

    ANSWER = "an answer"
    REFUSAL = "a refusal"  # a reset or an ICMP error, as it comes
    NOTHING = "nothing"
    TROUBLE = "trouble"  # what nobody expects


class Probe(NamedTuple):
    """Which flow to begin."""

    place: Path  # the namespace it comes from
    source: str
    protocol: Protocol
    address: str
    port: int


class Observation(NamedTuple):
    heard: Heard
    who: str = ""  # the endpoint that answered, or what the trouble is
    saw: str = ""  # the client's address as the endpoint saw it


_NOTHING, _REFUSAL = Observation(Heard.NOTHING), Observation(Heard.REFUSAL)


def observe(probes: Sequence[Probe], silent: Collection[int] = ()) -> list[Observation]:
    """Send every probe. `silent` are the indexes of those that need not be waited for: nothing is expected of them."""
    found: list[Observation] = []
    unawaited = frozenset(silent)
    deadline = time.monotonic() + PATIENCE
    for start in range(0, len(probes), BATCH):
        batch = probes[start : start + BATCH]
        found += _Batch(batch, {n - start for n in unawaited if start <= n < start + BATCH}).run(deadline)
    return found


class _Batch:
    def __init__(self, probes: Sequence[Probe], silent: Collection[int]) -> None:
        self._probes = probes
        self._awaited = set(range(len(probes))) - set(silent)
        self._found = [_NOTHING] * len(probes)
        self._open: dict[int, tuple[int, socket.socket]] = {}  # by descriptor
        self._poll = select.epoll()

    def run(self, deadline: float) -> list[Observation]:
        try:
            for place in dict.fromkeys(probe.place for probe in self._probes):
                namespaces.inside(place, lambda p=place: self._begin(p))  # type: ignore[misc]
            while self._awaited and time.monotonic() < deadline:
                self._listen(1.0)
            end = time.monotonic() + SILENCE
            while self._open and (left := end - time.monotonic()) > 0:
                self._listen(left)
            return self._found
        finally:
            for _, sock in self._open.values():
                sock.close()
            self._poll.close()

    def _begin(self, place: Path) -> None:
        for number, probe in enumerate(self._probes):
            if probe.place == place:
                self._send(number, probe)

    def _send(self, number: int, probe: Probe) -> None:
        is_stream = probe.protocol is Protocol.TCP
        family = Address.parse(probe.address).family
        sock = socket.socket(family.af, (socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM) | socket.SOCK_NONBLOCK)
        self._open[sock.fileno()] = (number, sock)
        if is_stream:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.bind((probe.source, 0))
        code = sock.connect_ex((probe.address, probe.port))
        if code not in (0, errno.EINPROGRESS):
            refused = code == errno.ECONNREFUSED
            self._end(number, sock, _REFUSAL if refused else Observation(Heard.TROUBLE, os.strerror(code)))
            return
        self._poll.register(sock, select.EPOLLIN)
        if not is_stream:
            try:
                sock.send(b"?")
            except ConnectionRefusedError:
                self._end(number, sock, _REFUSAL)
            except PermissionError:  # the node's own rules stopped it; an ICMP error may have been sent, too
                pass

    def _listen(self, seconds: float) -> None:
        for descriptor, _ in self._poll.poll(seconds):
            number, sock = self._open[descriptor]
            try:
                who, saw = sock.recv(200).decode().split()
            except ConnectionRefusedError:
                self._end(number, sock, _REFUSAL)
            except OSError as error:
                self._end(number, sock, Observation(Heard.TROUBLE, str(error)))
            else:
                self._end(number, sock, Observation(Heard.ANSWER, who, saw))

    def _end(self, number: int, sock: socket.socket, observation: Observation) -> None:
        self._found[number] = observation
        self._awaited.discard(number)
        del self._open[sock.fileno()]
        sock.close()


def unreachables(place: Path, family: IPFamily) -> int:
    """How many ICMP errors of the unreachable kind a namespace has received."""
    return namespaces.inside(place, lambda: _unreachables(family))


def _unreachables(family: IPFamily) -> int:
    if family is IPFamily.IPV6:
        lines = Path("/proc/thread-self/net/snmp6").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Icmp6InDestUnreachs"))
    names, values = (
        line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines() if "Icmp:" in line
    )
    return int(values[names.index("InDestUnreachs")])
