"""What a container may use, and how it is told (v1 ResourceRequirements, ResourceFieldSelector). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

from twinstack.api import core
from twinstack.api.scalars import quantity
from twinstack.node.runtime.base import Limits

SHARES_A_CPU, FEWEST_SHARES, MOST_SHARES = 1024, 2, 262144  # of the cpu controller


def limits(container: core.Container) -> Limits:
    """For the runtime; zero where nothing is limited."""
    limited = container.resources.get("limits") or {}
    requested = container.resources.get("requests") or {}
    cpu = _amount(limited, "cpu")
    wanted = _amount(requested, "cpu") if "cpu" in requested else cpu
    shares = int(wanted * SHARES_A_CPU)
    return Limits(
        memory=int(_amount(limited, "memory").to_integral_value(ROUND_CEILING)),
        cpu=int((cpu * 1000).to_integral_value(ROUND_CEILING)),
        shares=min(max(shares, FEWEST_SHARES), MOST_SHARES) if wanted else 0,
    )


def _amount(table: Mapping[str, Any], name: str) -> Decimal:
    return quantity(str(table.get(name, "0")))


def field(
    containers: Sequence[core.Container], default: str, selector: Mapping[str, Any], allocatable: Mapping[str, str]
) -> str:
    """A resourceFieldRef's value: in units of its divisor, rounded up.

    `default` names the container when the selector does not. A limit that is not set is what the node has.
    Raises ValueError.
    """
    name = selector.get("containerName") or default
    container = next((container for container in containers if container.name == name), None)
    if container is None:
        raise ValueError(f"container {name} not found")
    kind, _, resource = str(selector.get("resource", "")).partition(".")
    if kind not in ("limits", "requests") or not resource:
        raise ValueError(f"unsupported container resource : {selector.get('resource')}")
    table = container.resources.get(kind) or {}
    value = _amount(table, resource)
    if not value and kind == "limits":
        value = _amount(allocatable, resource)
    divisor = _amount(selector, "divisor") or Decimal(1)
    return str(int((value / divisor).to_integral_value(ROUND_CEILING)))
