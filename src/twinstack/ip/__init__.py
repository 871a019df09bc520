"""Addresses, families, ranges and their allocation: pure, imports nothing of Twinstack."""

from twinstack.ip.addresses import CIDR, Address
from twinstack.ip.families import IPFamily

__all__ = ["CIDR", "Address", "IPFamily"]
