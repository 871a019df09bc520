"""Services to start from in tests of single rules."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api.core import Service, ServiceSpec
from twinstack.api.meta import ObjectMeta
from twinstack.server.strategy.service_defaults import apply_defaults, normalise_create

VALID = {"clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80}]}
EXTERNAL = {"type": "ExternalName", "externalName": "example.com"}
TWICE = [{"name": "a", "port": 1, "nodePort": 30080}, {"name": "b", "port": 2, "nodePort": 30080}]
BALANCER = VALID | {"type": "LoadBalancer"}


def service(spec: dict[str, Any], annotations: dict[str, str] | None = None) -> Service:
    read = msgspec.convert(spec, ServiceSpec)
    apply_defaults(read)
    normalise_create(read)
    return Service(metadata=ObjectMeta(annotations=annotations or {}), spec=read)
