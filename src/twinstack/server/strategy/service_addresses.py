"""Cluster IPs: which addresses a write takes and which it gives back (KEP-1880).

An address is taken when its IPAddress object exists; the plan made here becomes the creation and deletion of
such objects in the transaction that writes the Service.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from twinstack.api.core import ServiceSpec
from twinstack.api.errors import FieldError, internal_error, invalid
from twinstack.api.validation import parse_sloppy_ip
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.ip.allocator import Bands, address_bands
from twinstack.server.strategy import service_traits as traits

JSON = dict[str, Any]


class ServiceRange(NamedTuple):
    """One CIDR of a ServiceCIDR object."""

    cidr: CIDR
    bands: Bands


@lru_cache(maxsize=256)
def _service_range(text: str) -> ServiceRange | None:
    """None for what no allocator serves: other texts than CIDRs cannot be stored, short IPv6 prefixes can."""
    cidr = CIDR.parse(text)
    bands = address_bands(cidr)
    return ServiceRange(cidr, bands) if bands else None


def is_ready(service_cidr: JSON) -> bool:
    """Whether a ServiceCIDR gives addresses. No Ready condition counts as ready."""
    if service_cidr["metadata"].get("deletionTimestamp"):
        return False
    conditions = service_cidr.get("status", {}).get("conditions") or ()
    return not any(c["type"] == "Ready" and c["status"] == "False" for c in conditions)


def ready_ranges(service_cidrs: Iterable[JSON]) -> list[ServiceRange]:
    """The ranges of all ServiceCIDRs that are ready, each once."""
    texts = {text: None for item in service_cidrs if is_ready(item) for text in item["spec"]["cidrs"]}
    return [found for text in texts if (found := _service_range(text))]


class RefusedError(ValueError):
    """The address that was asked for is not to be had; the text says why."""


class AddressPlan:
    """Addresses that one request takes and gives back.

    What the plan releases stays taken for its own choices: it is free only once the write has succeeded.
    `refusal` says why an address cannot be recorded for this Service: its name is judged nowhere before. `ranges`
    are read when an address is chosen: most writes choose none.
    """

    def __init__(
        self,
        ranges: Callable[[], list[ServiceRange]],
        is_taken: Callable[[Address], bool],
        refusal: Callable[[Address], str] = lambda _: "",
    ) -> None:
        self._read_ranges = ranges
        self.is_taken = is_taken
        self.refusal = refusal
        self.taken: list[Address] = []
        self.released: list[Address] = []

    @cached_property
    def ranges(self) -> list[ServiceRange]:
        return self._read_ranges()

    def take(self, address: Address) -> None:
        """Raises RefusedError."""
        if not any(r.cidr.family is address.family and r.bands.holds(address.value) for r in self.ranges):
            raise RefusedError("the provided network does not match the current range")
        self._record(address)
        if self.is_taken(address):
            raise RefusedError("provided IP is already allocated")
        self.taken.append(address)

    def _record(self, address: Address) -> None:
        refusal = self.refusal(address)
        if refusal:
            raise RefusedError(refusal)

    def take_any(self, family: IPFamily) -> Address | None:
        """A free address of `family`, or None. Raises RefusedError when the Service can have none."""
        ranges = [r for r in self.ranges if r.cidr.family is family]
        random.shuffle(ranges)
        for found in ranges:
            value = found.bands.choose(lambda number: self.is_taken(Address(family, number)))
            if value is not None:
                address = Address(family, value)
                self._record(address)
                self.taken.append(address)
                return address
        return None

    def release(self, texts: Iterable[str]) -> None:
        """Plan to give back what a stored Service holds."""
        for text in texts:
            parsed = parse_sloppy_ip(text)
            if parsed:  # anything else is "None"
                self.released.append(Address.parse(parsed.preferred))


def plan_addresses(name: str, new: ServiceSpec, old: ServiceSpec | None, plan: AddressPlan) -> list[FieldError]:
    """Fill the cluster IPs of `new`, in place. Raises StatusError 500 when a range is full."""
    held = old if old and old.type != traits.EXTERNAL_NAME else None
    if new.type == traits.EXTERNAL_NAME:
        if held:
            plan.release(held.cluster_ips)
        return []
    if held is None:
        return [] if traits.is_headless(new) else _fill(name, new, plan, start=0)
    if traits.is_headless(held):
        return []  # never becomes a Service with an address: validation says so
    before, after = len(held.ip_families), len(new.ip_families)
    if before < after:
        return _fill(name, new, plan, start=before)
    if before > after:
        plan.release(held.cluster_ips[after:])
    return []


def _fill(name: str, new: ServiceSpec, plan: AddressPlan, start: int) -> list[FieldError]:
    """One address a family, from index `start` on: as asked for, or any."""
    new.cluster_ips += [""] * (len(new.ip_families) - len(new.cluster_ips))
    for index in range(start, len(new.ip_families)):
        text = new.cluster_ips[index]
        try:
            if text:
                plan.take(Address.parse(text))
            else:
                new.cluster_ips[index] = _chosen(name, plan, IPFamily(new.ip_families[index]))
        except RefusedError as error:
            asked = f"IP {text}" if text else "IP"
            return [invalid("spec.clusterIPs", new.cluster_ips, f"failed to allocate {asked}: {error}")]
    new.cluster_ip = new.cluster_ips[0]
    return []


def _chosen(name: str, plan: AddressPlan, family: IPFamily) -> str:
    address = plan.take_any(family)
    if address is None:
        raise internal_error(f'failed to allocate a serviceIP for Service "{name}": range is full')
    return str(address)
