"""How registries are reached."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Access(NamedTuple):
    """`certificates`: a directory HOST[:PORT]/ with ca.crt, client.cert, client.key
    (Docker's certs.d). `insecure`: hosts whose certificate nobody checks, and that may speak plain HTTP, as those on
    loopback may.
    """

    certificates: Path = Path("/etc/docker/certs.d")
    insecure: tuple[str, ...] = ()
