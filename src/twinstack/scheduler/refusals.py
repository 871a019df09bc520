"""That a node cannot take a Pod, and why. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """`resolvable`: it would take the Pod if other Pods were not there."""

    reasons: tuple[str, ...]
    resolvable: bool = True
