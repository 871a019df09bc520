"""The two address families, under the names the Kubernetes API uses for them."""

from __future__ import annotations

import enum
import socket


class IPFamily(enum.StrEnum):
    """An entry of `Service.spec.ipFamilies`; the value is the text of the API."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"

    bits: int  # length of an address
    octets: int  # the same in bytes
    af: int  # the kernel's number: AF_INET or AF_INET6

    def __init__(self, text: str) -> None:
        self.bits = 32 if text == "IPv4" else 128
        self.octets = self.bits // 8
        self.af = int(socket.AF_INET if text == "IPv4" else socket.AF_INET6)

    @property
    def other(self) -> IPFamily:
        return IPFamily.IPV6 if self is IPFamily.IPV4 else IPFamily.IPV4
