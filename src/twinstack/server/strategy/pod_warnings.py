"""Warnings about PodSpecs that are accepted: what is most likely a mistake, or will not work as it reads."""

from __future__ import annotations

from typing import Any

from twinstack.api import validation
from twinstack.api.scalars import quantity
from twinstack.server.strategy.pod_defaults import containers

JSON = dict[str, Any]


def pod_warnings(spec: JSON, field: str) -> list[str]:
    texts: list[str] = []
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        texts.append(
            f"{field}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    for i, alias in enumerate(spec.get("hostAliases") or []):
        texts += validation.ip_warnings(f"{field}.hostAliases[{i}].ip", alias.get("ip", ""))
    for kind, i, container in containers(spec):
        texts += _container_warnings(container, f"{field}.{kind}[{i}]")
    texts += _port_warnings(spec, field)
    for i, server in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or []):
        texts += validation.ip_warnings(f"{field}.dnsConfig.nameservers[{i}]", server)
    return texts


def _container_warnings(container: JSON, field: str) -> list[str]:
    texts: list[str] = []
    resources = container.get("resources") or {}
    for part in ("limits", "requests"):
        for name in ("memory", "ephemeral-storage"):
            text = (resources.get(part) or {}).get(name)
            if text and quantity(text) != quantity(text).to_integral_value():
                texts.append(
                    f'{field}.resources.{part}[{name}]: fractional byte value "{text}" is invalid, must be an integer'
                )
    names: set[str] = set()
    for i, variable in enumerate(container.get("env") or []):
        name = variable.get("name", "")
        if name in names:
            texts.append(
                f'{field}.env[{i}]: hides previous definition of "{name}", which may be dropped when using apply'
            )
        names.add(name)
    return texts


def _port_warnings(spec: JSON, field: str) -> list[str]:
    """Ports of all containers share the Pod's addresses: whoever has the same one as another is told."""
    texts: list[str] = []
    seen: dict[tuple[object, object], list[tuple[str, int, str]]] = {}
    for kind, i, container in containers(spec):
        for j, port in enumerate(container.get("ports") or []):
            at = f"{field}.{kind}[{i}].ports[{j}]"
            host_port, host_ip = port.get("hostPort", 0), port.get("hostIP", "")
            others = seen.setdefault((port.get("containerPort"), port.get("protocol")), [])
            for other, other_port, other_ip in others:
                if (host_port, host_ip) == (other_port, other_ip):
                    texts.append(f"{at}: duplicate port definition with {other}")
                elif not host_port or not other_port:
                    texts.append(f"{at}: overlapping port definition with {other}")
                elif host_port == other_port and (not host_ip or not other_ip):
                    texts.append(f"{at}: dangerously ambiguous port definition with {other}")
            others.append((at, host_port, host_ip))
    return texts
