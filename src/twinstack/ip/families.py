"""The two address families, under the names the Kubernetes API uses for them."""

from __future__ import annotations

import enum
import socket


class IPFamily(enum.StrEnum):
    """An entry of `Service.spec.ipFamilies`; the value is the text of the API."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"

    @property
    def bits(self) -> int:
        """Length of an address in bits."""
        return 32 if self is IPFamily.IPV4 else 128

    @property
    def octets(self) -> int:
        """Length of a packed address in bytes."""
        return self.bits // 8

    @property
    def af(self) -> int:
        """The kernel's number: AF_INET or AF_INET6."""
        return int(socket.AF_INET if self is IPFamily.IPV4 else socket.AF_INET6)

    @property
    def other(self) -> IPFamily:
        return IPFamily.IPV6 if self is IPFamily.IPV4 else IPFamily.IPV4
