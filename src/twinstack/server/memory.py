"""How the process treats its memory: settings of the allocator and of the cyclic garbage collector."""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD of mallopt(3)
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD
_KEPT_FREE = 16 << 20  # bytes
_MAPPED_FROM = 4 << 20  # bytes

# Requests leave hardly any cycles, but thousands of dicts and lists while they are worked on.
_THRESHOLDS = (5_000, 20, 20)


def keep_freed() -> None:
    """Do not give what a long answer has freed back to the kernel: to map it anew doubles what the next one costs."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_FREE)
        mallopt(_MMAP_THRESHOLD, _MAPPED_FROM)


def settle() -> None:
    """What is there now lives until the end: the collector need not look at it again, and may look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
