"""What repairs look at, read from the watch cache: one small decoding an object, none without need."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from twinstack.api.core import Service
from twinstack.api.networking import IPAddress, ServiceCIDR
from twinstack.api.resources import resource
from twinstack.api.validation import parse_sloppy_cidr
from twinstack.ip import CIDR, Address
from twinstack.server.repair.addresses import address_of, cluster_ips
from twinstack.server.strategy.service_ports import PORT_KEYS
from twinstack.server.watchcache import WatchCache

SERVICES = resource("", "services")
IP_ADDRESSES = resource("networking.k8s.io", "ipaddresses")
SERVICE_CIDRS = resource("networking.k8s.io", "servicecidrs")

_service = msgspec.json.Decoder(Service).decode
_record = msgspec.json.Decoder(IPAddress).decode
_service_cidr = msgspec.json.Decoder(ServiceCIDR).decode


class StoredState:
    """`addresses.State` of this moment. Reading raises msgspec.ValidationError for what is no such object."""

    def __init__(self, cache: WatchCache) -> None:
        self._services = cache.collection(SERVICES)
        self._records = cache.collection(IP_ADDRESSES)
        self._cache = cache
        self.ranges = list(self._blocks())

    def _blocks(self) -> Iterator[CIDR]:
        for version in self._cache.collection(SERVICE_CIDRS).versions(SERVICE_CIDRS.prefix):
            for text in _service_cidr(version.value).spec.cidrs:
                parsed = parse_sloppy_cidr(text)
                if parsed is not None:
                    yield parsed.block

    def service(self, namespace: str, name: str) -> Service | None:
        return self.service_at(SERVICES.key(namespace, name))

    def service_at(self, key: str) -> Service | None:
        version = self._services.get(key)
        return None if version is None else _service(version.value)

    def record(self, address: Address) -> IPAddress | None:
        return self.record_at(IP_ADDRESSES.key("", str(address)))

    def record_at(self, key: str) -> IPAddress | None:
        version = self._records.get(key)
        return None if version is None else _record(version.value)

    def services_with_ports(self) -> Iterator[Service]:
        """Those that may have node ports; the others are told by their text and not decoded."""
        for version in self._services.versions(SERVICES.prefix):
            if b'odePort":' in version.value:  # nodePort, healthCheckNodePort
                yield _service(version.value)

    def recorded_ports(self) -> dict[int, int]:
        """The ports that are stored as taken, and the revision of each record."""
        return {int(key.removeprefix(PORT_KEYS)): at for key, at in self._cache.other_keys(PORT_KEYS).items()}

    def keys_of_records(self, service: Service) -> Iterator[str]:
        for text in cluster_ips(service):
            address = address_of(text)
            if address is not None:
                yield IP_ADDRESSES.key("", str(address))

    def service_keys(self) -> set[str]:
        return {version.key for version in self._services.versions(SERVICES.prefix)}

    def record_keys(self) -> set[str]:
        return {version.key for version in self._records.versions(IP_ADDRESSES.prefix)}


def owner_of(value: bytes) -> str:
    """The storage key of the Service that an IPAddress object names; empty without one."""
    parent = _record(value).spec.parent_ref
    return SERVICES.key(parent.namespace, parent.name) if parent is not None else ""


def same_addresses(old: bytes, new: bytes) -> bool:
    """Whether two versions of a Service have the same text in `clusterIPs`: what most changes leave alone."""
    return _addresses_text(old) == _addresses_text(new) != b""


def _addresses_text(value: bytes) -> bytes:
    start = value.find(b'"clusterIPs":[')
    return value[start : value.find(b"]", start)] if start >= 0 else b""
