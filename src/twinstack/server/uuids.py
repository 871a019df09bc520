"""Random UUIDs of version 4 (RFC 9562): names of objects and requests, no secrets."""

from __future__ import annotations

import random

_bits = random.Random().getrandbits  # seeded by the system; a tenth of the cost of asking it each time


def random_uuid() -> str:
    bits = f"{_bits(128):032x}"
    return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"
