"""Amounts of resources as the API writes them (resource.Quantity): `100m`, `1Gi`, `2e3`. Pure."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from functools import lru_cache

_FORM = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:([eE][+-]?\d+)|([KMGTPE]i|[numkMGTPE]))?", re.ASCII)
_FACTORS = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(10) ** (3 * power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1 << (10 * power)) for power, suffix in enumerate("KMGTPE", 1)},
}


@lru_cache(maxsize=256)
def thousandths(text: str) -> int:
    """The amount in thousandths, rounded up: CPU in millicores. Raises ValueError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"not a quantity: {text!r}")
    number, exponent, suffix = match.groups()
    value = Decimal(number + (exponent or "")) * _FACTORS.get(suffix or "", Decimal(1))
    return math.ceil(value * 1000)
