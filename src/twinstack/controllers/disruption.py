"""How fast Nodes that are not ready may send their Pods away: slower, the more of a zone is in trouble. Pure.

Where many Nodes fail at once it is more often the network that has failed. Rules and numbers are those of
kube-controller-manager's flags.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from typing import NamedTuple

from twinstack.api.core import Node
from twinstack.controllers.taints import readiness

REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"

Zone = tuple[str, str]  # region, zone


class Health(enum.Enum):
    """The state of a zone."""

    NORMAL = enum.auto()
    PARTIAL = enum.auto()  # many of its Nodes are not ready
    FULL = enum.auto()  # none is


class Rates(NamedTuple):
    """`normal` and `reduced` in Nodes a second; `threshold` is the share of Nodes that makes a disruption partial."""

    normal: float = 0.1
    reduced: float = 0.01
    large: int = 50  # a zone of no more Nodes stops evicting in a partial disruption
    threshold: float = 0.55


def zone_of(node: Node) -> Zone:
    labels = node.metadata.labels
    return labels.get(REGION, ""), labels.get(ZONE, "")


def health_of(ready: int, not_ready: int, threshold: float) -> Health:
    if ready == 0 and not_ready > 0:
        return Health.FULL
    if not_ready > 2 and not_ready / (ready + not_ready) >= threshold:
        return Health.PARTIAL
    return Health.NORMAL


def zone_rates(nodes: Iterable[Node], rates: Rates) -> dict[Zone, float]:
    """Nodes a second that may be told to send their Pods away, by zone; empty when no zone has a ready Node.

    Then this controller is the one that is cut off, and nobody should be sent anywhere.
    """
    counts: dict[Zone, list[int]] = {}
    for node in nodes:
        counts.setdefault(zone_of(node), [0, 0])[readiness(node) != "True"] += 1
    health = {zone: health_of(both[0], both[1], rates.threshold) for zone, both in counts.items()}
    if all(state is Health.FULL for state in health.values()):
        return {}
    return {zone: _rate(health[zone], sum(both), rates) for zone, both in counts.items()}


def _rate(health: Health, nodes: int, rates: Rates) -> float:
    if health is Health.PARTIAL:
        return rates.reduced if nodes > rates.large else 0.0
    return rates.normal


class Pace:
    """Lets one through at once, and then one in `1 / rate` seconds."""

    def __init__(self) -> None:
        self._free_at = -math.inf

    def take(self, now: float, rate: float) -> float:
        """Seconds to wait for a turn; 0.0: it is taken. Infinite at rate 0."""
        if rate <= 0:
            return math.inf
        if now < self._free_at:
            return self._free_at - now
        self._free_at = now + 1 / rate
        return 0.0
