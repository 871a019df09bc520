"""Who has which addresses of a network: a directory whose listing is the table.

```
DIRECTORY/web-1:eth0:10.244.1.2,fd00:10:244:1::2     a lease; in it, what DEL has to know beside it
DIRECTORY/lock                                       held while the table is read and changed
DIRECTORY/last                                       the addresses given last: a freed one rests
```

A lease of all families is one file, which is there as a whole or not at all; it is on the disk before it counts.
Several processes may work on a directory. Neither container nor interface can have a colon in its name.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from twinstack.ip import Address

_LOCK, _LAST, _NEW = "lock", "last", ".new"

Note = Mapping[str, Any]


class Holder(NamedTuple):
    """One attachment of a container."""

    container: str
    interface: str


class Lease(NamedTuple):
    """The addresses of a holder, in the order in which they are shown."""

    holder: Holder
    addresses: tuple[Address, ...]

    @classmethod
    def parse(cls, name: str) -> Lease | None:
        """Read the name of a file; None for other files."""
        container, _, rest = name.partition(":")
        interface, colon, addresses = rest.partition(":")
        if not colon:
            return None
        try:
            parsed = tuple(Address.parse(text) for text in addresses.split(",") if text)
        except ValueError:
            return None
        return cls(Holder(container, interface), parsed)

    def __str__(self) -> str:
        return f"{self.holder.container}:{self.holder.interface}:{','.join(map(str, self.addresses))}"


class Leases:
    """The table, while it is locked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        found = [lease for name in os.listdir(directory) if (lease := Lease.parse(name)) is not None]
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
        """It is on the disk when this returns. Raises OSError."""
        new = self._directory / _NEW
        before = self._leases.pop(lease.holder, None)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps(note).encode())
            os.rename(new, self._directory / str(lease))
            os.fsync(descriptor)  # of a file that is new, this brings its name to the disk as well
        finally:
            os.close(descriptor)
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
        try:
            return [Address.parse(text) for text in (self._directory / _LAST).read_text().split()]
        except (FileNotFoundError, ValueError):
            return []

    def remember_last(self, addresses: Iterable[Address]) -> None:
        """Not synced: at worst an address is given again sooner."""
        (self._directory / _LAST).write_text(" ".join(map(str, addresses)))

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever given."""
        return not self._leases and not (self._directory / _LAST).exists()


Recover = Callable[[], Iterable[tuple[Lease, Note]]]


@contextmanager
def locked(directory: Path, recover: Recover | None = None) -> Iterator[Leases]:
    """The table of a directory, which is made if need be; nobody else has it meanwhile. Raises OSError.

    `recover` finds what is in use when the directory is new: somebody may have lost it.
    """
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        leases = Leases(directory)
        if recover is not None and leases.is_new:
            for lease, note in recover():
                leases.record(lease, note)
            leases.remember_last(leases.last())
        yield leases
    finally:
        os.close(lock)
