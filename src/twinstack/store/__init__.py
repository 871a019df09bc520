"""Durable, revisioned keys and values with compare-and-swap and a feed of changes."""

from twinstack.store.base import (
    Conflict,
    Delete,
    Event,
    Opened,
    Operation,
    Put,
    Record,
    Store,
    StoreError,
    TimedOut,
    Unavailable,
    no_gap,
)

__all__ = [
    "Conflict",
    "Delete",
    "Event",
    "Opened",
    "Operation",
    "Put",
    "Record",
    "Store",
    "StoreError",
    "TimedOut",
    "Unavailable",
    "no_gap",
]
