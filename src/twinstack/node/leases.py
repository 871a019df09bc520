"""Who has which addresses of a network: a directory whose listing is the table.

```
DIRECTORY/web-1:eth0:10.244.1.2,fd00:10:244:1::2     a lease; in it, what has to be known to end it
DIRECTORY/lock                                       held while the table is read and changed; in it, the addresses
                                                     given last: a freed one rests
```

A lease of all families is one file, which is there as a whole or not at all. Several processes may work on a directory,
and each of them may be killed. A machine that crashes loses its containers' networks with it, so nothing is synced.
Neither container nor interface can have a colon in its name.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from twinstack.ip import Address

_LOCK, _NEW = "lock", ".new"
_LONGEST_LAST = 1024
_REMEMBERED = 1 << 12  # leases that are read from their names once

Note = Mapping[str, Any]


class Holder(NamedTuple):
    """One attachment of a container."""

    container: str
    interface: str


class Lease(NamedTuple):
    """The addresses of a holder, in the order in which they are shown."""

    holder: Holder
    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        return f"{self.holder.container}:{self.holder.interface}:{','.join(map(str, self.addresses))}"


@lru_cache(_REMEMBERED)
def _parse(name: str) -> Lease | None:
    """Read the name of a file; None for other files."""
    container, _, rest = name.partition(":")
    interface, colon, addresses = rest.partition(":")
    if not colon:
        return None
    try:
        return Lease(Holder(container, interface), tuple(Address.parse(text) for text in addresses.split(",") if text))
    except ValueError:
        return None


class Leases:
    """The table; it may be changed by whoever has locked it."""

    def __init__(self, directory: Path, lock: int = -1) -> None:
        """`lock` is the descriptor of the locked file; without it the table is for reading. Raises OSError."""
        self._directory = directory
        self._lock = lock
        found = [lease for name in os.listdir(directory) if (lease := _parse(name)) is not None]
        self._leases = {lease.holder: lease for lease in found}
        self.taken = {address for lease in found for address in lease.addresses}

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._leases.values()))

    def get(self, holder: Holder) -> Lease | None:
        return self._leases.get(holder)

    def note(self, holder: Holder) -> Note:
        """What was recorded beside a lease; empty when there is none."""
        lease = self._leases.get(holder)
        if lease is None:
            return {}
        try:
            return dict(json.loads((self._directory / str(lease)).read_bytes()))
        except (FileNotFoundError, ValueError):
            return {}  # made by hand

    def record(self, lease: Lease, note: Note) -> None:
        """It is there, whoever is killed, when this returns. Raises OSError."""
        path = self._directory / str(lease)
        before = self._leases.pop(lease.holder, None)
        if note:
            new = self._directory / _NEW
            _write(new, json.dumps(note).encode())
            os.rename(new, path)
        else:
            _write(path, b"{}")  # all that there is to say is its name
        if before is not None and before.addresses != lease.addresses:
            (self._directory / str(before)).unlink(missing_ok=True)
        self._leases[lease.holder] = lease
        self.taken.update(lease.addresses)

    def forget(self, holder: Holder) -> None:
        """Idempotent. Raises OSError."""
        lease = self._leases.pop(holder, None)
        if lease is not None:
            (self._directory / str(lease)).unlink(missing_ok=True)
            self.taken.difference_update(lease.addresses)

    def last(self) -> list[Address]:
        """The addresses that were given last."""
        line, _, _ = os.pread(self._lock, _LONGEST_LAST, 0).decode().partition("\n")
        return [Address.parse(text) for text in line.split()]

    def remember_last(self, addresses: Iterable[Address]) -> None:
        """Whoever asks for addresses next gets later ones."""
        os.pwrite(self._lock, f"{' '.join(map(str, addresses))}\n".encode(), 0)

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever given."""
        return not self._leases and os.fstat(self._lock).st_size == 0


Recover = Callable[[], Iterable[tuple[Lease, Note]]]


@contextmanager
def locked(directory: Path, recover: Recover | None = None) -> Iterator[Leases]:
    """The table of a directory, which is made if need be; nobody else has it meanwhile. Raises OSError.

    `recover` finds what is in use when the directory is new: somebody may have lost it.
    """
    lock = _open_lock(directory)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        leases = Leases(directory, lock)
        if recover is not None and leases.is_new:
            for lease, note in recover():
                leases.record(lease, note)
            leases.remember_last([])
        yield leases
    finally:
        os.close(lock)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _open_lock(directory: Path) -> int:
    path, flags = directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)
